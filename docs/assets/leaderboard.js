// Makes the tables of the page "Leaderboard" sortable, and lets the reader choose lines and averages.
// Without it they are plain tables. No dependencies.
(() => {
  const heading = document.getElementById("tables");
  const tables = [...document.querySelectorAll("article table, main table")].filter(
    (table) => heading && heading.compareDocumentPosition(table) & Node.DOCUMENT_POSITION_FOLLOWING,
  );
  if (!tables.length) return;
  const names = [...tables[0].tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  const column = (name) => names.indexOf(name);
  const text = (row, at) => row.cells[at].textContent.trim();
  const rows = () => tables.flatMap((table) => [...table.tBodies[0].rows]);

  // what a line is chosen by: a column, and the value of a cell
  const choices = {
    supervision: (row) => text(row, column("supervision")),
    lines: (row) => text(row, column("from")).split(":")[0],
  };
  const averages = names.slice(1, column("supervision"));
  const toolbar = document.createElement("form");
  toolbar.className = "leaderboard-choice";
  toolbar.setAttribute("aria-label", "What the tables show");
  const ticked = (name) => [...toolbar.elements[name].elements ?? []].filter((box) => box.checked).map((box) => box.value);

  function fieldset(name, values, shown) {
    const set = document.createElement("fieldset");
    set.name = name;
    set.append(Object.assign(document.createElement("legend"), { textContent: name }));
    for (const value of values) {
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", value, checked: shown(value) });
      label.append(box, ` ${value}`);
      set.append(label);
    }
    toolbar.append(set);
  }

  for (const [name, of] of Object.entries(choices)) fieldset(name, [...new Set(rows().map(of))].sort(), () => true);
  fieldset("averages", averages, (name) => !name.startsWith("geometry"));

  function show() {
    const kept = Object.fromEntries(Object.keys(choices).map((name) => [name, new Set(ticked(name))]));
    const columns = new Set(ticked("averages"));
    for (const table of tables) {
      for (const row of table.rows)
        averages.forEach((name) => (row.cells[column(name)].hidden = !columns.has(name)));
      for (const row of table.tBodies[0].rows)
        row.hidden = !Object.entries(choices).every(([name, of]) => kept[name].has(of(row)));
    }
  }

  const number = (cell) => {
    const value = parseFloat(cell.textContent);
    return Number.isNaN(value) ? -Infinity : value; // gaps come last
  };

  function sort(table, at, header) {
    const numeric = averages.includes(names[at]);
    const rising = header.getAttribute("aria-sort") === "descending" || (!numeric && !header.hasAttribute("aria-sort"));
    const compare = (a, b) =>
      numeric ? number(a.cells[at]) - number(b.cells[at]) : text(a, at).localeCompare(text(b, at));
    const sorted = [...table.tBodies[0].rows].sort((a, b) => (rising ? compare(a, b) : compare(b, a)));
    table.tBodies[0].append(...sorted);
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", rising ? "ascending" : "descending");
  }

  for (const table of tables) {
    table.dataset.leaderboard = ""; // no class: the site styles tables without one
    [...table.tHead.rows[0].cells].forEach((header, at) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: names[at] });
      button.addEventListener("click", () => sort(table, at, header));
      header.replaceChildren(button);
    });
  }

  const style = document.createElement("style");
  style.textContent = `
    [data-leaderboard] :is(td, th) { padding: .4rem .5rem !important; min-width: 2.5rem !important; }
    [data-leaderboard] td:last-child { min-width: 11rem !important; }
    [data-leaderboard] :is(td, th):first-child { position: sticky; left: 0; background: var(--md-default-bg-color, Canvas); }
    .leaderboard-choice { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; margin: 1rem 0; font-size: .75rem; }
    .leaderboard-choice fieldset { border: 1px solid currentColor; border-radius: .2rem; padding: .2rem .6rem .4rem; }
    .leaderboard-choice label { display: inline-block; margin-right: .8rem; white-space: nowrap; }
    th > button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; text-align: left; }
    th > button::after { content: " ↕"; opacity: .5; }
    th[aria-sort="ascending"] > button::after { content: " ↑"; opacity: 1; }
    th[aria-sort="descending"] > button::after { content: " ↓"; opacity: 1; }
    button:focus-visible, input:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }`;
  document.head.append(style);
  heading.after(toolbar);
  toolbar.addEventListener("change", show);
  show();
})();
