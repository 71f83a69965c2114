"use strict";
(() => {
  const ROW = 28, SPARE = 4, PAGE = 6;
  const byId = (id) => document.getElementById(id);
  const read = (id) => { const at = byId(id); return at ? JSON.parse(at.textContent) : null; };
  // every text enters the page here, as text
  const make = (name, text, attributes = {}) => {
    const node = document.createElement(name);
    if (text !== undefined && text !== null) node.textContent = text;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  const picture = (address, alt, kind) => {
    const node = make("img", null, { alt, class: kind });
    if (typeof address === "string" && address.startsWith("data:image/")) node.src = address;
    return node;
  };

  function windowed(host, data) {
    const columns = data.columns.map((c) => {
      if (c.codes === null) c.codes = c.texts.map((_, i) => i);
      const cell = c.codes ? (i) => c.texts[c.codes[i]] : (i) => c.values[i];
      const rank = c.codes && c.texts.map((t, i) => [t.toLowerCase(), i]).sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0))
        .reduce((of, [, i], place) => { of[i] = place; return of; }, []);
      return { name: c.name, cell, number: !c.codes, key: rank ? (i) => rank[c.codes[i]] : (i) => c.values[i], source: c };
    });
    const all = Array.from({ length: data.rows }, (_, i) => i);
    let view = all, sorted = null, direction = 1, waiting = false;

    const form = make("form"), field = make("input", null, { type: "search", autocomplete: "off" });
    const label = make("label", "Filter"), count = make("output");
    field.id = host.id + "-filter"; label.htmlFor = field.id; count.htmlFor = field.id;
    form.append(label, field, count);
    const frame = make("div", null, { class: "scroll window", tabindex: "0", role: "region", "aria-label": data.title });
    const table = make("table", null, { "aria-colcount": columns.length }), head = make("thead"), body = make("tbody");
    const line = make("tr", null, { "aria-rowindex": 1 });
    columns.forEach((column, at) => {
      const cell = make("th", null, { scope: "col" }), button = make("button", column.name, { type: "button" });
      if (column.number) cell.className = "number";
      button.addEventListener("click", () => sort(at));
      cell.append(button); line.append(cell);
    });
    head.append(line); table.append(make("caption", data.title + (data.note ? " · " + data.note : "")), head, body);
    frame.append(table); host.replaceChildren(form, frame);

    function draw() {
      waiting = false;
      const first = Math.max(0, Math.floor(frame.scrollTop / ROW) - SPARE);
      const last = Math.min(view.length, first + Math.ceil(frame.clientHeight / ROW) + 2 * SPARE);
      const lines = document.createDocumentFragment();
      const space = (rows) => {
        if (!rows) return;
        const empty = make("tr", null, { "aria-hidden": "true" }), cell = make("td", null, { colspan: columns.length });
        cell.style.height = rows * ROW + "px"; empty.append(cell); lines.append(empty);
      };
      space(first);
      for (let i = first; i < last; i++) {
        const row = make("tr", null, { "aria-rowindex": i + 2 });
        for (const column of columns) {
          const value = column.cell(view[i]), cell = make("td", value ?? "–");
          if (column.number) cell.className = "number"; else if (value.length > 24) cell.title = value;
          row.append(cell);
        }
        lines.append(row);
      }
      space(view.length - last);
      body.replaceChildren(lines);
      table.setAttribute("aria-rowcount", view.length + 1);
      count.textContent = view.length + " of " + data.rows + " rows";
    }
    function order() {
      if (sorted === null) return;
      const key = columns[sorted].key, missing = (v) => v === null || v === undefined;
      view = view.slice().sort((a, b) => {
        const x = key(a), y = key(b);
        if (missing(x) || missing(y)) return missing(x) - missing(y) || a - b;
        return direction * (x - y) || a - b;
      });
      [...line.cells].forEach((cell, at) => at === sorted
        ? cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending") : cell.removeAttribute("aria-sort"));
    }
    function sort(at) { direction = sorted === at ? -direction : 1; sorted = at; order(); frame.scrollTop = 0; draw(); }
    function filter() {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      // a text that occurs a thousand times is searched once
      const hits = words.map((word) => columns.map((c) => c.number ? null
        : c.source.texts.map((t) => t.toLowerCase().includes(word))));
      view = words.length ? all.filter((i) => words.every((word, w) => columns.some((c, at) => c.number
        ? String(c.cell(i) ?? "").includes(word) : hits[w][at][c.source.codes[i]]))) : all;
      order(); frame.scrollTop = 0; draw();
    }
    form.addEventListener("submit", (event) => event.preventDefault());
    field.addEventListener("input", filter);
    frame.addEventListener("scroll", () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } });
    draw();
  }

  function gallery(host, data) {
    let kind = "", page = 0;
    const form = make("form"), choice = make("select"), label = make("label", "Show"), list = make("ul", null, { class: "gallery" });
    const back = make("button", "Previous", { type: "button", class: "action" });
    const next = make("button", "Next", { type: "button", class: "action" }), place = make("output");
    choice.id = host.id + "-kind"; label.htmlFor = choice.id;
    choice.append(make("option", "all", { value: "" }), ...data.kinds.map((k) => make("option", k, { value: k })));
    form.append(label, choice, back, next, place); host.replaceChildren(form, list);
    const said = (name, value, truth) => make("div", name + ": " + value, truth ? { class: value === truth ? "right" : "wrong" } : {});
    function draw() {
      const shown = data.items.filter((one) => !kind || one.kind === kind), pages = Math.max(1, Math.ceil(shown.length / PAGE));
      page = Math.min(page, pages - 1);
      list.replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map((one) => {
        const item = make("li");
        item.append(picture(data.pictures[one.picture], "image " + one.id, "main"), make("div", one.id));
        if (one.truth) item.append(make("div", "truth: " + one.truth));
        for (const [name, value] of one.said) item.append(said(name, value, one.truth));
        if (one.near.length) {
          const near = make("div", "nearest: ");
          for (const [image, alt] of one.near) near.append(picture(data.pictures[image], alt, "near"));
          item.append(near);
        }
        return item;
      }));
      place.textContent = shown.length + " images, page " + (page + 1) + " of " + pages;
      back.disabled = page === 0; next.disabled = page === pages - 1;
    }
    form.addEventListener("submit", (event) => event.preventDefault());
    choice.addEventListener("change", () => { kind = choice.value; page = 0; draw(); });
    back.addEventListener("click", () => { page--; draw(); });
    next.addEventListener("click", () => { page++; draw(); });
    draw();
  }

  async function copy(button) {
    const source = byId(button.dataset.from);
    try { await navigator.clipboard.writeText(source.textContent); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(source); button.textContent = "Selected: press Ctrl+C"; }
  }

  for (const button of document.querySelectorAll("button[data-from]")) button.addEventListener("click", () => copy(button));
  for (const host of document.querySelectorAll("[data-table]")) {
    const show = () => windowed(host, read(host.dataset.table)), folded = host.closest("details");
    if (!folded) show();
    else folded.addEventListener("toggle", () => { if (folded.open && !host.firstChild) show(); });
  }
  const pictures = byId("gallery");
  if (pictures) gallery(pictures, read("gallery-data"));
})();
