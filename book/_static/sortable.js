/* A table that can be sorted by a column and narrowed by words.  Without this file it is a plain table. */
(() => {
  "use strict";

  /* `+1.20 [0.3, 2.1]` sorts by its first number, `3 to 7` too; words by themselves; what is missing comes last. */
  const keyOf = (text) => {
    const number = text.replace(/,/g, "").match(/[+\-−]?\d+(\.\d+)?/);
    return number ? parseFloat(number[0].replace("−", "-")) : null;
  };

  const sorted = (rows, column, down) => {
    const cells = rows.map((row) => row.cells[column].textContent.trim());
    const numbers = column > 0 && cells.some((text) => keyOf(text) !== null);
    const keys = new Map(rows.map((row, i) => [row, numbers ? keyOf(cells[i]) : cells[i].toLowerCase()]));
    return [...rows].sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      const order = numbers ? x - y : x.localeCompare(y);
      return down ? -order : order;
    });
  };

  const sortable = (table) => {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "kdnb-sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        body.append(...sorted([...body.rows], column, down));
      });
    });
    const field = document.createElement("input");
    field.type = "search";
    field.className = "kdnb-filter";
    field.placeholder = "Only rows with these words";
    field.setAttribute("aria-label", "Only rows with these words");
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of body.rows) {
        row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      }
    });
    (table.closest(".pst-scrollable-table-container") || table).before(field);
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("table.kdnb-sortable").forEach(sortable);
  });
})();
