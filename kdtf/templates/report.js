"use strict";
// Tables: a click on a head sorts by it, largest first for numbers; what was not measured stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const rows = [...table.tBodies[0].rows];
      const key = row => row.cells[column].dataset.value;
      const numeric = rows.every(row => key(row) === undefined || !isNaN(key(row)));
      const was = head.getAttribute("aria-sort");
      const down = was ? was === "ascending" : numeric && column > 0;
      const sign = down ? -1 : 1;
      rows.sort((one, two) => {
        const [a, b] = [key(one), key(two)];
        if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
        return sign * (numeric ? a - b : a.localeCompare(b, "en", {numeric: true}));
      });
      heads.forEach(each => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      table.tBodies[0].append(...rows);
    });
  });
}
// Drawings: a tap on a point tells what hovering over it does.
for (const figure of document.querySelectorAll("figure")) {
  const told = figure.querySelector("output");
  for (const point of figure.querySelectorAll(".hint")) {
    point.addEventListener("click", () => { told.textContent = point.querySelector("title").textContent; });
  }
}
