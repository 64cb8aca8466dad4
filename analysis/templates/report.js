"use strict";
// Sort a table by the column whose head is pressed: numbers as numbers, what is absent last.
function compareValues(first, second) {
  const difference = Number(first) - Number(second);
  return Number.isNaN(difference) ? first.localeCompare(second, "en", { numeric: true }) : difference;
}

function sortBy(head) {
  const index = head.cellIndex;
  const body = head.closest("table").tBodies[0];
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const rows = [...body.rows].sort((first, second) => {
    const [a, b] = [first, second].map((row) => row.cells[index].dataset.value);
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * compareValues(a, b);
  });
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  body.append(...rows);
}

for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => sortBy(button.parentElement));
}

// On paper nothing is folded.
const folded = [];
addEventListener("beforeprint", () => {
  folded.push(...document.querySelectorAll("details:not([open])"));
  for (const details of folded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of folded.splice(0)) details.open = false;
});
