// The status page: asks /details.json again and again while the tab is visible, and /batch.json while its section is.
// Everything that comes from the trainer is hostile text: it gets into the page only as textContent.

const MAX_WAIT_S = 30, ANSWER_S = 10, OVER_S = 15, LATE_S = 10, ROWS = 50, MAX_TEXT = 400;
const STAGES = ["storage", "decode", "augment", "generator"];
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
const numbers = [0, 1, 2].map((digits) => new Intl.NumberFormat("en", {maximumFractionDigits: digits}));

// ---- text and elements

// Invisible characters, and those that change the direction of the text around them, are shown by their number.
function plain(value) {
  const text = String(value === null || value === undefined ? "" : value)
    .replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
      (one) => "\\u" + one.charCodeAt(0).toString(16).padStart(4, "0"));
  return text.length > MAX_TEXT ? text.slice(0, MAX_TEXT) + "…" : text;
}

function write(node, value) {
  const text = plain(value);
  if (node.textContent !== text) node.textContent = text;
}

const put = (id, value) => write($(id), value);

function make(tag, className, value) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (value !== undefined) node.textContent = plain(value);
  return node;
}

function fill(parent, ...children) {
  parent.append(...children);
  return parent;
}

const isNumber = (value) => typeof value === "number" && isFinite(value);
const list = (value) => Array.isArray(value) ? value : [];

function amount(value, unit) {
  if (!isNumber(value)) return "–";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return numbers[digits].format(value) + (unit || "");
}

const count = (value) => isNumber(value) ? numbers[0].format(value) : "–";
const percent = (share) => isNumber(share) ? numbers[share < 0.1 ? 1 : 0].format(100 * share) + " %" : "–";
const plural = (number, what) => count(number) + " " + what + (number === 1 ? "" : "s");

function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  const s = Math.max(0, Math.floor(seconds));
  for (const [unit, name, part, partName] of [[86400, " d", 3600, " h"], [3600, " h", 60, " min"], [60, " min", 1, " s"]]) {
    if (s >= unit) {
      const rest = Math.floor(s % unit / part);
      return Math.floor(s / unit) + name + (rest ? " " + rest + partName : "");
    }
  }
  return s + " s";
}

const ago = (seconds) => isNumber(seconds) && seconds < 1 ? "just now" : duration(seconds) + " ago";

function moment(unix) {
  const node = make("time"), date = new Date(unix * 1000);
  if (isNaN(date)) return node;
  node.dateTime = date.toISOString();
  node.title = date.toLocaleString();
  node.textContent = date.toTimeString().slice(0, 8);
  return node;
}

// ---- charts

// A line over the history; ``top``: the least that the whole height stands for; ``said``: a value as text.
function chart(box, name, top, said) {
  const part = (tag, className) => {
    const node = document.createElementNS(SVG, tag);
    node.setAttribute("class", className);
    return node;
  };
  const svg = part("svg", ""), area = part("path", "area"), stroke = part("path", "stroke");
  const base = part("path", "base"), mark = part("path", "mark");
  svg.setAttribute("viewBox", "0 0 300 60");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  base.setAttribute("d", "M0 60H300");
  const legend = make("p"), since = make("span"), now = make("span");
  box.append(fill(svg, base, area, stroke, mark), fill(legend, since, now));
  let shown = [], interval_s = 2, slots = 2, pointer = null;

  function point() {
    const at = pointer === null ? -1 : Math.round(pointer * (slots - 1)) - (slots - shown.length);
    const has = at >= 0 && at < shown.length;
    mark.setAttribute("d", has ? "M" + 300 * pointer + " 0V60" : "");
    const known = shown.filter(isNumber);
    write(since, has ? duration((shown.length - 1 - at) * interval_s) + " ago" :
      known.length ? "last " + duration(shown.length * interval_s) : "no figures yet");
    write(now, has ? (isNumber(shown[at]) ? said(shown[at]) : "no figure") :
      known.length ? "most " + said(Math.max(...known)) : "");
  }

  svg.addEventListener("pointermove", (event) => {
    const place = svg.getBoundingClientRect();
    pointer = Math.min(1, Math.max(0, (event.clientX - place.left) / place.width));
    point();
  });
  svg.addEventListener("pointerleave", () => { pointer = null; point(); });

  return function (values, seconds) {
    shown = list(values).slice(-300);
    interval_s = isNumber(seconds) && seconds > 0 ? seconds : 2;
    slots = Math.max(30, shown.length);
    const known = shown.filter(isNumber);
    const high = Math.max(top, ...known) || 1;
    let line = "", under = "", begun = "";       // begun: where the present piece of the line begins
    shown.concat(null).forEach((value, index) => {
      if (!isNumber(value)) {
        under += begun && "V60H" + begun + "Z";
        begun = "";
        return;
      }
      const x = (300 * (slots - shown.length + index) / (slots - 1)).toFixed(1);
      const point = x + " " + (60 - 56 * Math.max(0, value) / high).toFixed(1);
      line += (begun ? "L" : "M") + point;
      under += (begun ? "L" : "M" + x + " 60L") + point;
      begun = begun || x;
    });
    area.setAttribute("d", under);
    stroke.setAttribute("d", line);
    svg.setAttribute("aria-label", known.length ? name + " in the last " + duration(shown.length * interval_s) +
      ": from " + said(Math.min(...known)) + " to " + said(Math.max(...known)) + ", now " +
      said(known[known.length - 1]) : name + ": no figures yet");
    point();
  };
}

