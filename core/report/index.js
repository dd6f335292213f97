"use strict";
(() => {
  const table = document.getElementById("index");
  const body = table.tBodies[0];
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    if (!("value" in cell.dataset)) return cell.textContent;
    // A row without a value comes last in both directions.
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const collator = new Intl.Collator(undefined, { numeric: true });
  const compare = (one, other) => (typeof one === "number" ? one - other : collator.compare(one, other));
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const head = button.parentElement, column = Number(button.dataset.column);
    const isRising = head.getAttribute("aria-sort") === "descending" || !head.hasAttribute("aria-sort") && !("value" in (body.rows[0]?.cells[column].dataset ?? {}));
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", isRising ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => ({ row, key: keyOf(row, column) }));
    rows.sort((one, other) => {
      if (one.key === null || other.key === null) return (one.key === null) - (other.key === null);
      return isRising ? compare(one.key, other.key) : compare(other.key, one.key);
    });
    body.append(...rows.map(({ row }) => row));
  });
})();
