// Tables that can be sorted by a column, and the list of tests, which can be filtered.
{
  for (const part of document.querySelectorAll("[data-share]")) {
    part.style.flexGrow = part.getAttribute("data-share");
  }

  const key = (row, column) => {
    const cell = row.cells[column], number = cell.getAttribute("data-sort");
    return number === null ? cell.textContent : Number(number);
  };

  function sort(heading, column) {
    const table = heading.closest("table"), body = table.tBodies[0];
    const numbers = [...body.rows].some((row) => typeof key(row, column) === "number");
    const before = heading.getAttribute("aria-sort");
    const ascending = before ? before === "descending" : !numbers;
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const sign = ascending ? 1 : -1;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a, column), key(b, column)];
      return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
    });
    body.append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent || "verdict";
      button.addEventListener("click", () => sort(heading, column));
      heading.replaceChildren(button);
    });
  }

  const input = document.getElementById("filter"), shown = document.getElementById("shown");
  const rows = [...document.querySelectorAll("#tests tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  function filter() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let number = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every((word) => texts[index].includes(word));
      if (!row.hidden) number++;
    });
    shown.textContent = number === rows.length ? `${number} tests` : `${number} of ${rows.length} tests`;
  }
  input.hidden = false;
  input.addEventListener("input", filter);
  filter();
}