// A bar of parts that add up to a whole, with a legend that says the figures.
function stackbar(box, names) {
  const bar = make("div", "stackbar"), legend = make("ul", "legend"), parts = {};
  bar.setAttribute("aria-hidden", "true");
  for (const name of names) {
    const value = make("b");
    parts[name] = {bar: bar.appendChild(make("i", "c-" + name)), value: value};
    legend.append(fill(make("li"), make("i", "c-" + name), name + " ", value));
  }
  box.append(bar, legend);
  return function (values, whole, said) {
    for (const name of names) {
      const value = isNumber(values[name]) ? Math.max(0, values[name]) : 0;
      parts[name].bar.style.width = (whole > 0 ? Math.min(100, 100 * value / whole) : 0).toFixed(2) + "%";
      parts[name].bar.hidden = !value;         // else with the gap beside it
      write(parts[name].value, isNumber(values[name]) ? said(value) : "–");
    }
  };
}

const drawRate = chart($("rate-chart"), "Rate", 0, (value) => amount(value));
const drawWaiting = chart($("waiting-chart"), "Waiting for data", 0.05, percent);
const drawStages = stackbar($("stages"), STAGES);
const drawWindow = stackbar($("window"), ["ready", "leased", "free"]);

// ---- lists

const drawn = new Map();

// Shows the newest first; ``rows``: newest last; ``row`` makes the parts of one. Made anew only if it has changed.
function drawList(node, rows, nothing, row) {
  const key = JSON.stringify(rows);
  if (drawn.get(node) === key) return;
  drawn.set(node, key);
  const items = rows.slice().reverse().map((one) => fill(make("li"), moment(one.s), fill(make("div"), ...row(one))));
  node.replaceChildren(...(items.length ? items : [make("li", "muted", nothing)]));
  if (!items.length) node.firstChild.style.display = "block";
}

// The text of an event, in which its kind stands out; before it, where the text does not name it.
function eventParts(one) {
  const text = plain(one.text), name = plain(one.kind), at = text.indexOf(name), mark = make("b", "", name);
  mark.dataset.kind = name;
  return at < 0 ? [mark, " ", text] : [text.slice(0, at), mark, text.slice(at + name.length)];
}

function drawVerdict(bottleneck, history) {
  const sentence = bottleneck ? plain(bottleneck.sentence) : "No verdict yet: it needs some batches and a second of training.";
  const name = bottleneck && sentence.startsWith(plain(bottleneck.name)) ? plain(bottleneck.name) : "";
  if ($("verdict").textContent !== sentence) {
    $("verdict").replaceChildren(make("b", "", name), sentence.slice(name.length));
  }
  const earlier = list(history).slice(0, -1);
  $("earlier").hidden = !earlier.length;
  put("earlier-title", plural(earlier.length, "earlier verdict"));
  drawList($("verdicts"), earlier, "", (one) => [plain(one.sentence)]);
}

