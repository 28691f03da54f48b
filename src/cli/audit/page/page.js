"use strict";
(() => {
  const collator = new Intl.Collator("en", { numeric: true });
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  // Numbers come before cells without one, which compare as text.
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -1;
    if (typeof b === "number") return 1;
    return collator.compare(a, b);
  };

  const sort = (table, heading) => {
    const column = heading.cellIndex;
    const descending = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => [key(row, column), row]);
    rows.sort(([a], [b]) => (descending ? compare(b, a) : compare(a, b)));
    body.append(...rows.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    for (const heading of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, heading));
      heading.append(button);
    }
  }

  const form = document.querySelector("form.search");
  if (form) {
    const input = form.querySelector("input");
    const output = form.querySelector("output");
    const rows = Array.from(document.querySelector("#coverage").tBodies[0].rows, (row) => [
      Array.from(row.cells, (cell) => cell.textContent.toLowerCase()).join("\n"),
      row,
    ]);
    const search = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [text, row] of rows) {
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      output.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
    };
    form.addEventListener("submit", (event) => event.preventDefault());
    input.addEventListener("input", search);
    form.hidden = false;
    // A browser may have kept what was typed before a reload.
    search();
  }

  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  for (const command of document.querySelectorAll(".command")) {
    const code = command.querySelector("code");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${code.textContent}`);
    const say = (text) => {
      button.textContent = text;
      button.setAttribute("aria-label", `${text} ${code.textContent}`);
    };
    button.addEventListener("click", () => {
      // Without the right to write to the clipboard, the command is selected.
      const refused = () => {
        select(code);
        say("Selected");
      };
      if (!navigator.clipboard) return refused();
      return navigator.clipboard.writeText(code.textContent).then(() => say("Copied"), refused);
    });
    command.append(button);
  }
})();
