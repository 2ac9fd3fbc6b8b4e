// SPDX-License-Identifier: Apache-2.0
// The panels at the side: queues, processes, failures.
import { $, bytes, count, duration, el, replace, setText } from "./dom.js";

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
  const plain = picture.processes.every((one) => !one.device || one.device === "cpu"); // nothing to tell them apart by
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
          `${one.role} ${one.index}`, el("small", {}, [`pid ${one.pid || "–"}`, one.endpoint === null ? null : paths[one.endpoint], plain ? null : one.device || null, ...notes].filter(Boolean).join(" · "))),
        el("td", { class: "number" }, `${one.cpu} %`),
        el("td", { class: "number" }, one.bytes ? bytes(one.bytes) : "–"),
        el("td", {}, one.holds.length
          ? [el("button", { type: "button", class: "link mono", "data-focus": `${one.role}${one.index}`, onclick: () => open(one.holds[0]) }, `…${one.holds[0].slice(-6)}`), one.held > 1 ? el("small", {}, `and ${one.held - 1} more`) : null]
          : "–"));
    })),
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