function drawBad(bad) {
  const newest = list(bad.newest);
  put("bad-note", !bad.count ? "none so far" : bad.count > newest.length ?
    count(bad.count) + ", the newest " + newest.length + " here" : count(bad.count));
  drawList($("bad"), newest, "Files that cannot be used are named here, with the reason.", (one) =>
    [make("span", "mono", one.path), make("p", "muted small", plain(one.why) +
      (isNumber(one.step) ? " (step " + count(one.step) + ")" : ""))]);
}

function drawEvents(events) {
  put("events-note", events.length >= 200 ? "the newest 200" : "");
  drawList($("events"), events, "Workers that join or are lost, and other events, are named here.", eventParts);
}

// ---- workers

const STATE_ORDER = ["silent", "set aside", "starting", "leaving", "idle", "works"];
const stage = (name) => (one) => one.stages_ms ? one.stages_ms[name] : null;
// title, value by which rows are sorted, its text; a number is aligned right
const COLUMNS = [
  ["Worker", (one) => plain(one.name)],
  ["State", (one) => STATE_ORDER.indexOf(one.state)],
  ["Rate", (one) => one.samples_per_s, amount],
  ["Batches", (one) => one.batches, count],
].concat(STAGES.map((name) => [name + " ms", stage(name), amount]), [
  ["Silent", (one) => one.silent_s, (s) => isNumber(s) ? duration(s) : ""],
  ["Restarts", (one) => one.restarts, count],
  ["Host", (one) => plain(one.host)],
  ["PID", (one) => one.pid, (value) => isNumber(value) ? String(value) : "–"],
  ["Versions", (one) => plain(one.versions)],
]);
const isText = (title) => ["Worker", "State", "Host", "Versions"].includes(title);
const HEADS = $("workers").tHead.rows[0];
const workers = {rows: [], column: 0, descending: false, all: false, nodes: new Map()};

COLUMNS.forEach(([title], index) => {
  const head = make("th", isText(title) ? "" : "n"), button = make("button", "", title);
  head.scope = "col";
  button.type = "button";
  button.addEventListener("click", () => {
    workers.descending = workers.column === index ? !workers.descending : !isText(title);
    workers.column = index;
    drawWorkers();
  });
  HEADS.append(fill(head, button));
});

const byText = new Intl.Collator("en", {numeric: true}).compare;

function compare(a, b) {
  const [title, value] = COLUMNS[workers.column], left = value(a), right = value(b);
  const order = isText(title) && title !== "State" ? byText(left, right) :
    (isNumber(left) ? left : -1) - (isNumber(right) ? right : -1);
  return (workers.descending ? -order : order) || byText(plain(a.name), plain(b.name));
}

function makeRow() {
  const cells = COLUMNS.map(([title], index) => make(index ? "td" : "th", isText(title) ? "" : "n"));
  cells[0].scope = "row";
  const state = make("span"), why = make("p", "muted small");
  fill(cells[1], state, why);
  return {row: fill(make("tr"), ...cells), cells: cells, state: state, why: why};
}

function drawWorkers() {
  const sorted = workers.rows.slice().sort(compare);
  const shown = workers.all ? sorted : sorted.slice(0, ROWS), used = new Map(), rows = [];
  for (const one of shown) {
    let key = [one.name, one.host, one.pid].join("|");
    while (used.has(key)) key += "+";
    const node = workers.nodes.get(key) || makeRow();
    used.set(key, node);
    rows.push(node.row);
    COLUMNS.forEach(([title, value, said], index) => {
      const cell = node.cells[index];
      if (title === "State") {
        node.state.dataset.state = plain(one.state);
        write(node.state, one.state);
        write(node.why, one.why);
      } else {
        write(cell, said ? said(value(one)) : value(one));
        if (title === "Worker") cell.title = cell.textContent;
      }
    });
  }
  workers.nodes = used;
  const body = $("workers").tBodies[0];
  if (rows.length !== body.rows.length || rows.some((row, index) => row !== body.rows[index])) {
    body.replaceChildren(...rows);
  }
  if (!rows.length) body.replaceChildren(emptyRow());
  Array.from(HEADS.cells).forEach((head, index) => head.setAttribute("aria-sort", index !== workers.column ? "none" :
    workers.descending ? "descending" : "ascending"));
  $("more").hidden = sorted.length <= ROWS;
  put("more", workers.all ? "Show " + ROWS : "Show all " + count(sorted.length));
}

