// SPDX-License-Identifier: Apache-2.0
// The table of requests: sorted, filtered, one stop for the Tab key; rows keep their elements while they live.
import { $, bytes, duration, el, pill, setText, WORDS } from "./dom.js";

const ROWS_MOST = 200; // what a person scrolls through, and a browser lays out twice a second

const age = (entry, now) => (entry.ended ?? now) - entry.received;
// Who waits, in the order in which workers will take them: the smallest rank first, of each endpoint's own queue.
function turnsOf(entries) {
  const turns = new Map();
  const last = {};
  const waiting = entries.filter((entry) => entry.state === "ready").map((entry) => [BigInt(entry.rank), entry]);
  waiting.sort(([a, one], [b, other]) => (a < b ? -1 : a > b ? 1 : one.received - other.received));
  for (const [, entry] of waiting) turns.set(entry.id, (last[entry.endpoint] = (last[entry.endpoint] ?? 0) + 1));
  return turns;
}

const left = (entry, now) => (entry.deadline === null || entry.ended !== null ? null : entry.deadline - now);

// name, heading, value to sort by, text, class
const COLUMNS = [
  ["id", "Request", (e) => BigInt(e.id), null, "mono"],
  ["endpoint", "Endpoint", (e, p) => p.about.endpoints[e.endpoint] ?? "", (e, p) => p.about.endpoints[e.endpoint] ?? `${e.endpoint}`, "path"],
  ["state", "State", (e) => WORDS[e.state] ?? e.state, null, ""],
  ["age", "Age", (e, p) => age(e, p.now), (e, p) => duration(age(e, p.now)), "number"],
  ["left", "Left", (e, p) => left(e, p.now) ?? Infinity, (e, p) => duration(left(e, p.now)), "number"],
  ["worker", "Worker", (e) => e.worker ?? -1, (e) => (e.worker === null ? "–" : `${e.worker}`), "number"],
  ["attempt", "Try", (e) => e.attempt, (e) => `${e.attempt}`, "number"],
  ["in", "In", (e) => e.in, (e) => bytes(e.in), "number"],
  ["out", "Out", (e) => e.out, (e) => bytes(e.out), "number"],
  ["chunks", "Chunks", (e) => e.chunks, (e) => (e.chunks ? `${e.chunks}` : "–"), "number"],
  ["class", "Class", (e) => e.class, (e) => e.class || "–", "number"],
  ["turn", "Turn", (e, p, turns) => turns.get(e.id) ?? Infinity, (e, p, turns) => (turns.has(e.id) ? (turns.get(e.id) === 1 ? "next" : `${turns.get(e.id)}`) : "–"), "number"],
];
const ID = /^\d{10,20}$/;
const PATH = 1;
const STATE = 2;

