// What pages do beyond being read: live numbers, charts, finding, actions, and the theme.
// Everything that comes from the cluster is put in as text, never as HTML; the only HTML taken is
// that of our own pages, which escape it.

const body = document.body;
const byId = (id) => document.getElementById(id);

/* Live numbers: cells are found by row and name. */

const HISTORY_MS = 5 * 60 * 1000;
let source = null;
let rows = new Map();
let expected = 0;

function index() {
  rows = new Map();
  for (const row of document.querySelectorAll("main [data-k]")) {
    const all = rows.get(row.dataset.k) ?? [];
    all.push(row);
    rows.set(row.dataset.k, all);
  }
  expected = Number(body.dataset.count);
}

function pulse(state, text) {
  const pulse = byId("pulse");
  if (pulse.dataset.state !== state || pulse.textContent !== text) {
    pulse.dataset.state = state;
    pulse.textContent = text;
  }
}

function update(event) {
  for (const [key, cells] of Object.entries(event.rows)) {
    for (const row of rows.get(key) ?? []) {
      for (const cell of row.querySelectorAll("[data-f]")) {
        const text = cells[cell.dataset.f];
        if (text === undefined || text === cell.textContent) continue;
        cell.textContent = text;
        cell.classList.toggle("zero", text === "0");
      }
    }
  }
  for (const [key, paused] of Object.entries(event.paused)) {
    for (const row of rows.get(key) ?? []) row.classList.toggle("is-paused", paused);
  }
  chart(event.now);
  const troubled = event.troubled;
  if (troubled) pulse("troubled", `Live, ${troubled} node${troubled > 1 ? "s" : ""} in trouble`);
  else pulse("live", "Live");
  // Something has come or gone: what is on the page is no longer all there is.
  if (expected !== event.count) reload();
  expected = event.count;
}

function watch() {
  source?.close();
  source = null;
  if (!body.dataset.live || document.hidden) return;
  source = new EventSource(body.dataset.live);
  source.onmessage = (message) => update(JSON.parse(message.data));
  let lost = null;
  source.onopen = () => clearTimeout(lost);
  source.onerror = () => {
    // It connects again by itself, as it does every minute.
    clearTimeout(lost);
    lost = setTimeout(() => pulse("lost", "Not live"), 4000);
    if (source.readyState === EventSource.CLOSED) setTimeout(watch, 5000);
  };
}

document.addEventListener("visibilitychange", watch);
addEventListener("pagehide", () => source?.close());
addEventListener("pageshow", (event) => { if (event.persisted) watch(); });

/* Charts: the last minutes, kept for this tab so that they survive going from page to page. */

const SVG = "http://www.w3.org/2000/svg";

function history() {
  try {
    return JSON.parse(sessionStorage.getItem(`chart ${body.dataset.live}`)) ?? [];
  } catch {
    return [];
  }
}

function chart(now) {
  const charts = document.querySelectorAll("main [data-chart]");
  if (charts.length === 0) return;
  const at = Date.now();
  const past = history().filter((point) => at - point.at < HISTORY_MS);
  past.push({ at, ...now });
  try {
    sessionStorage.setItem(`chart ${body.dataset.live}`, JSON.stringify(past));
  } catch {
    sessionStorage.clear();
  }
  for (const tile of charts) draw(tile, past, at);
}

function draw(tile, past, now) {
  const name = tile.dataset.chart;
  const points = past.filter((point) => typeof point[name] === "number");
  const svg = tile.querySelector("svg");
  if (points.length < 2) return;
  const top = Math.max(...points.map((point) => point[name]), 1e-9);
  const from = Math.min(points[0].at, now - 10 * 1000);
  const x = (point) => (120 * (point.at - from) / (now - from)).toFixed(1);
  const y = (point) => (31 - 27 * point[name] / top).toFixed(1);
  const line = points.map((point, i) => `${i ? "L" : "M"}${x(point)} ${y(point)}`).join("");
  const area = `${line}L120 32L${x(points[0])} 32Z`;
  const path = (kind, d) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", kind);
    path.setAttribute("d", d);
    return path;
  };
  svg.replaceChildren(path("area", area), path("line", line));
}

/* Parts of a page are exchanged for those of its next version. */

let reloading = null;

function reload() {
  clearTimeout(reloading);
  reloading = setTimeout(() => show(location.href, false), 400);
}

async function show(url, remember) {
  if (byId("confirm").open) return;
  const answer = await fetch(url, { headers: { "X-Nsqadmin": "1" } });
  if (!answer.headers.get("content-type")?.startsWith("text/html")) return;
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  const focused = document.activeElement;
  const { id, selectionStart } = focused;
  const typed = focused instanceof HTMLInputElement ? focused.value : null;
  const scrolled = [...document.querySelectorAll("main .scroll")].map((area) => area.scrollLeft);
  byId("main").replaceChildren(...next.getElementById("main").childNodes);
  document.title = next.title;
  body.dataset.count = next.body.dataset.count;
  if (remember) window.history.replaceState(null, "", url);
  document.querySelectorAll("main .scroll").forEach((area, i) => {
    area.scrollLeft = scrolled[i] ?? 0;
  });
  const again = id && byId("main").querySelector(`#${CSS.escape(id)}`);
  if (again) {
    if (typed !== null) again.value = typed;
    again.focus({ preventScroll: true });
    if (typed !== null) again.setSelectionRange(selectionStart, selectionStart);
  }
  prepare();
  const past = history();
  for (const tile of document.querySelectorAll("main [data-chart]")) draw(tile, past, Date.now());
}