function emptyRow() {
  const cell = make("td", "muted", "No worker has joined yet.");
  cell.colSpan = COLUMNS.length;
  return fill(make("tr"), cell);
}

$("more").addEventListener("click", () => { workers.all = !workers.all; drawWorkers(); });

// ---- figures

const about = (s) => "about " + duration(s < 120 ? 10 * Math.ceil(s / 10) : s < 7200 ? 60 * Math.round(s / 60) : s);

const steps = [];              // [time, step] of the last answers: for how long is left
let run = null, isOver = false;
let inSight = false, batch = null, wanted = true, lookTimer = 0, lookedSince = 0, looking = false;     // of /batch.json

function remaining(said) {
  const newest = steps[steps.length - 1];
  if (said.run !== run || newest && said.step < newest[1]) steps.length = 0;
  steps.push([said.now_s, said.step]);
  while (steps.length > 2 && said.now_s - steps[0][0] > 120) steps.shift();
  const passed_s = said.now_s - steps[0][0], done = said.step - steps[0][1];
  return passed_s >= 5 && done > 0 ? about((said.steps - said.step) * passed_s / done) : "–";
}

function state(said) {
  if (said.over) return ["over", "the run is over"];
  if (!workers.rows.length) return ["waiting", "waits for workers"];
  if (isNumber(said.since_last_batch_s) && said.since_last_batch_s > LATE_S) {
    return ["waiting", "no batch taken for " + duration(said.since_last_batch_s)];
  }
  return said.step ? ["running", "running"] : ["starting", "starting"];
}

function show(name, sentence, spoken) {
  $("state").dataset.state = name;
  put("state", sentence);
  // without the seconds, which a screen reader would read out again and again
  put("spoken", spoken || sentence.replace(/ for [\d.]+ .*/, ""));
}

function draw(said) {
  const left = remaining(said), table = said.workers || {}, unit = plain(said.unit || "samples") + "/s";
  if (said.run !== run) {
    wanted = true;
    batch = null;
  }
  run = said.run;
  isOver = said.over === true;
  workers.rows = list(said.worker_table);
  const states = said.states || {}, total = Math.max(workers.rows.length,
    Object.values(states).filter(isNumber).reduce((sum, value) => sum + value, 0));
  show(...state(said));
  const done = said.steps > 0 ? 100 * said.step / said.steps : 0;
  document.title = (isOver ? "over · " : Math.floor(done) + " % · ") + amount(said.samples_per_s) + " " + unit +
    " · Stoker";
  put("run", "run " + plain(said.run));
  $("done").style.width = Math.min(100, done).toFixed(2) + "%";
  $("bar").setAttribute("aria-valuenow", done.toFixed(1));
  $("bar").setAttribute("aria-valuetext", "step " + count(said.step) + " of " + count(said.steps));
  put("step", count(said.step) + " of " + count(said.steps));
  put("epoch", isNumber(said.epoch) ? count(said.epoch) + " of " + count(said.epochs) : "–");
  put("elapsed", duration(said.elapsed_s));
  put("left", isOver ? "nothing" : left);
  put("last", isNumber(said.since_last_batch_s) ? ago(said.since_last_batch_s) : "–");

  const history = said.history || {}, speed = said.speed || {}, buffers = said.window || {};
  drawVerdict(said.bottleneck, said.bottlenecks);
  put("rate", amount(said.samples_per_s));
  put("rate-unit", unit);
  write(HEADS.cells[2].firstChild, unit);
  drawRate(history.samples_per_s, history.interval_s);
  put("waiting", percent(said.waiting_share));
  drawWaiting(history.waiting_share, history.interval_s);
  put("step-ms", amount(speed.step_ms, " ms"));
  put("produce-ms", amount(speed.produce_ms, " ms"));
  put("wire-ms", amount(speed.wire_ms, " ms"));
  drawStages(said.stages || {}, 1, percent);
  const free = buffers.size - buffers.ready - buffers.leased;
  drawWindow({ready: buffers.ready, leased: buffers.leased, free: free}, buffers.size, count);
  put("window-note", "of " + plural(buffers.size, "batch").replace(/hs$/, "hes") + ", made ahead of the training");
  put("memory", amount(said.memory_mb, " MB"));
  put("alive", count(total));
  put("needed", count(said.workers_needed));

  drawBad(said.bad || {});
  drawEvents(list(said.events));
  put("workers-note", [STATE_ORDER.filter((one) => states[one]).map((one) => count(states[one]) + " " +
    (one === "works" ? "work" : one)).join(", "), total > workers.rows.length ? "the table has " +
    count(workers.rows.length) + " of them" : "", plain(table.why)].filter((part) => part).join("; "));
  drawWorkers();
  put("version", said.stoker);
  put("connect", said.connect ? "· workers connect to " + plain(said.connect) : "");
  $("figures").hidden = false;
  hide("notice");
  hide("access");
}

