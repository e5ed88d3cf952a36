// The events, what led to what, and which one is selected.
const columns = DATA.columns, texts = DATA.texts, total = columns.time.length;
const causes = Array.from({ length: total }, () => []);
const effects = Array.from({ length: total }, () => []);
for (const [source, target, link] of DATA.edges) {
  causes[target].push({ event: source, link });
  effects[source].push({ event: target, link });
}
const about = new Set(DATA.about);

const typeOf = (i) => texts[columns.type[i]];
const nameOf = (i) => texts[columns.name[i]];
const phaseOf = (i) => texts[columns.phase[i]];
const fieldsOf = (i) => JSON.parse(texts[columns.fields[i]]);
const laneOf = (i) => DATA.lanes[columns.lane[i]];
const startOf = (i) => columns.time[i] - columns.duration[i];
const numberOf = (i) => (columns.number[i] ? `#${columns.number[i]}` : "");

function duration(us) {
  const size = Math.abs(us);
  if (size < 0.9995) return `${Math.round(us * 1000)} ns`;
  if (size < 999.5) return `${three(us)} µs`;
  if (size < 999500) return `${three(us / 1000)} ms`;
  return `${three(us / 1e6)} s`;
}

function three(value) {
  const size = Math.abs(value);
  return value.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

function moment(us) {
  return `${us < 0 ? "−" : "+"}${Math.abs(us / 1000).toFixed(3)} ms`;
}

function commandOf(lane) {
  const words = lane.command.split(" ");
  words[0] = words[0].split("/").pop();
  return words.join(" ") || "process";
}

function threadOf(lane) {
  return lane.tid === lane.pid ? "main thread" : `thread ${lane.tid}`;
}

// A path by its end, which tells more than where it begins.
function short(name) {
  if (name.length < 40 || !name.startsWith("/")) return name;
  const [folder, file] = name.split("/").slice(-2);
  return folder.length + file.length < 32 ? `…/${folder}/${file}` : `…/${file}`;
}

function valueText(value) {
  if (value === null || typeof value !== "object") return String(value);
  return JSON.stringify(value);
}

// What it says beside its type: its name, then its other fields.
function gist(i) {
  const rest = [];
  for (const [field, value] of Object.entries(fieldsOf(i))) {
    if (String(value) !== nameOf(i)) rest.push(`${field}=${valueText(value)}`);
  }
  return { name: short(nameOf(i)), rest: rest.join(" ") };
}

function reach(start, edges) {
  const seen = new Set([start]), waiting = [start];
  while (waiting.length) {
    for (const { event } of edges[waiting.pop()]) {
      if (!seen.has(event)) {
        seen.add(event);
        waiting.push(event);
      }
    }
  }
  return seen;
}

// Everything that led to an event and everything that it led to, by time. `events` has at most
// `most` of them, what led to it first; `left` says how many that leaves out.
function chainOf(i, most = Infinity) {
  const up = [...reach(i, causes)].sort((a, b) => b - a);
  const down = [...reach(i, effects)].sort((a, b) => a - b).filter((event) => event !== i);
  const all = [...up, ...down];
  const events = all.slice(0, most).sort((a, b) => a - b);
  return { events, left: all.length - events.length };
}

// The event to begin with: one that the failure speaks of, else one of the longest chain.
function firstToShow() {
  if (DATA.about.length) return DATA.about[DATA.about.length - 1];
  const depth = new Array(total).fill(0);
  let best = total ? 0 : -1;
  for (let i = 0; i < total; i++) {
    for (const { event } of causes[i]) if (event < i) depth[i] = Math.max(depth[i], depth[event] + 1);
    if (depth[i] > depth[best]) best = i;
  }
  return best;
}

let selected = -1;
const listeners = [];

// Select an event everywhere. `from` is where the choice was made, which needs not scroll.
function select(i, from = "") {
  if (i < 0 || i >= total || i === selected) return;
  selected = i;
  for (const listener of listeners) listener(i, from);
}

// Make an element. `properties` are set as such, but for `class`, `aria-*`, `data-*` and `role`.
function make(name, properties = {}, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (/^(class|role|aria-|data-)/.test(key)) made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...content);
  return made;
}
