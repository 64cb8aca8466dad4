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

// Show the rows that hold every word; without this script the field is not there.
for (const field of document.querySelectorAll(".filter")) {
  field.parentElement.hidden = false;
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const row of field.closest("article").querySelectorAll("tbody tr")) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}

// Tell at once what a mark of a figure is, also where a finger points.
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
document.body.append(tip);
document.addEventListener("pointerover", (event) => {
  const mark = event.target.closest(".mark");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.querySelector("title").textContent;
  const box = mark.getBoundingClientRect();
  tip.style.top = `${box.bottom + scrollY + 6}px`;
  tip.style.left = `${Math.max(4, Math.min(box.left + scrollX, document.documentElement.clientWidth - tip.offsetWidth - 8))}px`;
});

// On paper nothing is folded.
const folded = [];
addEventListener("beforeprint", () => {
  folded.push(...document.querySelectorAll("details:not([open])"));
  for (const details of folded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of folded.splice(0)) details.open = false;
});