// If it has the focus, that goes to the figures: a keyboard would begin at the top again.
function hide(id) {
  if ($(id).contains(document.activeElement)) $("main").focus({preventScroll: true});
  $(id).hidden = true;
}

// ---- asking, and token

let memory = "";               // the token, where the browser has no storage for this page
function token(value) {
  try {
    if (value !== undefined) sessionStorage.setItem("stoker-token", value);
    return sessionStorage.getItem("stoker-token") || "";
  } catch (error) {
    if (value !== undefined) memory = value;
    return memory;
  }
}

// Takes the token out of the address, so that it is in no history, bookmark or screenshot.
function takeToken() {
  const match = /^#token=(.+)$/.exec(location.hash);
  if (!match) return false;
  let value = match[1];
  try { value = decodeURIComponent(value); } catch (error) { /* it stands as it is */ }
  token(value);
  history.replaceState(null, "", location.pathname + location.search);
  return true;
}

class NoAnswer extends Error {}

// The answer as {code, said}: JSON, or the server's sentence if the code is not 200.
async function ask(path) {
  const abort = new AbortController(), limit = setTimeout(() => abort.abort(), 1000 * ANSWER_S), value = token();
  const headers = /^[\x21-\x7e]+$/.test(value) ? {Authorization: "Bearer " + value} : {};
  try {
    const answer = await fetch(path, {headers: headers, cache: "no-store", redirect: "error", signal: abort.signal});
    const text = await answer.text();
    return answer.status === 200 ? {code: 200, said: JSON.parse(text)} : {code: answer.status, said: text.trim()};
  } catch (error) {
    throw error instanceof SyntaxError ? error : new NoAnswer();
  } finally {
    clearTimeout(limit);
  }
}

let timer = 0, asking = false, failures = 0, answered = performance.now(), next = 0, refused = "";

function later(seconds) {
  clearTimeout(timer);
  next = performance.now() + 1000 * seconds;
  if (!document.hidden) timer = setTimeout(poll, 1000 * seconds);
}

async function poll() {
  clearTimeout(timer);
  if (asking || document.hidden || !$("access").hidden) return;
  asking = true;
  try {
    const answer = await ask("details.json");
    if (answer.code === 200) {
      draw(answer.said);
      failures = 0;
      refused = "";
      answered = performance.now();
      later(isOver ? OVER_S : Math.min(60, Math.max(0.5, Number(answer.said.next_s) || 1)));
      look();
    } else if (answer.code === 401) {
      askForToken();
    } else {
      failed(answer.said || "The trainer answered with the code " + answer.code + ".");
    }
  } catch (error) {
    if (error instanceof NoAnswer) failed("");
    else {
      failed("The answer is not understood: reload this page.");
      console.error(error);
    }
  } finally {
    asking = false;
  }
}

function failed(sentence) {
  failures += 1;
  refused = sentence;
  later(isOver ? OVER_S : Math.min(MAX_WAIT_S, Math.pow(2, failures - 1)));
  complain();
}

function askForToken() {
  clearTimeout(timer);
  failures = 0;
  show("lost", "needs its token");
  if (token()) put("refused", "The trainer refused this token.");
  $("figures").hidden = $("notice").hidden = true;
  $("access").hidden = false;
  $("token").focus();
}

