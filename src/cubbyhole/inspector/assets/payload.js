// SPDX-License-Identifier: Apache-2.0
// What a request carries; only where the inspector was started to show it, and only when asked for.
import { bytes, el } from "./dom.js";

export function drawPayload(id) {
  const box = el("div", { class: "payload" });
  const button = el("button", { type: "button", onclick: () => show(id, box, false) }, "Show what it carries");
  return [el("h3", {}, "Content"), button, box];
}

async function show(id, box, statistics) {
  const answer = await fetch(`/api/requests/${id}/payload${statistics ? "?statistics" : ""}`).catch(() => null);
  const found = answer ? await answer.json() : { detail: "The inspector does not answer." };
  if (!answer?.ok) return box.replaceChildren(el("p", { class: "empty" }, found.detail));
  const parts = ["request", "result"].filter((name) => found[name]);
  return box.replaceChildren(...parts.map((name) => part(id, name, found[name], () => show(id, box, true))));
}

function part(id, name, content, measure) {
  const size = content.shown_bytes < content.size_bytes ? `the first ${bytes(content.shown_bytes)} of ${bytes(content.size_bytes)}` : bytes(content.size_bytes);
  return el("section", {},
    el("h4", {}, name === "request" ? "Request" : "Answer", el("small", {}, ` ${content.content_type}, ${size}${content.kind === "binary" ? ", as a hex dump" : ""}`)),
    content.kind === "image" ? el("img", { src: `/api/requests/${id}/payload/${name}/image`, alt: `${name} as an image`, loading: "lazy" }) : null,
    content.tensors.length ? tensors(content.tensors, measure) : null,
    content.text ? el("pre", { tabindex: "0", "aria-label": name }, content.text) : null,
    content.cut ? el("p", { class: "note" }, "There is more than is shown.") : null,
    content.kind === "empty" ? el("p", { class: "empty" }, "Nothing.") : null);
}

function tensors(found, measure) {
  const measured = found.some((tensor) => tensor.mean !== null);
  const number = (value) => (value === null ? "–" : Number(value.toPrecision(6)).toString());
  return el("div", {},
    el("table", {},
      el("thead", {}, el("tr", {}, ...["Tensor", "Type", "Shape", ...(measured ? ["Least", "Most", "Mean"] : [])].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, ...found.map((tensor) => el("tr", {},
        el("td", {}, tensor.name || "array"), el("td", { class: "mono" }, tensor.dtype), el("td", { class: "mono" }, `(${tensor.shape.join(", ")})`),
        ...(measured ? [tensor.least, tensor.most, tensor.mean].map((value) => el("td", { class: "mono" }, number(value))) : []))))),
    measured ? null : el("button", { type: "button", onclick: measure }, "Least, most and mean"));
}
