// The table of events: only the rows in sight are there. And all that is known of the selected one.
{
  const rows = document.getElementById("rows"), body = rows.querySelector("tbody");
  const detail = document.getElementById("detail"), told = document.getElementById("shown");
  const control = Object.fromEntries(
    ["search", "category", "severity", "phase", "chain-only"].map((id) => [id, document.getElementById(id)]),
  );
  const ROW = 28, SPARE = 12;
  let visible = [];
  const haystack = new Array(total);

  function words(i) {
    return (haystack[i] ??= [
      numberOf(i), typeOf(i), texts[columns.fields[i]], laneOf(i).command, `pid=${columns.pid[i]}`,
      texts[columns.chain[i]], DATA.categories[columns.category[i]],
    ].join(" ").toLowerCase());
  }

  function filter() {
    const wanted = control.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const category = control.category.value, phase = control.phase.value;
    const severity = Number(control.severity.value);
    const chain = control["chain-only"].checked && selected >= 0 ? new Set(chainOf(selected).events) : null;
    visible = [];
    for (let i = 0; i < total; i++) {
      if (
        columns.severity[i] >= severity && (!category || columns.category[i] === Number(category))
        && (!phase || phaseOf(i) === phase) && (!chain || chain.has(i))
        && wanted.every((word) => words(i).includes(word))
      ) visible.push(i);
    }
    told.textContent = visible.length === total ? `${total} events` : `${visible.length} of ${total} events`;
    rows.querySelector("table").setAttribute("aria-rowcount", visible.length + 1);
    fill();
  }

  function fill() {
    const from = Math.max(0, Math.floor(rows.scrollTop / ROW) - SPARE);
    const to = Math.min(visible.length, from + Math.ceil(rows.clientHeight / ROW) + 2 * SPARE);
    const made = [space(from)];
    for (let at = from; at < to; at++) made.push(row(visible[at], at));
    made.push(space(visible.length - to));
    if (!visible.length) made.push(make("tr", {}, make("td", { colSpan: 6 }, "no event matches")));
    body.replaceChildren(...made);
  }

  function space(number) {
    const cell = make("td", { colSpan: 6 });
    cell.style.height = `${number * ROW}px`;
    const made = make("tr", { class: "space", "aria-hidden": "true" }, cell);
    made.hidden = !number;
    return made;
  }

  function row(i, at) {
    const { name, rest } = gist(i), severity = DATA.severities[columns.severity[i]];
    const dot = make("i", { class: "dot" });
    dot.style.background = `var(--c${columns.category[i]})`;
    const lane = laneOf(i);
    return make(
      "tr",
      {
        class: `event${about.has(i) ? " named" : ""}`, "aria-selected": String(i === selected),
        "aria-rowindex": at + 2, "data-event": i, id: `row-${i}`,
      },
      make("td", { class: "n narrow" }, numberOf(i)),
      make("td", { class: "n" }, moment(columns.time[i])),
      make("td", { class: severity, title: `${DATA.categories[columns.category[i]]}, ${severity}` }, dot, typeOf(i)),
      make("td", { title: `${nameOf(i)} ${rest}` }, name, name && rest ? " " : "", make("small", {}, rest)),
      make("td", { class: "narrow" }, `${lane.pid} · ${lane.tid === lane.pid ? "main" : lane.tid}`),
      make("td", { class: "n" }, columns.duration[i] ? duration(columns.duration[i]) : columns.open[i] ? "open" : ""),
    );
  }

  function show(i, from) {
    if (control["chain-only"].checked && from !== "table") filter();
    const at = visible.indexOf(i), head = rows.querySelector("thead").offsetHeight;
    if (at >= 0) {
      const top = at * ROW, seen = rows.clientHeight - head;
      if (top < rows.scrollTop) rows.scrollTop = top;
      else if (top + ROW > rows.scrollTop + seen) {
        rows.scrollTop = from === "table" ? top + ROW - seen : top - seen / 2;
      }
    }
    fill();
    rows.setAttribute("aria-activedescendant", at >= 0 ? `row-${i}` : "");
    describe(i);
  }

  function describe(i) {
    const lane = laneOf(i), facts = make("dl"), fields = make("dl");
    const pair = (list, name, value) => value !== "" && list.append(make("dt", {}, name), make("dd", {}, value));
    pair(facts, "at", moment(columns.time[i]));
    pair(facts, "took", columns.duration[i] ? duration(columns.duration[i]) : columns.open[i] ? "not ended" : "");
    pair(facts, "phase", phaseOf(i) === "?" ? "nothing says who caused it" : phaseOf(i));
    pair(facts, "category", `${DATA.categories[columns.category[i]]}, ${DATA.severities[columns.severity[i]]}`);
    pair(facts, "recorded by", `pid ${lane.pid}, ${threadOf(lane)}`);
    pair(facts, "about pid", columns.pid[i] === lane.pid ? "" : String(columns.pid[i]));
    pair(facts, "chain", texts[columns.chain[i]]);
    pair(facts, "event id", columns.id[i]);
    for (const [name, value] of Object.entries(fieldsOf(i))) pair(fields, name, valueText(value) || '""');
    detail.replaceChildren(
      make("h3", {}, `${numberOf(i)} ${typeOf(i)}`.trim()), fields, facts,
      ...related("Caused by", causes[i]), ...related("Led to", effects[i]),
    );
  }

  function related(title, edges) {
    if (!edges.length) return [];
    const items = edges.slice(0, 20).map(({ event, link }) => {
      const label = `${numberOf(event)} ${typeOf(event)} ${short(nameOf(event))}${link ? " (sent)" : ""}`;
      const button = make("button", { type: "button" }, label);
      button.addEventListener("click", () => select(event, "detail"));
      return make("li", {}, button);
    });
    if (edges.length > 20) items.push(make("li", {}, `and ${edges.length - 20} more`));
    return [make("strong", {}, title), make("ul", {}, ...items)];
  }

  function step(by) {
    if (!visible.length) return;
    const at = visible.indexOf(selected);
    select(visible[Math.min(Math.max(at + by, 0), visible.length - 1)], "table");
  }

  let waiting = 0;
  rows.addEventListener("scroll", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(fill);
  });
  rows.addEventListener("click", (click) => {
    const row = click.target.closest("tr.event");
    if (row) select(Number(row.getAttribute("data-event")), "table");
  });
  rows.addEventListener("keydown", (key) => {
    const page = Math.floor(rows.clientHeight / ROW) - 2;
    const by = {
      ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -total, End: total,
    }[key.key];
    if (by === undefined) return;
    key.preventDefault();
    step(by);
  });
  for (const one of Object.values(control)) {
    one.addEventListener("input", () => { rows.scrollTop = 0; filter(); });
  }
  const option = (value, label) => make("option", { value }, label);
  const used = new Set(columns.category);
  control.category.append(...DATA.categories.flatMap((name, number) => (used.has(number) ? [option(number, name)] : [])));
  control.severity.append(...DATA.severities.map((name, number) => option(number, number ? `${name} and above` : "any severity")));
  const phases = [...new Set(columns.phase.map((number) => texts[number]))].filter(Boolean);
  control.phase.append(...phases.map((phase) => option(phase, phase === "?" ? "unattributed" : phase)));
  new ResizeObserver(fill).observe(rows);
  filter();
  listeners.push(show);
}
