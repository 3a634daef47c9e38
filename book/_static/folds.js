/* A wide table in a fold is as wide as nothing until the fold is opened: then the page is measured once more, and the
   table can be scrolled by the keyboard like those outside. */
document.addEventListener("toggle", () => window.dispatchEvent(new Event("resize")), true);
/* A link to what is in a fold opens it: the fold of the demo, or any other. */
const openTo = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const section = target && target.querySelector(":scope > details.kdnb-demo");
  for (let fold = section || (target && target.closest("details")); fold; fold = fold.parentElement.closest("details")) {
    fold.open = true;
  }
  if (target && !section && target.closest("details")) target.scrollIntoView();
};
document.addEventListener("DOMContentLoaded", openTo);
window.addEventListener("hashchange", openTo);
/* What opens the pages below an entry of the sidebar is called by that entry; a formula that scrolls can be reached. */
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll(".bd-sidebar-primary li > details > summary")) {
    const entry = summary.closest("li").querySelector("a");
    if (entry && !summary.textContent.trim()) summary.setAttribute("aria-label", `Pages of ${entry.textContent.trim()}`);
  }
  for (const formula of document.querySelectorAll("div.kdnb-formula")) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
  }
});
