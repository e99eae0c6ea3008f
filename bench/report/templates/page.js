/* What can be switched, sorted and opened on the page. The state is the part of the URL after "#", so that a link keeps it
 * and the browser's back button undoes a step: every control only changes the state, and `show` brings the page in line.
 *
 *   hide=<algorithm>             it is left out of all figures and tables
 *   sort=<table>~<column>~up     or ~down; a table is named by data-table and its place among those of that name
 *   without=<table>~<column>     a column that is not shown, in all tables of that name
 *   open=<id>                    a <details> with an id that is open
 */
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  /* What an element says, without the sample of a line beside a label. */
  const text = (element) => {
    const copy = element.cloneNode(true);
    for (const drawing of all("svg", copy)) drawing.remove();
    return copy.textContent.trim();
  };

  /* state */

  const read = () => {
    const entries = new URLSearchParams(location.hash.slice(1));
    const state = { hide: new Set(entries.getAll("hide")), sort: new Map(), without: new Set(), open: new Set() };
    for (const entry of entries.getAll("sort")) {
      const [, table, column, way] = entry.match(/^([^~]*)~([^]*)~(up|down)$/) ?? [];
      if (way) state.sort.set(table, { column, way });
    }
    for (const entry of entries.getAll("without")) state.without.add(entry);
    for (const entry of entries.getAll("open")) state.open.add(entry);
    return state;
  };

  const written = (state) => {
    const entries = new URLSearchParams();
    for (const label of state.hide) entries.append("hide", label);
    for (const [table, { column, way }] of state.sort) entries.append("sort", `${table}~${column}~${way}`);
    for (const entry of state.without) entries.append("without", entry);
    for (const id of state.open) entries.append("open", id);
    return String(entries);
  };

  let state = read();

  const change = (edit) => {
    edit(state);
    history.pushState(null, "", `#${written(state)}`);
    show();
  };

  const toggled = (set, key, wanted = !set.has(key)) => (wanted ? set.add(key) : set.delete(key));

  const button = (content, action) => {
    const made = document.createElement("button");
    made.type = "button";
    made.append(...content);
    made.addEventListener("click", action);
    return made;
  };

  /* algorithms */

  const legends = all(".legend [data-algorithm]").map((item) => {
    const label = item.dataset.algorithm;
    const made = button(item.childNodes, () => change(() => toggled(state.hide, label)));
    item.append(made);
    return { label, made };
  });
  const owned = all("[data-algorithm]").filter((one) => !one.closest(".legend") && !one.matches("details"));

  const showAlgorithms = () => {
    for (const { label, made } of legends) made.setAttribute("aria-pressed", String(!state.hide.has(label)));
    for (const one of owned) one.toggleAttribute("hidden", state.hide.has(one.dataset.algorithm));
  };

  /* tables */

  const UNITS = { "%": 1, s: 1, min: 60, h: 3600, d: 86400, k: 1e3, M: 1e6 };
  const NUMBER = /^[[(<>≥≤~±]*\s*([+-]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(s|min|h|d|k|M|%)?(?![^\s,;\])])/;

  /* The number that a cell begins with, in one unit, or NaN. */
  const numberOf = (shown) => {
    if (/^[+-]?inf/i.test(shown)) return shown.startsWith("-") ? -Infinity : Infinity;
    const found = NUMBER.exec(shown.replace(/^[−–](?=\d)/, "-"));
    return found ? Number(found[1].replaceAll(",", "")) * (UNITS[found[2]] ?? 1) : NaN;
  };

  const collator = new Intl.Collator("en", { numeric: true });
  const valueOf = (cell) => cell?.dataset.value ?? (cell ? text(cell) : "");

  /* How two rows compare. In a column of numbers what is none stands last, whichever way. */
  const order = (rows, column, way) => {
    const values = new Map(rows.map((row) => [row, valueOf(row.cells[column])]));
    const numbers = new Map(rows.map((row) => [row, numberOf(values.get(row))]));
    const filled = rows.filter((row) => /[^-–—]/.test(values.get(row)));
    const numeric = 2 * filled.filter((row) => !isNaN(numbers.get(row))).length > filled.length;
    const sign = way === "up" ? 1 : -1;
    return (one, other) => {
      if (!numeric) return sign * collator.compare(values.get(one), values.get(other));
      const [a, b] = [numbers.get(one), numbers.get(other)];
      if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b);
      return a === b ? 0 : a < b ? -sign : sign;
    };
  };

  const counts = new Map();
  const tables = all("table.sortable").filter((table) => table.tHead).map((table) => {
    const name = table.dataset.table ?? text(table.closest("section")?.querySelector("h2") ?? table.tHead);
    const place = counts.get(name) ?? 0;
    counts.set(name, place + 1);
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    const bodies = [...table.tBodies].map((body) => [...body.rows]);
    return { table, name, id: `${name}.${place}`, heads, bodies, columns: heads.map(text) };
  });

  const sortButtons = ({ id, heads, columns }) => {
    heads.forEach((head, index) => {
      const column = columns[index];
      if (!column) return;
      const next = () => {
        const now = state.sort.get(id);
        state.sort.delete(id);
        if (now?.column !== column) state.sort.set(id, { column, way: "up" });
        else if (now.way === "up") state.sort.set(id, { column, way: "down" });
      };
      head.append(button(head.childNodes, () => change(next)));
    });
  };

  const columnChoice = ({ table, name, heads, columns }) => {
    if (heads.length < 3 || table.tHead.rows.length > 1 || all("[colspan]", table).length) return;
    const choice = document.createElement("details");
    choice.className = "columns";
    const title = document.createElement("summary");
    title.textContent = "columns";
    choice.append(title);
    columns.forEach((column, index) => {
      if (index === 0 || !column) return;
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.dataset.column = `${name}~${column}`;
      box.addEventListener("change", () => change(() => toggled(state.without, box.dataset.column, !box.checked)));
      label.append(box, ` ${column}`);
      choice.append(label);
    });
    (table.closest(".scroll") ?? table).before(choice);
  };

  const SORTED = { up: "ascending", down: "descending" };

  const showTable = ({ table, name, id, heads, bodies, columns }) => {
    const { column, way } = state.sort.get(id) ?? {};
    heads.forEach((head, k) => {
      if (columns[k]) head.setAttribute("aria-sort", columns[k] === column ? SORTED[way] : "none");
    });
    const index = columns.indexOf(column);
    bodies.forEach((rows, k) => {
      const body = table.tBodies[k];
      const wanted = index < 0 ? rows : [...rows].sort(order(rows, index, way));
      if (wanted.some((row, place) => row !== body.rows[place])) body.append(...wanted);
    });
    columns.forEach((each, k) => {
      const hidden = k > 0 && state.without.has(`${name}~${each}`);
      for (const row of table.rows) row.cells[k]?.toggleAttribute("hidden", hidden);
    });
  };

  /* trials */

  const drilldown = all("details[id]");

  const showTrials = () => {
    for (const one of drilldown) one.open = state.open.has(one.id);
  };

  const goTo = (element) => {
    for (let outer = element; outer; outer = outer.parentElement?.closest("details")) outer.open = true;
    element.scrollIntoView({ block: "start" });
  };

  for (const one of drilldown) {
    one.addEventListener("toggle", () => {
      if (one.open !== state.open.has(one.id)) change(() => toggled(state.open, one.id, one.open));
    });
  }

  /* The first entry of what was clicked: of its seed, if it has one, of its task and algorithm. */
  const entryOf = (series) => {
    const wanted = {
      algorithm: series.dataset.algorithm,
      task: series.closest("[data-task]")?.dataset.task,
      seed: series.dataset.seed,
    };
    return drilldown.find((one) =>
      Object.entries(wanted).every(([key, value]) => value === undefined || one.dataset[key] === value),
    );
  };

  /* A line is thin: what can be clicked is a wider one that nobody sees. */
  for (const series of all("figure svg [data-algorithm]")) {
    if (!entryOf(series)) continue;
    series.classList.add("opens");
    for (const line of all("path", series).filter((path) => path.style.fill === "none" && !path.closest("defs"))) {
      const wide = line.cloneNode();
      wide.setAttribute("style", "fill: none; stroke: transparent; stroke-width: 10");
      line.after(wide);
    }
  }

  document.addEventListener("click", (event) => {
    const series = event.target.closest("figure svg [data-algorithm]");
    const entry = series && entryOf(series);
    if (!entry) return;
    change(() => state.open.add(entry.id));
    goTo(entry);
  });

  /* the page */

  tables.forEach((one) => {
    sortButtons(one);
    columnChoice(one);
  });
  const boxes = all("input[data-column]");

  const show = () => {
    showAlgorithms();
    tables.forEach(showTable);
    for (const box of boxes) box.checked = !state.without.has(box.dataset.column);
    showTrials();
  };

  /* A link to a heading or an entry leaves the state as it is. */
  const restore = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target) state = read();
    else if (drilldown.includes(target)) state.open.add(target.id);
    show();
    return target;
  };

  window.addEventListener("popstate", restore);
  const target = restore() ?? document.getElementById([...state.open][0] ?? "");
  const again = performance.getEntriesByType("navigation")[0]?.type === "reload";
  if (target && !again) goTo(target);

  const seconds = Number(document.documentElement.dataset.refresh);
  if (seconds) setTimeout(() => location.reload(), 1000 * seconds);
})();