// Says that there is no answer, and since when. The end of a run that was seen stays the end.
function complain() {
  if (!failures || isOver && !refused) return;
  const since_s = (performance.now() - answered) / 1000, again_s = Math.max(0, Math.ceil((next - performance.now()) / 1000));
  if (refused) show("lost", "no figures", "no figures: " + refused);
  else show("lost", "no answer since " + duration(since_s), "no answer");
  put("sentence", (refused || "No answer since " + duration(since_s) + ": the trainer has ended, or cannot be reached." +
    (run === null ? "" : " The figures below are the last ones.")) + " Asking again in " + again_s + " s.");
  $("notice").hidden = false;
}

setInterval(() => { if (!document.hidden) complain(); }, 1000);
$("again").addEventListener("click", poll);
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token($("token").value.trim());
  $("token").value = "";
  hide("access");
  poll();
});
addEventListener("hashchange", () => { if (takeToken()) { $("access").hidden = true; poll(); } });
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) poll();
});

// ---- the batch

new IntersectionObserver((entries) => {
  inSight = entries[entries.length - 1].isIntersecting;
  look();
}).observe($("batch"));

// Asks for a batch until one is there that is not the one shown; only while it is in sight.
async function look() {
  clearTimeout(lookTimer);
  if (looking || !wanted || !inSight || document.hidden || failures || run === null) return;
  looking = true;
  try {
    if (!lookedSince) lookedSince = performance.now();
    const answer = await ask("batch.json"), said = answer.said;
    if (answer.code !== 200) {
      put("batch-note", said);
      wanted = false;
    } else if (said.step !== null && (batch === null || said.made_s !== batch.made_s)) {
      drawBatch(said);
      wanted = false;
    } else if (performance.now() - lookedSince > 1000 * MAX_WAIT_S || isOver) {
      put("batch-note", (batch ? "Still " + title(batch) + ": " : "") + (isOver ? "the run is over." :
        "no batch was taken within " + MAX_WAIT_S + " s."));
      wanted = false;
    } else {
      put("batch-note", batch ? title(batch) + ". Waiting for the next one …" : "Waiting for a batch …");
      lookTimer = setTimeout(look, 500);
    }
  } catch (error) {
    lookTimer = setTimeout(look, 5000);
  } finally {
    looking = false;
    waits();
  }
}

function title(one) {
  return (one.training === false ? "evaluation" : "step " + count(one.step)) + ", epoch " + count(one.epoch);
}

function drawBatch(said) {
  const samples = list(said.samples);
  batch = said;
  const when = new Date(1000 * said.made_s);
  put("batch-note", title(said) + (samples.length < said.size ? ": " + samples.length + " of " : ": ") +
    count(said.size) + " samples" + (isNaN(when) ? "" : ", taken at " + when.toTimeString().slice(0, 8)));
  $("samples").replaceChildren(...samples.map((sample) => {
    const item = make("li"), views = list(sample.views), index = isNumber(sample.index) ? "#" + sample.index + " " : "";
    const name = make("p", "muted", index + plain(sample.name).split("/").pop());
    for (const view of views) {
      if (view.png && /^[A-Za-z0-9+/=]+$/.test(view.png)) {
        const picture = make("img");
        picture.title = picture.alt = [view.name, index + view.text].map(plain).join(" ");
        picture.src = "data:image/png;base64," + view.png;
        item.append(picture);
        if (views.some((other) => other !== view && other.png)) item.append(make("p", "muted of", view.name));
      } else if (!sample.label || !plain(view.text).endsWith(plain(sample.label))) {     // said below
        item.append(make("p", "mono text", view.name + " " + view.text));
      }
    }
    name.title = plain(sample.name);
    return fill(item, make("b", "", sample.label), name);
  }));
}

// The button keeps the focus, which it would lose if it were disabled.
function waits() {
  $("next").setAttribute("aria-disabled", String(wanted));
  if (!wanted) lookedSince = 0;
}

$("next").addEventListener("click", () => {
  wanted = true;
  waits();
  look();
});

takeToken();
poll();
