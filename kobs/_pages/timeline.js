// The timeline: a lane a thread, slices for what has a duration, ticks for what has none.
{
  const scene = document.getElementById("scene"), canvas = document.getElementById("timeline");
  const tip = document.getElementById("tip"), context = canvas.getContext("2d");
  const AXIS = 34, HEAD = 20, TICKS = 16, ROW = 17, GAP = 8, MOST_LANES = 200;
  let first = total ? Infinity : 0, last = total ? -Infinity : 1;
  for (let i = 0; i < total; i++) {
    first = Math.min(first, startOf(i));
    last = Math.max(last, columns.time[i]);
  }
  const margin = Math.max((last - first) * 0.02, 1);
  const whole = { from: first - margin, to: last + margin };
  let view = { ...whole }, drawn = [], width = 0, colours = null;
  const edges = new Map(); // where the last narrow one of each row was drawn: others there are hidden

  const lanes = DATA.lanes.slice(0, MOST_LANES).map((lane) => ({ ...lane, ticks: false }));
  for (let i = 0; i < total; i++) {
    if (columns.row[i] === 0 && lanes[columns.lane[i]]) lanes[columns.lane[i]].ticks = true;
  }
  let bottom = AXIS;
  for (const lane of lanes) {
    lane.top = bottom;
    lane.slices = bottom + HEAD + (lane.ticks ? TICKS : 0);
    bottom = lane.slices + lane.rows * ROW + GAP;
  }
  const phases = ["setup", "call", "teardown"].map((phase) => {
    let from = Infinity, to = -Infinity;
    for (let i = 0; i < total; i++) {
      if (phaseOf(i) !== phase) continue;
      from = Math.min(from, startOf(i));
      to = Math.max(to, columns.time[i]);
    }
    return { phase, from, to };
  }).filter((one) => one.to >= one.from);

  const x = (us) => ((us - view.from) / (view.to - view.from)) * width;
  const time = (at) => view.from + (at / width) * (view.to - view.from);

  function palette() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    const named = ["ground", "ink", "quiet", "line", "raised", "failed", "on-colour", "mark"];
    colours = Object.fromEntries(named.map((name) => [name, read(`--${name}`)]));
    colours.category = DATA.categories.map((_, number) => read(`--c${number}`));
    colours.font = read("--mono");
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    width = scene.clientWidth;
    const height = Math.min(bottom, 16000 / ratio);
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colours.ground;
    context.fillRect(0, 0, width, height);
    context.textBaseline = "middle";
    drawAxis(height);
    for (const lane of lanes) drawHead(lane);
    drawn = [];
    edges.clear();
    for (let i = 0; i < total; i++) if (columns.row[i] >= 0) drawEvent(i);
    if (selected >= 0) drawArrows();
  }

  function drawAxis(height) {
    const span = view.to - view.from;
    const raw = span / Math.max(2, width / 110), power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
    context.font = `11px ${colours.font}`;
    context.textAlign = "left";
    for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) {
      context.fillStyle = colours.line;
      context.fillRect(Math.round(x(at)), 18, 1, height);
      context.fillStyle = colours.quiet;
      context.fillText(tickText(at, step), x(at) + 4, 26);
    }
    for (const { phase, from, to } of phases) {
      const left = Math.max(0, x(from)), right = Math.min(width, Math.max(x(to), x(from) + 2));
      if (right < 0 || left > width) continue;
      context.fillStyle = colours.line;
      context.fillRect(left, 1, right - left, 15);
      context.fillStyle = colours.ink;
      if (right - left > phase.length * 7 + 6) context.fillText(phase, left + 4, 9);
    }
  }

  function tickText(us, step) {
    if (Math.abs(us) < step / 2) return "0";
    if (step >= 1e6) return `${+(us / 1e6).toFixed(0)} s`;
    if (step >= 1000) return `${+(us / 1000).toFixed(0)} ms`;
    if (step >= 1) return `${+(us / 1000).toFixed(3)} ms`;
    return `${+us.toFixed(3)} µs`;
  }

  function drawHead(lane) {
    context.fillStyle = colours.raised;
    context.fillRect(0, lane.top, width, HEAD - 2);
    context.fillStyle = colours.ink;
    context.font = `600 11px ${colours.font}`;
    context.textAlign = "left";
    const ended = lane.ended ? `, ${lane.ended}` : "";
    const title = `pid ${lane.pid} · ${threadOf(lane)}${ended} · ${commandOf(lane)}`;
    context.fillText(clipped(title, width - 12), 6, lane.top + HEAD / 2 - 1);
  }

  function clipped(text, room) {
    const most = Math.floor(room / context.measureText("m").width);
    return text.length <= most ? text : `${text.slice(0, Math.max(0, most - 1))}…`;
  }

  function drawEvent(i) {
    const lane = lanes[columns.lane[i]];
    if (!lane) return;
    const row = columns.row[i], open = columns.open[i];
    let left = x(startOf(i)), right = open ? width : x(columns.time[i]);
    if (open) left = x(columns.time[i]);
    if (right < -2 || left > width + 2) return;
    const apart = about.has(i) || i === selected, key = columns.lane[i] * 64 + row;
    if (right - left < 1 && !apart && edges.get(key) === Math.round(left)) return;
    edges.set(key, Math.round(left));
    left = Math.max(left, -4);
    right = Math.min(right, width + 4);
    const colour = columns.severity[i] >= 4 ? colours.failed : colours.category[columns.category[i]];
    context.fillStyle = colour;
    let box;
    if (row === 0) {
      box = [left - 3, lane.top + HEAD, 6, TICKS - 4];
      context.beginPath();
      context.moveTo(left, box[1]);
      context.lineTo(left + 3.5, box[1] + box[3] / 2);
      context.lineTo(left, box[1] + box[3]);
      context.lineTo(left - 3.5, box[1] + box[3] / 2);
      context.fill();
    } else {
      box = [left, lane.slices + (row - 1) * ROW, Math.max(right - left, 2), ROW - 2];
      context.fillRect(...box);
      if (box[2] > 34) {
        context.fillStyle = colours["on-colour"];
        context.font = `11px ${colours.font}`;
        context.textAlign = "left";
        const label = `${short(nameOf(i)) || typeOf(i)}${open ? " (not ended)" : ""}`;
        context.fillText(clipped(label, box[2] - 8), box[0] + 4, box[1] + box[3] / 2 + 0.5);
      }
    }
    drawn.push([...box, i]);
    if (apart) {
      context.lineWidth = i === selected ? 2 : 1.5;
      context.strokeStyle = i === selected ? colours.ink : colours.failed;
      context.strokeRect(box[0] - 2, box[1] - 2, box[2] + 4, box[3] + 4);
    }
  }

  // Where the arrows of an event begin and end; one that its end stands for is found there.
  function place(i, end) {
    const lane = lanes[columns.lane[i]];
    if (!lane) return null;
    const row = Math.max(columns.row[i], 0);
    const y = row ? lane.slices + (row - 1) * ROW + ROW / 2 : lane.top + HEAD + TICKS / 2;
    return [x(end ? columns.time[i] : startOf(i)), y];
  }

  function drawArrows() {
    const pairs = [
      ...causes[selected].map(({ event, link }) => [event, selected, link]),
      ...effects[selected].slice(0, 50).map(({ event, link }) => [selected, event, link]),
    ];
    context.strokeStyle = context.fillStyle = colours.ink;
    context.lineWidth = 1.2;
    for (const [source, target, link] of pairs) {
      const from = place(source, startOf(target) >= columns.time[source]), to = place(target, false);
      if (!from || !to || columns.row[source] < 0) continue;
      context.setLineDash(link ? [5, 3] : []);
      context.beginPath();
      context.moveTo(...from);
      const bend = Math.max(12, Math.abs(to[0] - from[0]) / 3);
      context.bezierCurveTo(from[0] + bend, from[1], to[0] - bend, to[1], ...to);
      context.stroke();
      context.setLineDash([]);
      context.beginPath();
      context.moveTo(...to);
      context.lineTo(to[0] - 6, to[1] - 3.5);
      context.lineTo(to[0] - 6, to[1] + 3.5);
      context.fill();
    }
  }

  function found(pointer) {
    const box = canvas.getBoundingClientRect();
    const at = [pointer.clientX - box.left, pointer.clientY - box.top];
    for (let index = drawn.length - 1; index >= 0; index--) {
      const [left, top, wide, high, i] = drawn[index];
      if (at[0] >= left - 2 && at[0] <= left + wide + 2 && at[1] >= top && at[1] <= top + high) return i;
    }
    return -1;
  }

  // Zoom by a factor around a place on the screen, or move by a part of what is seen.
  function zoom(factor, at = width / 2) {
    const span = view.to - view.from, middle = time(at);
    const next = Math.min(Math.max(span * factor, 0.05), whole.to - whole.from);
    move(middle - (at / width) * next, next);
  }
  function move(from, span = view.to - view.from) {
    from = Math.min(Math.max(from, whole.from), whole.to - span);
    view = { from, to: from + span };
    draw();
  }
  function fit() {
    view = { ...whole };
    draw();
  }

  function show(i, from) {
    const span = view.to - view.from;
    if (from !== "timeline" && (columns.time[i] < view.from || startOf(i) > view.to)) {
      move((startOf(i) + columns.time[i]) / 2 - span / 2);
    } else draw();
    const at = place(i, false);
    if (from !== "timeline" && at && (at[1] < scene.scrollTop || at[1] > scene.scrollTop + scene.clientHeight)) {
      scene.scrollTop = at[1] - scene.clientHeight / 2;
    }
  }

  let held = null;
  canvas.addEventListener("pointerdown", (pointer) => {
    held = { at: pointer.clientX, from: view.from, moved: false };
    canvas.setPointerCapture(pointer.pointerId);
  });
  canvas.addEventListener("pointermove", (pointer) => {
    if (held) {
      const by = pointer.clientX - held.at;
      held.moved ||= Math.abs(by) > 4;
      if (held.moved) move(held.from - (by / width) * (view.to - view.from));
      return;
    }
    const i = found(pointer);
    tip.hidden = i < 0;
    if (i < 0) return;
    const took = columns.duration[i] ? `, ${duration(columns.duration[i])}` : "";
    tip.textContent = `${numberOf(i)} ${typeOf(i)} ${nameOf(i)} at ${moment(columns.time[i])}${took}`;
    tip.style.left = `${Math.min(pointer.clientX + 12, window.innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${pointer.clientY + 16}px`;
  });
  canvas.addEventListener("pointerup", (pointer) => {
    if (held && !held.moved) select(found(pointer), "timeline");
    held = null;
  });
  canvas.addEventListener("pointercancel", () => { held = null; });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("dblclick", (pointer) => zoom(0.4, pointer.offsetX));
  canvas.addEventListener("wheel", (wheel) => {
    if (!wheel.ctrlKey && !wheel.metaKey) return;
    wheel.preventDefault();
    zoom(Math.exp(wheel.deltaY * 0.003), wheel.offsetX);
  }, { passive: false });
  canvas.addEventListener("keydown", (key) => {
    const span = view.to - view.from;
    const actions = {
      "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), "0": fit, Home: fit,
      a: () => move(view.from - span * 0.2), d: () => move(view.from + span * 0.2),
      ArrowLeft: () => select(selected - 1, "keys"), ArrowRight: () => select(selected + 1, "keys"),
    };
    if (!actions[key.key] || key.ctrlKey || key.metaKey || key.altKey) return;
    key.preventDefault();
    actions[key.key]();
  });
  document.getElementById("closer").addEventListener("click", () => zoom(0.5));
  document.getElementById("further").addEventListener("click", () => zoom(2));
  document.getElementById("fit").addEventListener("click", fit);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { palette(); draw(); });
  new ResizeObserver(() => { if (scene.clientWidth !== width) draw(); }).observe(scene);

  const used = new Set(columns.category);
  document.getElementById("legend").append(...DATA.categories.flatMap((name, number) => {
    if (!used.has(number)) return [];
    const swatch = make("i");
    swatch.style.background = `var(--c${number})`;
    return [make("li", {}, swatch, name)];
  }));
  palette();
  draw();
  listeners.push(show);
}