/* Finding and sorting without leaving the page. */

let finding = null;

document.addEventListener("input", (event) => {
  const form = event.target.closest("form.find");
  if (!form) return;
  clearTimeout(finding);
  finding = setTimeout(() => find(form), 150);
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("form.find")) {
    event.preventDefault();
    clearTimeout(finding);
    find(form);
  } else if (form.id === "create") {
    event.preventDefault();
    create(form);
  }
});

function find(form) {
  show(`${location.pathname}?${new URLSearchParams(new FormData(form))}`, true);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a.sort, .pager a");
  const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;
  if (link && plain) {
    event.preventDefault();
    show(link.href, true);
  }
  const button = event.target.closest("button.action");
  if (button) ask(button);
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (event.key === "/" && !typing && byId("find")) {
    event.preventDefault();
    byId("find").focus();
  }
});

/* Actions: said first what they will do, with the numbers of that moment; then done. */

const number = new Intl.NumberFormat("en-US", { useGrouping: true });
const spaced = (n) => number.format(n).replaceAll(",", "\u202f");

async function waiting(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(String(answer.status));
  const found = await answer.json();
  const all = (one) => one.depth + (one.in_flight_count ?? 0) + (one.deferred_count ?? 0);
  const channels = (found.channels ?? []).reduce((sum, channel) => sum + all(channel), 0);
  return { own: found.depth, all: all(found) + channels };
}

// The count's place is the last one: what stands before it may be anybody's name.
function withCount(text, count) {
  const at = text.lastIndexOf("{n}");
  return text.slice(0, at) + count + text.slice(at + 3);
}

async function ask(button) {
  const { title, text, count, typed } = button.dataset;
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = count ? withCount(text, "…") : text;
  byId("confirm-error").hidden = true;
  byId("confirm-typed").hidden = true;
  const go = byId("confirm-do");
  go.textContent = button.textContent;
  go.className = button.classList.contains("danger") ? "danger go" : "go";
  go.disabled = Boolean(count);
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue === "do") act(button);
    else button.focus();
  };
  dialog.showModal();
  dialog.querySelector("button[value=cancel]").focus();
  if (!count) return;
  let messages = null;
  try {
    const found = await waiting(count);
    // Emptying a topic touches what waits in it alone.
    messages = button.dataset.method === "POST" ? found.own : found.all;
  } catch {
    // The cluster does not say; that is said.
  }
  byId("confirm-text").textContent =
    withCount(text, messages === null ? "an unknown number of" : spaced(messages));
  if (typed && messages !== 0) {
    byId("confirm-expected").textContent = typed;
    byId("confirm-typed").hidden = false;
    const input = byId("confirm-name");
    input.value = "";
    input.oninput = () => { go.disabled = input.value !== typed; };
    input.focus();
  } else {
    go.disabled = false;
  }
}

async function act(button) {
  const { method, url, body: order, then } = button.dataset;
  button.disabled = true;
  const done = await send(method, url, order || null, `${button.textContent}: done`);
  button.disabled = false;
  if (done && then) {
    sessionStorage.setItem("outcome", byId("outcome").textContent);
    location.assign(then);
  } else {
    await show(location.href, false);
  }
}

async function create(form) {
  const { topic, channel } = Object.fromEntries(new FormData(form));
  const order = JSON.stringify(channel ? { topic, channel } : { topic });
  const what = channel ? `${channel} of ${topic}` : topic;
  if (await send("POST", form.action, order, `${what}: created`)) {
    form.reset();
    await show(location.href, false);
  }
}

async function send(method, url, order, success) {
  try {
    const headers = { "X-Nsqadmin": "1", "Content-Type": "application/json" };
    const answer = await fetch(url, { method, headers, body: order });
    const { message } = await answer.json();
    if (!answer.ok) throw new Error(message);
    say(message || success, message ? "bad" : "good");
    return true;
  } catch (error) {
    say(`It did not work: ${error.message}`, "bad");
    return false;
  }
}

let saying = null;

function say(text, state) {
  const outcome = byId("outcome");
  outcome.dataset.state = state;
  outcome.textContent = text;
  clearTimeout(saying);
  saying = setTimeout(() => { outcome.textContent = ""; }, state === "bad" ? 20000 : 5000);
}

/* The theme is a cookie, so that pages come in it. */

byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  const path = body.dataset.base || "/";
  document.cookie =
    `nsqadmin_theme=${root.dataset.theme}; path=${path}; max-age=31536000; samesite=lax`;
});

function prepare() {
  index();
}

const outcome = sessionStorage.getItem("outcome");
if (outcome) {
  sessionStorage.removeItem("outcome");
  say(outcome, "good");
}
prepare();
watch();
