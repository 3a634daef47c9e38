/* A wide table in a fold is as wide as nothing until the fold is opened: then the page is measured once more, and the
   table can be scrolled by the keyboard like those outside. */
document.addEventListener("toggle", () => window.dispatchEvent(new Event("resize")), true);
