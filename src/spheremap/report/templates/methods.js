"use strict";
// The reader's choice of methods, and of the one that gains are measured against, for tables, charts and explorer:
// An element with `data-method` is shown while its method is ticked; so is the group `method-NAME` of a chart. The table of
// gains, and what stands below scores in tables by group, are differences of the scores on the page. `gain-intervals` has,
// by baseline and method, the interval of each column of the table of gains, or null.
(() => {
  const panel = document.getElementById("methods");
  const ticks = [...panel.querySelectorAll("input")];
  const baseline = panel.querySelector("select");
  const intervals = JSON.parse(document.getElementById("gain-intervals").textContent);
  const absent = Object.keys(intervals).length ? "no interval" : ""; // if none at all was computed, the page says so
  const tables = [...document.querySelectorAll("table")];
  const scores = document.querySelector("#scores table");
  const gains = document.querySelector("#gains table");
  const charts = [...document.querySelectorAll("[data-by-method] source, [data-by-method] img")].map((picture) => {
    const attribute = picture.localName === "img" ? "src" : "srcset";
    const [head, svg] = picture.getAttribute(attribute).split(",");
    return { picture, attribute, head, svg: atob(svg) };
  });
  const storage = openStorage();
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets = [sheet];

  const signed = (value) => (value < 0 ? "" : "+") + value.toFixed(1);
  const minus = (text) => text.replaceAll("-", "−");
  const linesOf = (table) => [...table.tBodies[0].rows].filter((line) => line.dataset.method);
  const valuesOf = (line) => [...line.querySelectorAll("data")].map((cell) => Number(cell.value));
  const isBaseline = (line) => line.dataset.method === baseline.value;

  function hide() {
    const hidden = ticks.filter((tick) => !tick.checked);
    const rule = (selectors) => (selectors.length ? `${selectors.join()}{display:none!important}` : "");
    sheet.replaceSync(rule(hidden.map((tick) => `[data-method="${tick.value}"]`)));
    const style = `<style>${rule(hidden.map((tick) => `[id="method-${tick.value}"]`))}</style></svg>`;
    for (const { picture, attribute, head, svg } of charts) {
      picture.setAttribute(attribute, `${head},${btoa(svg.replace("</svg>", style))}`);
    }
    panel.querySelector("summary span").textContent = `${ticks.length - hidden.length} of ${ticks.length}`;
  }

  function markBest(table) {
    const lines = linesOf(table).filter((line) => ticks.find((tick) => tick.value === line.dataset.method).checked);
    const values = lines.map(valuesOf);
    const best = (values[0] ?? []).map((_, i) => Math.max(...values.map((own) => own[i]).filter((value) => !isNaN(value))));
    lines.forEach((line, k) => {
      [...line.querySelectorAll("td.score")].forEach((cell, i) => cell.classList.toggle("best", values[k][i] === best[i]));
    });
  }

  function fillSmall(table) {
    const base = valuesOf(linesOf(table).find(isBaseline));
    for (const line of linesOf(table)) {
      const values = valuesOf(line);
      [...line.querySelectorAll("small")].forEach((cell, i) => {
        cell.textContent = isNaN(values[i] - base[i]) || isBaseline(line) ? "" : minus(signed(values[i] - base[i]));
      });
    }
  }

  function fillGains() {
    const lines = linesOf(scores);
    const base = valuesOf(lines.find(isBaseline));
    linesOf(gains).forEach((line, k) => {
      const own = intervals[baseline.value]?.[line.dataset.method] ?? [];
      const values = valuesOf(lines[k]);
      [...line.querySelectorAll("td")].forEach((cell, i) => {
        const [data, small] = cell.children;
        data.value = values[i] - base[i];
        data.textContent = isBaseline(line) ? "–" : minus(signed(values[i] - base[i]));
        small.textContent = own[i] ? minus(own[i].map(signed).join(" to ")) : isBaseline(line) ? "" : absent;
      });
    });
    for (const name of document.querySelectorAll("[data-role=baseline]")) name.textContent = baseline.value;
  }

  function show() {
    hide();
    tables.forEach(markBest);
    tables.filter((table) => table !== gains && table.querySelector("[data-role=baseline]")).forEach(fillSmall);
    fillGains();
  }

  function remember() { // for when the page is loaded again
    const shown = ticks.filter((tick) => tick.checked).map((tick) => tick.value);
    storage?.setItem(location.pathname, JSON.stringify({ shown, over: baseline.value }));
  }

  function recall() {
    const kept = JSON.parse(storage?.getItem(location.pathname) ?? "null");
    if (!kept) return;
    for (const tick of ticks) tick.checked = kept.shown.includes(tick.value);
    if ([...baseline.options].some((option) => option.value === kept.over)) baseline.value = kept.over;
  }

  function openStorage() {
    try {
      return sessionStorage;
    } catch {
      return null; // a page in a sandboxed frame has none
    }
  }

  panel.addEventListener("change", () => { show(); remember(); });
  for (const button of panel.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      for (const tick of ticks) tick.checked = button.value === "all";
      panel.dispatchEvent(new Event("change"));
    });
  }
  panel.hidden = false;
  document.getElementById("methods-absent").hidden = true;
  recall();
  show();
})();
