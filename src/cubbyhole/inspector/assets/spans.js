// SPDX-License-Identifier: Apache-2.0
// How long requests were in each phase: one bar for where the time goes, and a histogram of each phase.
import { $, count, duration, el, replace, svg } from "./dom.js";

const LABELS = {
  intake: "Arriving", queue: "Waiting", run: "Running", collect: "Answer waits",
  total: "From arrival to answer", "first chunk": "To the first chunk", "batch wait": "Waiting for a batch",
};
const NOTES = { start: "No request has come to an end yet.", minute: "No request came to an end in the last minute." };
const DEEP = 64;
const GAP = 26;
const LEAST = 230; // of a histogram; SYNC with #spans in inspector.css
const DECADES_LEAST = 3;
const chosen = { endpoint: 0, window: "start" };

export function drawSpans(picture) {
  const select = $("#span-endpoint");
  const paths = picture.about.endpoints;
  replace(select, paths.join(" "), () => paths.map((path, number) => el("option", { value: `${number}` }, path)));
  select.hidden = paths.length < 2;
  select.onchange = () => choose(picture, "endpoint", Number(select.value));
  $("#span-window").onchange = (event) => choose(picture, "window", event.target.value);
  const here = picture.spans.find((one) => one.endpoint === chosen.endpoint && one.window === chosen.window);
  const wide = Math.max(LEAST, Math.floor($("#spans").clientWidth));
  replace($("#spans"), JSON.stringify([chosen, here, wide]), () => {
    if (!here?.phases.length) return [el("p", { class: "empty" }, NOTES[chosen.window])];
    const columns = Math.max(1, Math.floor((wide + GAP) / (LEAST + GAP)));
    const width = Math.floor((wide - GAP * (columns - 1)) / columns);
    const range = rangeOf(here.phases, picture.about.edges.length);
    return [
      el("p", { class: "ends" }, ends(here.outcomes)),
      share(here.phases, wide),
      ...here.phases.map((phase) => histogram(phase, picture.about.edges, range, width)),
    ];
  });
}

function choose(picture, what, value) {
  chosen[what] = value;
  drawSpans(picture);
}

const ends = (outcomes) => Object.entries(outcomes).map(([name, number]) => `${count(number)} ${name === "worker_died" ? "lost with their worker" : name}`).join(", ");

// The same bars for all phases, so that they can be compared: from the least to the most, in whole decades (five bars each).
function rangeOf(phases, most) {
  const first = Math.min(...phases.map((one) => one.first));
  const last = Math.max(...phases.map((one) => one.first + one.counts.length - 1));
  const from = Math.floor(first / 5) * 5;
  return [from, Math.min(most, Math.max(from + 5 * DECADES_LEAST, Math.ceil((last + 1) / 5) * 5))];
}

function share(phases, width) {
  let at = 0;
  const parts = phases.filter((one) => one.share).map((one) => {
    const from = at;
    at += one.share * width;
    const wide = Math.max(1, one.share * width - 1);
    const text = `${LABELS[one.phase]} ${Math.round(one.share * 100)} %`;
    return svg("g", {},
      svg("rect", { class: one.phase, x: from, y: 0, width: wide, height: 20, rx: 3 }, svg("title", {}, `${text}, ${duration(one.mean)} of a request on average`)),
      text.length * 7 < wide ? svg("text", { class: "in", x: from + 8, y: 14 }, text) : null);
  });
  return svg("svg", { class: "share", viewBox: `0 0 ${width} 20`, role: "img", "aria-label": `Where the time goes: ${phases.filter((one) => one.share).map((one) => `${LABELS[one.phase]} ${Math.round(one.share * 100)} %`).join(", ")}` }, ...parts);
}

function histogram({ phase, first, counts, total, p50, p90, p99 }, edges, [from, to], width) {
  const most = Math.max(1, ...counts);
  const step = width / (to - from + 1);
  const bars = counts.map((number, index) => {
    if (!number) return null;
    const deep = Math.max(1.5, DEEP * (number / most));
    const at = first + index;
    const upTo = at < edges.length ? `up to ${duration(edges[at])}` : `above ${duration(edges.at(-1))}`;
    return svg("rect", { class: phase.replace(" ", "-"), x: (at - from) * step + 0.5, width: Math.max(1, step - 1.5), y: DEEP - deep, height: deep },
      svg("title", {}, `${count(number)} of ${count(total)} ${upTo}`));
  });
  return el("figure", {},
    el("figcaption", {}, el("b", {}, LABELS[phase]), el("span", {}, count(total))),
    svg("svg", { viewBox: `0 0 ${width} ${DEEP + 16}`, role: "img", "aria-label": `${LABELS[phase]}: half of ${total} within ${duration(p50)}, 99 % within ${duration(p99)}` },
      ...scale(edges, from, to, step), svg("line", { class: "grid", x1: 0, x2: width, y1: DEEP, y2: DEEP }), ...bars.filter(Boolean)),
    el("dl", { class: "parts" }, ...[["50 %", p50], ["90 %", p90], ["99 %", p99]].map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, duration(value))))));
}

// A mark at each power of ten, and no more of them than have room.
function scale(edges, from, to, step) {
  const marks = [];
  const every = Math.max(1, Math.ceil(44 / (5 * step)));
  for (let at = Math.ceil(from / 5) * 5; at < Math.min(to, edges.length); at += 5) {
    const x = (at - from + 1) * step;
    marks.push(svg("line", { class: "grid", x1: x, x2: x, y1: 0, y2: DEEP }));
    if (((at - from) / 5) % every === 0 && x > 14 && at < to - 1) marks.push(svg("text", { class: "axis", x, y: DEEP + 13, "text-anchor": "middle" }, power(edges[at])));
  }
  return marks;
}

const power = (ms) => (ms >= 1000 ? `${ms / 1000} s` : ms >= 1 ? `${ms} ms` : `${Math.round(ms * 1000)} µs`);
