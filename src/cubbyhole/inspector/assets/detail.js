// SPDX-License-Identifier: Apache-2.0
// One request whole: its time line, facts, failure, what it carries, and the two orders.
import { $, bytes, duration, el, pill } from "./dom.js";
import { drawPayload } from "./payload.js";
import { drawTimeline } from "./timeline.js";

const AGAIN_MS = 500; // while it is under way

export class Detail {
  constructor(picture) {
    this.picture = picture;
    this.dialog = $("#detail");
    this.id = null;
    this.timer = 0;
    this.parts = { top: el("div"), orders: el("div", { class: "orders" }), payload: el("div"), failure: el("div") };
    $("#detail-body").append(this.parts.top, this.parts.orders, this.parts.failure, this.parts.payload);
    $("#close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("close", () => {
      clearTimeout(this.timer);
      this.id = null;
      this.from?.isConnected && this.from.focus();
    });
  }

  async open(id) {
    this.from = document.activeElement;
    this.id = id;
    $("#detail-title").textContent = `Request ${id}`;
    this.parts.top.replaceChildren(el("p", { class: "empty" }, "Looking …"));
    for (const name of ["orders", "payload", "failure"]) this.parts[name].replaceChildren();
    if (!this.dialog.open) this.dialog.showModal();
    $("#close").focus();
    await this.#look(true);
  }

  async #look(first) {
    const id = this.id;
    const answer = await fetch(`/api/requests/${id}`).catch(() => null);
    if (this.id !== id) return; // closed, or another one was opened
    if (!answer?.ok) {
      const text = answer ? (await answer.json()).detail : "The inspector does not answer.";
      if (first) this.parts.top.replaceChildren(el("p", { class: "empty" }, text));
      else this.parts.top.append(el("p", { class: "note", role: "status" }, text));
      this.parts.orders.replaceChildren();
      return;
    }
    const found = await answer.json();
    this.#draw(found, first);
    if (found.entry && found.entry.state !== "over") this.timer = setTimeout(() => this.#look(false), AGAIN_MS);
  }

  #draw(found, first) {
    const { entry, failure } = found;
    const about = this.picture.about;
    const path = about.endpoints[entry?.endpoint ?? failure.endpoint] ?? "";
    this.parts.top.replaceChildren(
      el("p", { class: "headline" },
        entry?.cancelled && entry.state === "over" ? null : entry ? pill(entry.state, Boolean(failure) || entry.status >= 500) : pill("failed"),
        el("b", {}, path),
        entry?.cancelled ? el("span", { class: "pill", "data-state": "cancelled" }, "cancelled") : null,
        entry?.stuck ? el("span", { class: "why" }, entry.stuck) : null),
      drawTimeline({ ...found, path }, this.parts.top.clientWidth),
      el("dl", { class: "facts" }, ...facts(found, this.picture).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    );
    if (failure && !this.parts.failure.children.length) this.parts.failure.append(...tell(failure));
    const live = entry && entry.state !== "over";
    if (first) {
      if (live && about.orders) this.#orders(entry);
      if (found.payloads) this.parts.payload.append(...drawPayload(this.id));
    }
    if (!live) this.parts.orders.replaceChildren();
  }

  #orders(entry) {
    const said = el("span", { role: "status", class: "note" });
    const ask = (question, yes, order, body) => {
      const buttons = [...this.parts.orders.children];
      const back = () => this.parts.orders.replaceChildren(...buttons);
      const sure = el("button", { type: "button", class: "danger", onclick: async () => {
        back();
        const answer = await fetch(`/api/requests/${entry.id}/${order}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }).catch(() => null);
        const found = answer ? await answer.json() : {};
        said.textContent = found.text ?? found.detail ?? "The inspector does not answer.";
      } }, yes);
      this.parts.orders.replaceChildren(el("span", { role: "alert" }, question), sure, el("button", { type: "button", onclick: back }, "No"));
      sure.focus();
    };
    const priority = el("select", { id: "priority", "aria-label": "New priority class" },
      ...Array.from({ length: 10 }, (_, number) => el("option", { value: `${number}` }, number === 0 ? "0 (most urgent)" : `${number}`)));
    this.parts.orders.replaceChildren(
      el("button", { type: "button", onclick: () => ask("Cancel this request? Its client gets an error.", "Yes, cancel it", "cancel", {}) }, "Cancel …"),
      ...(entry.state === "ready"
        ? [el("label", {}, "Priority ", priority), el("button", { type: "button", onclick: () => ask(`Move it to class ${priority.value}?`, "Yes, move it", "rerank", { priority: Number(priority.value) }) }, "Move …")]
        : []),
      said,
    );
  }
}

function facts({ entry, failure, now }, picture) {
  const found = [];
  if (entry) {
    const process = picture.processes?.find((one) => one.role === "worker" && one.index === entry.worker);
    found.push(
      [entry.ended === null ? "age" : "took", duration((entry.ended ?? now) - entry.received)],
      entry.deadline !== null && entry.ended === null ? ["time left", duration(entry.deadline - now)] : null,
      ["worker", entry.worker === null ? "–" : `${entry.worker}${process && entry.ended === null ? ` (pid ${process.pid}, ${process.kernel})` : ""}`],
      ["try", `${entry.attempt}${entry.attempt > 1 ? ": an earlier worker died of it or with it" : ""}`],
      ["request", bytes(entry.in)],
      ["answer", `${bytes(entry.out)}${entry.status ? `, status ${entry.status}` : ""}`],
      entry.chunks ? ["chunks", `${entry.chunks}`] : null,
      ["rank", el("span", { title: "The smallest of an endpoint's waiting requests is taken first" }, entry.rank)],
      entry.class ? ["class", entry.class] : null,
    );
  } else {
    found.push(["worker", failure.worker === null ? "–" : `${failure.worker}`], ["try", `${failure.attempt}`]);
  }
  if (failure?.request_id) found.push(["X-Request-ID", failure.request_id]);
  return found.filter(Boolean);
}

function tell(failure) {
  return [
    el("h3", {}, `Failed: ${failure.status} ${failure.code}`),
    failure.message ? el("p", {}, failure.message) : null,
    failure.traceback ? el("pre", { tabindex: "0", "aria-label": "Traceback" }, failure.traceback.trimEnd()) : null,
  ].filter(Boolean);
}
