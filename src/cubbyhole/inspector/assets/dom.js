// SPDX-License-Identifier: Apache-2.0
// Elements and words: data becomes text, never markup.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const $ = (selector, from = document) => from.querySelector(selector);

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Rewrites a panel only where what it says changed, and not under the hands of whoever is in it with the keyboard.
export function replace(box, key, make) {
  if (box.dataset.key === key) return;
  const active = box.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  box.dataset.key = key;
  box.replaceChildren(...make());
  if (active) box.querySelector(`[data-focus="${CSS.escape(active)}"]`)?.focus();
}

export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  const sign = ms < 0 ? "−" : "";
  const size = Math.abs(ms);
  if (size < 0.9995) return `${sign}${Math.round(size * 1000)} µs`;
  if (size < 100) return `${sign}${size.toFixed(1)} ms`;
  if (size < 1000) return `${sign}${size.toFixed(0)} ms`;
  if (size < 60_000) return `${sign}${(size / 1000).toFixed(1)} s`;
  const seconds = Math.floor(size / 1000);
  if (seconds < 3600) return `${sign}${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86_400) return `${sign}${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${sign}${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

export function bytes(count) {
  if (!count) return "0";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${unit && count < 10 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

export const count = (number) => (number >= 10_000 ? `${(number / 1000).toFixed(1)} k` : number < 10 && number % 1 ? number.toFixed(1) : `${Math.round(number)}`);

export const WORDS = {
  writing: "arriving", ready: "waiting", claimed: "running", streaming: "streaming",
  done: "answered", failed: "failed", over: "finished",
};

export function pill(state, failed = false) {
  return el("span", { class: "pill", "data-state": failed ? "failed" : state }, failed && state === "over" ? "failed" : WORDS[state] ?? state);
}
