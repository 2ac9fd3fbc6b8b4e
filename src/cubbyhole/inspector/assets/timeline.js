// SPDX-License-Identifier: Apache-2.0
// The way of one request through the processes: a lane for each place it was in, an arrow for each hand-over.
import { duration, svg } from "./dom.js";

const NARROW = 480;
const RIGHT = 16;
const LANE = 46;
const TOP = 26;
const BAR = 18;

// `width`: of the place where it is shown, so that its words keep their size.
// received, ready, claimed, first chunk, done: ms of the server's clock, 0 where it did not come to that
export function drawTimeline({ times, now, entry, failure, path }, width) {
  const wide = Math.max(300, Math.floor(width));
  const narrow = wide < NARROW;
  const left = narrow ? 104 : 146;
  const [received, ready, claimed, first, done] = times;
  const over = entry === undefined || entry.state === "over";
  const end = done || (failure ? failure.failed : over ? Math.max(...times) : now);
  const answered = Math.max(done, failure?.failed ?? 0);
  const stop = Math.max(end, answered, done && !over ? now : 0, received + 0.001);
  const deadline = entry?.deadline ?? null;
  const late = deadline !== null && deadline > received && deadline < received + (stop - received) * 1.4;
  const span = (Math.max(stop, late ? deadline : 0) - received) * 1.04;
  const x = Object.assign((time) => left + ((wide - left - RIGHT) * (time - received)) / span, { most: wide });
  const front = `front ${entry?.front ?? ""}`.trim();
  const worker = entry?.worker ?? failure?.worker ?? null;
  const lanes = [front, narrow ? "queue" : `queue ${path}`, worker === null ? (claimed ? "worker" : "worker –") : `worker ${worker}`, narrow ? "answer" : `${front}, answer`];
  const y = (lane) => TOP + lane * LANE + LANE / 2;
  const failed = Boolean(failure) || (entry?.status ?? 0) >= 500 || Boolean(entry?.failure);
  const ends = (time) => time || (over ? end : now);

  const bars = [
    bar(x, y, 0, received, ready || ends(0), "arrival", "arrives", !ready && !over),
    ready && bar(x, y, 1, ready, claimed || (done || ends(0)), "queue", "waits", !claimed && !done && !over),
    claimed && bar(x, y, 2, claimed, first || done || ends(0), "run", failed ? "runs, fails" : "runs", !first && !done && !over, Boolean(first)),
    first && bar(x, y, 2, first, done || ends(0), "stream", `${entry?.chunks ?? ""} chunks`, !done && !over),
    first && bar(x, y, 3, first, done || ends(0), "collect", "sent as they come", !done && !over),
    done && !over && !first && bar(x, y, 3, done, now, "collect", "to be taken", true),
  ].filter(Boolean);
  const hops = [
    [ready, 0, 1, "queued"], [claimed, 1, 2, "claimed"], [first, 2, 3, "first chunk"], [claimed && !first ? done : 0, 2, 3, failed ? "failed" : "answered"],
    [!claimed && answered ? answered : 0, 1, 3, failed ? "failed" : "answered"],
  ].filter(([time]) => time);
  const height = TOP + lanes.length * LANE + 24;
  return svg("svg", { class: "timeline", viewBox: `0 0 ${wide} ${height}`, role: "img", "aria-label": describe(times, now, over, failed) },
    svg("defs", {}, svg("marker", { id: "tip", viewBox: "0 0 6 6", refX: 5, refY: 3, markerWidth: 6, markerHeight: 6, orient: "auto" }, svg("path", { class: "tip", d: "M0 0L6 3L0 6z" }))),
    ...lanes.flatMap((name, lane) => [
      svg("rect", { class: lane % 2 ? "lane" : "lane even", x: 0, y: y(lane) - LANE / 2, width: wide, height: LANE }),
      svg("text", { class: "who", x: 8, y: y(lane) + 4 }, ...shortened(name, narrow ? 13 : 20)),
    ]),
    ...axis(x, span, received, height, Math.max(2, Math.min(5, Math.floor((wide - left) / 90)))),
    late ? svg("g", { class: "deadline" }, svg("line", { x1: x(deadline), x2: x(deadline), y1: TOP, y2: height - 24 }), svg("text", { x: x(deadline) - 4, y: TOP + 10, "text-anchor": "end" }, "deadline")) : null,
    ...bars,
    ...hops.map(([time, from, to, word]) => hop(x(time), y(from), y(to), word, time - received)),
    svg("circle", { class: "event", cx: x(received), cy: y(0), r: 4 }, svg("title", {}, "received")),
    over && answered ? svg("g", {}, svg("circle", { class: failed ? "event bad" : "event good", cx: x(answered), cy: y(3), r: 5 }), first ? null : svg("text", { class: "word", x: x(answered) - 9, y: y(3) + 4, "text-anchor": "end" }, failed ? `failed after ${duration(answered - received)}` : `sent after ${duration(answered - received)}`)) : null,
  );
}

const shortened = (name, most) => (name.length > most ? [svg("title", {}, name), `${name.slice(0, most - 1)}…`] : [name]);

function bar(x, y, lane, from, to, kind, word, open, followed = false) {
  const start = x(from);
  const width = Math.max(2.5, x(to) - start);
  const text = `${word} ${duration(to - from)}`;
  const inside = width > text.length * 6.6;
  const right = start + width + 6;
  const after = right + text.length * 6.4 < x.most;
  return svg("g", { class: `bar ${kind}${open ? " open" : ""}` },
    svg("rect", { x: start, y: y(lane) - BAR / 2, width, height: BAR, rx: 3 }, svg("title", {}, text)),
    followed && !inside ? null : svg("text", { class: inside ? "in" : "word", x: inside ? start + width / 2 : after ? right : start - 6, y: y(lane) + 4, "text-anchor": inside ? "middle" : after ? "start" : "end" }, text));
}

function hop(at, from, to, word, after) {
  return svg("g", { class: "hop" },
    svg("line", { x1: at, x2: at, y1: from + BAR / 2 - 2, y2: to - BAR / 2 - 1, "marker-end": "url(#tip)" }),
    svg("title", {}, `${word} after ${duration(after)}`));
}

function axis(x, span, received, height, most) {
  const raw = span / most;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((part) => part * unit).find((size) => size >= raw);
  const marks = [];
  for (let time = 0; time <= span; time += step) {
    const at = x(received + time);
    marks.push(
      svg("line", { class: "grid", x1: at, x2: at, y1: TOP, y2: height - 24 }),
      svg("text", { class: "axis", x: at, y: height - 8, "text-anchor": time ? "middle" : "start" }, time ? label(time, step) : "0"),
    );
  }
  return marks;
}

const label = (time, step) => (step >= 1000 ? `${Math.round(time / 1000)} s` : step >= 100 ? `${(time / 1000).toFixed(1)} s` : step >= 1 ? `${Math.round(time)} ms` : `${time.toFixed(step >= 0.1 ? 1 : 2)} ms`);

function describe([received, ready, claimed, , done], now, over, failed) {
  const parts = [ready && `arrived in ${duration(ready - received)}`, claimed && `waited ${duration(claimed - ready)}`];
  if (claimed) parts.push(done ? `ran ${duration(done - claimed)}` : `runs for ${duration(now - claimed)}`);
  else if (!over) parts.push(`waits for ${duration(now - (ready || received))}`);
  if (failed) parts.push("failed");
  return `Time line: ${parts.filter(Boolean).join(", ")}`;
}
