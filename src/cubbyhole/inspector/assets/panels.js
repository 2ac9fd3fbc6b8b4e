// SPDX-License-Identifier: Apache-2.0
// The panels at the side: queues, processes, time in each phase, failures.
import { $, bytes, count, duration, el, setText, svg } from "./dom.js";

// Rewrites a panel only where what it says changed, and not under the hands of whoever is in it with the keyboard.
function replace(box, key, make) {
  if (box.dataset.key === key) return;
  const active = box.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  box.dataset.key = key;
  box.replaceChildren(...make());
  if (active) box.querySelector(`[data-focus="${CSS.escape(active)}"]`)?.focus();
}

const head = (...names) => el("thead", {}, el("tr", {}, ...names.map(([name, kind]) => el("th", { scope: "col", class: kind ?? "" }, name))));

export function drawQueues(picture) {
  const paths = picture.about.endpoints;
  const rows = picture.queues.map((queue) => ({ ...queue, path: paths[queue.endpoint], age: queue.oldest === null ? "–" : duration(picture.now - queue.oldest) }));
  const most = Math.max(1, ...rows.map((row) => row.waiting));
  replace($("#queues"), JSON.stringify(rows.map(({ oldest, ...row }) => row)), () => [
    head(["Endpoint"], ["Waiting", "number"], ["Running", "number"], ["Oldest", "number"]),
    el("tbody", {}, ...rows.map((row) =>
      el("tr", {},
        el("th", { scope: "row" }, row.path, classes(row.classes),
          el("meter", { min: 0, max: most, value: row.waiting, "aria-label": `${row.waiting} waiting` })),
        el("td", { class: "number" }, count(row.waiting)),
        el("td", { class: "number" }, count(row.running)),
        el("td", { class: "number" }, row.age)))),
  ]);
}

function classes(found) {
  const named = Object.entries(found).filter(([name]) => name !== "");
  if (!named.length) return null;
  return el("small", {}, ...named.map(([name, number]) => el("span", { class: "chip" }, `${name === "deadline" ? "by deadline" : `class ${name}`}: ${number}`)));
}

export function drawProcesses(picture, open) {
  const paths = picture.about.endpoints;
  replace($("#processes"), JSON.stringify(picture.processes), () => [
    head(["Process"], ["CPU", "number"], ["Memory", "number"], ["Holds"]),
    el("tbody", {}, ...picture.processes.map((one) => {
      const ill = one.kernel === "dead" || one.kernel === "stopped" || one.state === "error";
      const notes = [
        one.state !== "ready" ? one.state : null,
        ["stopped", "dead", "traced"].includes(one.kernel) ? one.kernel : null,
        one.restarts ? `restarted ${one.restarts}×` : null,
        one.silent_s > 2 ? `no sign for ${one.silent_s} s` : null,
      ].filter(Boolean);
      return el("tr", { class: ill ? "ill" : "" },
        el("th", { scope: "row" },
          el("i", { class: "dot", "data-state": ill ? "bad" : one.state === "ready" ? "good" : "waits" }),
          `${one.role} ${one.index}`, el("small", {}, [`pid ${one.pid || "–"}`, one.endpoint === null ? null : paths[one.endpoint], one.device || null, ...notes].filter(Boolean).join(" · "))),
        el("td", { class: "number" }, `${one.cpu} %`),
        el("td", { class: "number" }, one.bytes ? bytes(one.bytes) : "–"),
        el("td", {}, one.holds.length
          ? [el("button", { type: "button", class: "link mono", "data-focus": `${one.role}${one.index}`, onclick: () => open(one.holds[0]) }, `…${one.holds[0].slice(-6)}`), one.held > 1 ? el("small", {}, `and ${one.held - 1} more`) : null]
          : "–"));
    })),
  ]);
}

const EDGES = Array.from({ length: 31 }, (_, step) => 0.1 * 10 ** (step / 5));
const PHASES = [["queue", "Waiting"], ["run", "Running"], ["total", "From arrival to answer"]];
let chosen = 0;

export function drawSpans(picture) {
  const select = $("#span-endpoint");
  const paths = picture.about.endpoints;
  replace(select, paths.join(" "), () => paths.map((path, number) => el("option", { value: `${number}` }, path)));
  select.hidden = paths.length < 2;
  select.onchange = () => {
    chosen = Number(select.value);
    drawSpans(picture);
  };
  const here = picture.spans.filter((span) => span.endpoint === chosen);
  replace($("#spans"), JSON.stringify([chosen, here]), () => (here.length
    ? PHASES.map(([phase, label]) => histogram(here.find((span) => span.phase === phase), phase, label))
    : [el("p", { class: "empty" }, "Nothing finished since the inspector looks.")]));
}

const WIDTH = 300;
const DEEP = 64;

function histogram(span, phase, label) {
  const most = Math.max(1, ...span.counts);
  const step = WIDTH / span.counts.length;
  const bars = span.counts.map((number, at) => (number
    ? svg("rect", { class: phase, x: at * step + 1, width: step - 2, y: DEEP - Math.max(1.5, DEEP * (number / most)), height: Math.max(1.5, DEEP * (number / most)) },
        svg("title", {}, `${number} up to ${at < EDGES.length ? duration(EDGES[at]) : "more"}`))
    : null));
  return el("figure", {},
    el("figcaption", {}, el("b", {}, label), el("span", {}, `${count(span.total)} requests`)),
    svg("svg", { viewBox: `0 0 ${WIDTH} ${DEEP + 14}`, role: "img", "aria-label": `${label}: half of ${span.total} within ${duration(span.p50)}, 99 % within ${duration(span.p99)}` },
      svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: DEEP, y2: DEEP }), ...scale(step), ...bars.filter(Boolean)),
    el("p", { class: "note" }, `50 % ${duration(span.p50)} · 90 % ${duration(span.p90)} · 99 % ${duration(span.p99)}`));
}

function scale(step) {
  const marks = [["1 ms", 5], ["10 ms", 10], ["0.1 s", 15], ["1 s", 20], ["10 s", 25]];
  return marks.flatMap(([text, at]) => [
    svg("line", { class: "grid", x1: (at + 1) * step, x2: (at + 1) * step, y1: 0, y2: DEEP }),
    svg("text", { class: "axis", x: (at + 1) * step, y: DEEP + 12, "text-anchor": "middle" }, text),
  ]);
}

export function drawFailures(picture, open) {
  const list = $("#failures");
  const last = picture.failures.slice(-12).reverse();
  replace(list, JSON.stringify(last), () => (last.length
    ? last.map((one) => el("li", {},
        el("button", { type: "button", "data-focus": one.id, onclick: () => open(one.id) },
          el("span", { class: "pill", "data-state": "failed" }, `${one.status}`),
          el("b", {}, one.code), el("small", { class: "ago", "data-failed": one.failed }),
          el("span", { class: "message" }, `${picture.about.endpoints[one.endpoint] ?? ""}${one.worker === null ? "" : `, worker ${one.worker}`}${one.message ? `: ${one.message}` : ""}`))))
    : [el("li", { class: "empty" }, "None are kept.")]));
  for (const node of list.querySelectorAll(".ago")) setText(node, ago(picture.now - Number(node.dataset.failed)));
}

const ago = (ms) => (ms < 1000 ? "now" : ms < 60_000 ? `${Math.floor(ms / 1000)} s ago` : `${duration(ms)} ago`);
