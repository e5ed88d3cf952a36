// The chain of the selected event: a column a thread, time downwards, an arrow from cause to effect.
{
  const graph = document.getElementById("graph"), around = graph.parentElement;
  const summary = document.getElementById("chain-summary");
  const MOST = 120, ROW = 30, NODE = 23, HEAD = 44, STEP = 12, CHARACTER = 7.3;

  function svg(name, attributes, ...content) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...content);
    return made;
  }

  const cut = (text, room) => {
    const most = Math.max(4, Math.floor(room / CHARACTER));
    return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
  };

  function show(i) {
    const { events, left } = chainOf(i, MOST);
    const lanes = [...new Set(events.map((event) => columns.lane[event]))];
    const TIME = 24 + 6.8 * Math.max(...events.map((event) => moment(columns.time[event]).length));
    const room = (around.clientWidth - TIME - 4) / lanes.length;
    const wide = Math.max(190, Math.min(560, room));
    const places = new Map();
    events.forEach((event, row) => {
      const column = lanes.indexOf(columns.lane[event]);
      const parent = causes[event].find((one) => places.has(one.event));
      const above = parent && places.get(parent.event);
      const depth = above && above.column === column ? Math.min(above.depth + 1, 6) : 0;
      const x = TIME + column * wide + 6 + depth * STEP;
      places.set(event, { column, depth, x, y: HEAD + row * ROW, w: wide - 14 - depth * STEP });
    });
    const width = TIME + lanes.length * wide, height = HEAD + events.length * ROW + 6;
    const parts = [svg("defs", {}, svg("marker", {
      id: "tip-of-arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7,
      orient: "auto-start-reverse",
    }, svg("path", { d: "M0 0.5 8 4 0 7.5z", fill: "context-stroke" })))];
    lanes.forEach((lane, column) => {
      const at = TIME + column * wide, about = DATA.lanes[lane];
      if (column % 2 === 0) {
        parts.push(svg("rect", { class: "column", x: at, y: 0, width: wide, height }));
      }
      parts.push(
        svg("text", { class: "head", x: at + 6, y: 17 }, cut(commandOf(about), wide - 12)),
        svg("text", { class: "sub", x: at + 6, y: 33 },
          cut(`pid ${about.pid} · ${threadOf(about)}${about.ended ? ` · ${about.ended}` : ""}`, wide - 8)),
      );
    });
    for (const event of events) {
      for (const cause of causes[event]) {
        if (places.has(cause.event)) parts.push(edge(places.get(cause.event), places.get(event), cause.link));
      }
    }
    let before = "";
    for (const event of events) {
      const when = moment(columns.time[event]), at = places.get(event);
      if (when !== before) {
        parts.push(svg("text", { class: "time", x: TIME - 10, y: at.y + 15, "text-anchor": "end" }, when));
      }
      before = when;
      parts.push(node(event, at, i));
    }
    const focused = graph.contains(document.activeElement) ? document.activeElement.dataset.event : "";
    graph.replaceChildren(...parts);
    if (focused) focus(focused);
    graph.setAttribute("width", width);
    graph.setAttribute("height", height);
    graph.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const chosen = places.get(i);
    if (chosen.x + chosen.w > around.scrollLeft + around.clientWidth || chosen.x < around.scrollLeft) {
      around.scrollLeft = chosen.x - 2 * STEP;
    }
    if (chosen.y > around.scrollTop + around.clientHeight || chosen.y < around.scrollTop) {
      around.scrollTop = chosen.y - around.clientHeight / 2;
    }
    const processes = new Set(lanes.map((lane) => DATA.lanes[lane].pid)).size;
    summary.textContent = `of ${numberOf(i)} ${typeOf(i)}: ${count(events.length, "event")} of `
      + `${count(processes, "process", "processes")}`
      + (left ? `; ${left} more events of it are not drawn` : "");
  }

  const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

  function edge(from, to, link) {
    let d;
    if (from.column === to.column) {
      const x = from.x + 5, y = to.y + NODE / 2;
      d = to.x > from.x ? `M${x} ${from.y + NODE}V${y}H${to.x - 1}` : `M${x} ${from.y + NODE}V${to.y - 1}`;
    } else {
      const right = to.column > from.column;
      const start = right ? from.x + from.w : from.x, end = right ? to.x - 1 : to.x + to.w + 1;
      const y = from.y + NODE / 2, goal = to.y + NODE / 2, bend = right ? 36 : -36;
      d = `M${start} ${y}C${start + bend} ${y} ${end - bend} ${goal} ${end} ${goal}`;
    }
    return svg("path", { class: link ? "edge link" : "edge", d, "marker-end": "url(#tip-of-arrow)" });
  }

  function node(event, at, chosen) {
    const label = `${typeOf(event)} ${short(nameOf(event))}`.trim();
    const kind = `node${about.has(event) ? " about" : ""}${event === chosen ? " chosen" : ""}`;
    const made = svg("g", {
      class: kind, tabindex: 0, role: "button", "data-event": event,
      "aria-label": `${numberOf(event)} ${label} at ${moment(columns.time[event])}`,
      ...(event === chosen ? { "aria-current": "true" } : {}),
    });
    const bar = svg("rect", { x: at.x, y: at.y, width: 4, height: NODE });
    bar.style.fill = `var(--c${columns.category[event]})`;
    bar.style.stroke = "none";
    made.append(
      svg("title", {}, `${typeOf(event)} ${nameOf(event)}`),
      svg("rect", { x: at.x, y: at.y, width: at.w, height: NODE, rx: 4 }),
      bar,
      svg("text", { x: at.x + 10, y: at.y + 16 }, cut(`${numberOf(event)} ${label}`.trim(), at.w - 14)),
    );
    return made;
  }

  function chosen(happened) {
    const node = happened.target.closest("[data-event]");
    if (node) choose(Number(node.getAttribute("data-event")));
  }
  function choose(event) {
    select(event, "chain");
    focus(event);
  }
  function focus(event) {
    graph.querySelector(`[data-event="${event}"]`)?.focus({ preventScroll: true });
  }
  graph.addEventListener("click", chosen);
  graph.addEventListener("keydown", (key) => {
    if (key.key === "Enter" || key.key === " ") {
      key.preventDefault();
      chosen(key);
    }
  });
  let wide = 0;
  new ResizeObserver(() => {
    if (around.clientWidth !== wide && selected >= 0) show(selected);
    wide = around.clientWidth;
  }).observe(around);
  listeners.push(show);
}
