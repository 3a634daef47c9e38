/* A table that can be sorted by a column and narrowed by words.  Without this file it is a plain table. */
(() => {
  "use strict";

  const textOf = (row, column) => row.cells[column].textContent.trim();

  /* `+1.20 [0.3, 2.1]` sorts by the number that it begins with, `3 to 7` too; what has none is missing. */
  const numberOf = (text) => {
    const number = text.replace(/,/g, "").match(/^[+\-−]?\d+(\.\d+)?/);
    return number ? parseFloat(number[0].replace("−", "-")) : null;
  };

  /* A column is of numbers where what stands in it begins with one, `–` and `not yet` aside; others are of words. */
  const isOfNumbers = (rows, column) => {
    const told = rows.map((row) => textOf(row, column)).filter((text) => text && text !== "–" && text !== "not yet");
    return told.length > 0 && told.every((text) => numberOf(text) !== null);
  };

  /* What is missing comes last in either direction. */
  const sorted = (rows, column, down) => {
    const numbers = isOfNumbers(rows, column);
    const keyOf = (text) => (numbers ? numberOf(text) : text.toLowerCase() || null);
    const keys = new Map(rows.map((row) => [row, keyOf(textOf(row, column))]));
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
        /* Numbers begin with the largest, words with A; a second click turns it round. */
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : isOfNumbers([...body.rows], column);
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
    const left = document.createElement("output");
    left.className = "kdnb-left";
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of body.rows) {
        row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      }
      const shown = [...body.rows].filter((row) => !row.hidden).length;
      left.textContent = words.length ? `${shown} of ${body.rows.length} rows` : "";
    });
    (table.closest(".pst-scrollable-table-container") || table).before(field, left);
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("table.kdnb-sortable").forEach(sortable);
  });
})();