export class Table {
  constructor(picture, open) {
    this.picture = picture;
    this.open = open;
    this.rows = new Map();
    this.sort = { column: "age", down: true };
    this.body = $("#table tbody");
    this.filters = { text: $("#text"), state: $("#state"), endpoint: $("#endpoint"), stuck: $("#stuck") };
    for (const control of Object.values(this.filters)) control.addEventListener("input", () => this.draw());
    this.#head();
    this.filters.text.addEventListener("keydown", (event) => {
      const id = this.filters.text.value.trim();
      if (event.key !== "Enter" || !ID.test(id)) return;
      event.preventDefault(); // or the same key presses the button that closes it
      this.open(id); // also one that is not among those that are shown
    });
    this.body.addEventListener("click", (event) => this.#openRow(event.target.closest("tr")));
    this.body.addEventListener("keydown", (event) => this.#key(event));
    this.body.addEventListener("focusin", (event) => this.#current(event.target.closest("tr")));
  }

  #head() {
    $("#table thead tr").replaceChildren(
      ...COLUMNS.map(([name, heading, , , kind]) =>
        el("th", { scope: "col", class: kind, "data-column": name },
          el("button", { type: "button", onclick: () => this.#sortBy(name) }, heading)),
      ),
    );
    this.#mark();
  }

  #sortBy(name) {
    const same = this.sort.column === name;
    this.sort = { column: name, down: same ? !this.sort.down : ["age", "in", "out", "chunks", "attempt"].includes(name) };
    this.#mark();
    this.draw();
  }

  #mark() {
    for (const th of document.querySelectorAll("#table th")) {
      const own = th.dataset.column === this.sort.column;
      if (own) th.setAttribute("aria-sort", this.sort.down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
  }

  #wanted() {
    const { text, state, endpoint, stuck } = this.filters;
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const paths = this.picture.about.endpoints;
    const named = new Map(this.picture.failures.map((one) => [one.id, one.request_id]));
    return Object.values(this.picture.entries).filter((entry) => {
      if (state.value === "live" ? entry.state === "over" : state.value && entry.state !== state.value) return false;
      if (endpoint.value !== "" && entry.endpoint !== Number(endpoint.value)) return false;
      if (stuck.checked && !entry.stuck) return false;
      if (!words.length) return true;
      const worker = entry.worker === null ? "" : `worker ${entry.worker} w${entry.worker}`;
      const parts = [entry.id, paths[entry.endpoint], WORDS[entry.state], entry.state, worker, entry.stuck, entry.failure, entry.status || "",
        entry.cancelled ? "cancelled" : "", `class ${entry.class}`, named.get(entry.id) ?? ""];
      const all = parts.join(" ").toLowerCase();
      return words.every((word) => all.includes(word));
    });
  }

  draw() {
    this.#endpoints();
    const found = this.#wanted();
    const [, , value] = COLUMNS.find(([name]) => name === this.sort.column);
    const turn = this.sort.down ? -1 : 1;
    this.turns = turnsOf(Object.values(this.picture.entries));
    const keyed = found.map((entry) => [value(entry, this.picture, this.turns), entry]);
    keyed.sort(([a, one], [b, other]) => (a < b ? -turn : a > b ? turn : one.received - other.received));
    const shown = keyed.slice(0, ROWS_MOST).map(([, entry]) => entry);
    const focused = this.body.contains(document.activeElement) ? document.activeElement.closest("tr") : null;
    const place = focused ? focused.sectionRowIndex : -1;
    this.#place(shown);
    if (focused && !focused.isConnected) this.#focus(this.body.rows[Math.min(place, this.body.rows.length - 1)]);
    if (this.body.rows.length && !$("tr[tabindex='0']", this.body)) this.body.rows[0].tabIndex = 0;
    this.#say(found.length, shown.length);
  }

  #place(shown) {
    const ids = new Set(shown.map((entry) => entry.id));
    for (const [id, row] of this.rows) {
      if (!ids.has(id)) {
        row.remove();
        this.rows.delete(id);
      }
    }
    shown.forEach((entry, number) => {
      let row = this.rows.get(entry.id);
      if (!row) {
        row = el("tr", { tabindex: "-1", "data-id": entry.id }, ...COLUMNS.map(([, , , , kind]) => el("td", { class: kind })));
        row.cells[0].append(el("span", { class: "much" }, entry.id.slice(0, -7)), entry.id.slice(-7));
        row.cells[PATH].title = this.picture.about.endpoints[entry.endpoint] ?? "";
        this.rows.set(entry.id, row);
      }
      this.#write(row, entry);
      const there = this.body.rows[number];
      if (there !== row) this.body.insertBefore(row, there ?? null);
    });
  }

  #write(row, entry) {
    COLUMNS.forEach(([, , , text], number) => {
      if (text) setText(row.cells[number], text(entry, this.picture, this.turns));
    });
    const gone = entry.cancelled && entry.state === "over"; // one word for what became of it
    const failed = !gone && (entry.failure !== "" || entry.status >= 500);
    const key = `${entry.state}|${entry.cancelled}|${entry.stuck}|${failed}`;
    if (row.dataset.key === key) return;
    row.dataset.key = key;
    row.classList.toggle("stuck", Boolean(entry.stuck));
    row.classList.toggle("over", entry.state === "over");
    row.cells[STATE].replaceChildren(
      ...(gone ? [] : [pill(entry.state, failed)]),
      ...(entry.cancelled ? [el("span", { class: "pill", "data-state": "cancelled" }, "cancelled")] : []),
      ...(entry.stuck ? [el("span", { class: "why" }, entry.stuck)] : []),
    );
  }

  #endpoints() {
    const select = this.filters.endpoint;
    const paths = this.picture.about.endpoints;
    if (select.dataset.paths === paths.join(" ")) return;
    select.dataset.paths = paths.join(" ");
    select.replaceChildren(el("option", { value: "" }, "all"), ...paths.map((path, number) => el("option", { value: `${number}` }, path)));
  }

  #say(found, shown) {
    const { under_way: all, left_out: left } = this.picture;
    const more = left ? `; the youngest ${left} are left out` : "";
    setText($("#count"), `${shown < found ? `the first ${shown} of ` : ""}${found} shown, ${all} under way${more}`);
    const none = $("#none");
    none.hidden = found > 0;
    if (!found) setText(none, all ? "No request matches these filters." : "Nothing is under way. Choose the state “finished” to look back.");
  }

  #current(row) {
    if (!row) return;
    for (const other of this.body.querySelectorAll("tr[tabindex='0']")) other.tabIndex = -1;
    row.tabIndex = 0;
  }

  #focus(row) {
    if (!row) return;
    this.#current(row);
    row.focus();
  }

  #openRow(row) {
    if (!row) return;
    this.#current(row);
    this.open(row.dataset.id);
  }

  #key(event) {
    const row = event.target.closest("tr");
    if (!row) return;
    const rows = this.body.rows;
    const moves = {
      ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling,
      Home: rows[0], End: rows[rows.length - 1],
      PageDown: rows[Math.min(row.sectionRowIndex + 10, rows.length - 1)], PageUp: rows[Math.max(row.sectionRowIndex - 10, 0)],
    };
    if (event.key in moves) {
      event.preventDefault();
      this.#focus(moves[event.key]);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#openRow(row);
    }
  }
}
