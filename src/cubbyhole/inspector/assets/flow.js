// SPDX-License-Identifier: Apache-2.0
// The last minute: what came and was answered in each second, and below it how much was under way.
import { count, el, setText, svg } from "./dom.js";

const RATES = { top: 8, height: 96 };
const LOAD = { top: 122, height: 38 };
const HEIGHT = 178;
const LEFT = 38;
const SECONDS = 60;
const LINES = [["arrivals", "arrivals/s"], ["answers", "answers/s"], ["failures", "failures/s"]];

let hovered = null;

const round = (most) => {
  if (most <= 4) return 4;
  const step = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 4, 5, 7.5, 10].map((part) => part * step).find((edge) => edge >= most);
};

export function drawFlow(box, legend, points) {
  const WIDTH = Math.max(280, Math.floor(box.clientWidth));
  const end = points.at(-1)?.at_ms ?? 0;
  const x = (point) => LEFT + (WIDTH - LEFT) * (1 - (end - point.at_ms) / 1000 / SECONDS);
  const kept = points.filter((point) => end - point.at_ms <= SECONDS * 1000);
  const most = round(Math.max(0, ...kept.flatMap((point) => LINES.map(([name]) => point[name]))));
  const load = round(Math.max(0, ...kept.map((point) => point.in_flight)));
  const y = (value) => RATES.top + RATES.height * (1 - value / most);
  const yLoad = (value) => LOAD.top + LOAD.height * (1 - value / load);
  const line = (name) => kept.map((point) => `${x(point).toFixed(1)},${y(point[name]).toFixed(1)}`).join(" ");
  const area = (name, to, base) =>
    kept.length ? `M${x(kept[0])},${base} ${kept.map((point) => `L${x(point).toFixed(1)},${to(point[name]).toFixed(1)}`).join(" ")} L${x(kept.at(-1))},${base}Z` : "";
  const grid = (top, height, value) => [
    svg("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: top, y2: top }),
    svg("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: top + height, y2: top + height }),
    svg("text", { class: "axis", x: LEFT - 6, y: top + 9, "text-anchor": "end" }, count(value)),
    svg("text", { class: "axis", x: LEFT - 6, y: top + height, "text-anchor": "end" }, "0"),
  ];
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Flow of the last minute: at most ${count(most)} requests a second and ${count(load)} under way` },
    ...grid(RATES.top, RATES.height, most), ...grid(LOAD.top, LOAD.height, load),
    svg("path", { class: "area answers", d: area("answers", y, RATES.top + RATES.height) }),
    ...kept.filter((point) => point.failures > 0).map((point) =>
      svg("rect", { class: "failure", x: x(point) - 4, width: 7, y: Math.min(y(point.failures), RATES.top + RATES.height - 3), height: Math.max(3, RATES.top + RATES.height - y(point.failures)) })),
    svg("polyline", { class: "line answers", points: line("answers") }),
    svg("polyline", { class: "line arrivals", points: line("arrivals") }),
    svg("path", { class: "area load", d: area("in_flight", yLoad, LOAD.top + LOAD.height) }),
    svg("polyline", { class: "line load", points: kept.map((point) => `${x(point).toFixed(1)},${yLoad(point.in_flight).toFixed(1)}`).join(" ") }),
    ...(WIDTH < 460 ? [60, 30] : [60, 45, 30, 15]).map((second) => svg("text", { class: "axis", x: LEFT + (WIDTH - LEFT) * (1 - second / SECONDS), y: HEIGHT - 4, "text-anchor": second === 60 ? "start" : "middle" }, `${second} s ago`)),
    svg("text", { class: "axis", x: WIDTH, y: HEIGHT - 4, "text-anchor": "end" }, "now"),
  );
  const hand = svg("line", { class: "hand", y1: RATES.top, y2: LOAD.top + LOAD.height, visibility: "hidden" });
  picture.append(hand);
  const point = () => (hovered === null ? kept.at(-1) : kept.reduce((best, one) => (Math.abs(x(one) - hovered) < Math.abs(x(best) - hovered) ? one : best), kept[0]));
  const read = () => {
    const one = point();
    drawLegend(legend, one);
    if (hovered === null || !one) return hand.setAttribute("visibility", "hidden");
    hand.setAttribute("x1", x(one));
    hand.setAttribute("x2", x(one));
    return hand.setAttribute("visibility", "visible");
  };
  picture.addEventListener("pointermove", (event) => {
    const frame = picture.getBoundingClientRect();
    hovered = ((event.clientX - frame.left) / frame.width) * WIDTH;
    read();
  });
  picture.addEventListener("pointerleave", () => {
    hovered = null;
    read();
  });
  box.replaceChildren(picture);
  read();
}

function drawLegend(legend, point) {
  const items = [...LINES, ["in_flight", "under way"]];
  if (!legend.children.length) legend.append(...items.map(([name, label]) => el("span", { "data-line": name }, el("i"), el("b"), ` ${label}`)));
  items.forEach(([name], number) => setText(legend.children[number].children[1], point ? count(point[name]) : "–"));
}
