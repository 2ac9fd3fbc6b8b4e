// SPDX-License-Identifier: Apache-2.0
// The stream of pictures, and who is shown which part of it.
import { $, bytes, count, duration, el, setText } from "./dom.js";
import { drawFlow } from "./flow.js";
import { drawFailures, drawProcesses, drawQueues } from "./panels.js";
import { drawSpans } from "./spans.js";
import { Table } from "./table.js";
import { Detail } from "./detail.js";

const SILENT_MS = 3000; // a picture comes twice a second
const picture = { entries: {}, about: { endpoints: [] } };
const detail = new Detail(picture);
const table = new Table(picture, (id) => detail.open(id));
let paused = false;
let source = null;
let heard = 0;

function take(news, whole) {
  const { entries = {}, gone = [], ...sections } = news;
  if (whole) picture.entries = entries;
  else {
    for (const id of gone) delete picture.entries[id];
    Object.assign(picture.entries, entries);
  }
  Object.assign(picture, sections);
  heard = performance.now();
  if (!paused) draw(new Set(whole ? Object.keys(news) : Object.keys(sections)));
}

function draw(changed) {
  const all = changed === null;
  if (all || changed.has("about")) drawAbout();
  if (all || changed.has("flow")) drawFlow($("#flow"), $("#legend"), picture.flow);
  if (all || changed.has("processes") || changed.has("about")) drawProcesses(picture, (id) => detail.open(id));
  if (all || changed.has("spans") || changed.has("about")) drawSpans(picture);
  drawQueues(picture);
  drawFailures(picture, (id) => detail.open(id));
  drawTiles();
  table.draw();
  say();
}

function drawAbout() {
  const about = picture.about;
  setText($("#about"), `${about.address} · supervisor ${about.pid} · ${about.channel} · version ${about.version}`);
  document.title = `Cubbyhole inspector: ${about.address}`;
}

function drawTiles() {
  const numbers = picture.numbers;
  const last = picture.flow.at(-1) ?? { answers: 0, failures: 0 };
  const waiting = picture.queues.reduce((sum, queue) => sum + queue.waiting, 0);
  const oldest = Math.min(...picture.queues.map((queue) => queue.oldest ?? Infinity));
  const stuck = Object.values(picture.entries).filter((entry) => entry.stuck).length;
  const tiles = [
    ["Under way", count(numbers.slots_used), `of ${count(numbers.slots)} slots`, ""],
    ["Waiting", count(waiting), Number.isFinite(oldest) ? `the oldest for ${duration(picture.now - oldest)}` : "no queue", ""],
    ["Answers", `${count(last.answers)}/s`, `${count(numbers.published_total)} since the start`, ""],
    ["Failures", `${count(last.failures)}/s`, `${count(numbers.failed_total)} since the start`, last.failures ? "bad" : ""],
    ["Stuck", `${stuck}`, stuck ? "see the marked rows" : "nothing looks stuck", stuck ? "bad" : ""],
    ["Payload memory", bytes(numbers.arena_used_bytes), `of ${bytes(numbers.arena_bytes)}, ${count(numbers.blocks_used)} blocks`, ""],
  ];
  const box = $("#tiles");
  if (!box.children.length) {
    box.append(...tiles.map(() => el("div", { class: "tile" }, el("span"), el("strong"), el("small"))));
  }
  tiles.forEach(([name, value, note, tone], number) => {
    const [label, strong, small] = box.children[number].children;
    setText(label, name);
    setText(strong, value);
    setText(small, note);
    box.children[number].dataset.tone = tone;
  });
}

const STATES = { READY: "live", DRAINING: "draining", STARTING: "starting", GONE: "the server has ended" };

function say() {
  const live = $("#live");
  const silent = performance.now() - heard > SILENT_MS;
  const word = paused ? "paused" : silent ? "connection lost" : STATES[picture.state] ?? picture.state ?? "connecting";
  setText(live, word);
  live.dataset.state = paused ? "paused" : silent ? "lost" : picture.state === "READY" ? "live" : "waits";
}

function connect() {
  source?.close();
  source = new EventSource("/api/stream");
  source.addEventListener("whole", (event) => take(JSON.parse(event.data), true));
  source.addEventListener("change", (event) => take(JSON.parse(event.data), false));
  source.addEventListener("error", async () => {
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    const answer = await fetch("/api/snapshot").catch(() => null);
    if (answer?.status === 401) location.reload(); // the session is over: asks for the key
    else setTimeout(connect, 1000);
  });
}

function pause() {
  paused = !paused;
  $("#pause").setAttribute("aria-pressed", `${paused}`);
  setText($("#pause"), paused ? "Go on" : "Pause");
  if (!paused && picture.numbers) draw(null);
  say();
}

function paint(theme) {
  document.documentElement.dataset.theme = theme;
  setText($("#theme"), theme === "dark" ? "Light" : "Dark");
}

const dark = matchMedia("(prefers-color-scheme: dark)");
let chosen = localStorage.getItem("theme");
paint(chosen ?? (dark.matches ? "dark" : "light"));
dark.addEventListener("change", () => chosen ?? paint(dark.matches ? "dark" : "light"));
$("#theme").addEventListener("click", () => {
  chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", chosen);
  paint(chosen);
});
$("#pause").addEventListener("click", pause);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("#detail").open) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    $("#text").focus();
  } else if (event.key === "p" || event.key === "P") pause();
});

// A page that nobody sees costs the inspector nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) source?.close();
  else connect();
});
// Charts are drawn as wide as they are shown, so that their words keep their size.
addEventListener("resize", () => picture.numbers && !paused && draw(null));
setInterval(say, 1000);
connect();
