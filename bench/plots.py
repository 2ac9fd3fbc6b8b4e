# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG, written by hand: bars need no library, and the file stays readable and small."""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape

from bench.tables import number

_COLOURS = {
    "cubbyhole": "#0f766e",
    "shm": "#0f766e",
    "litserve": "#7c3aed",
    "litserve-fast": "#a78bfa",
    "mosec": "#c2410c",
    "fastapi": "#2563eb",
    "bare": "#64748b",
    "sockets": "#2563eb",
    "pipes": "#c2410c",
    "manager": "#7c3aed",
    "zmq": "#ca8a04",
    "cubbyhole-sockets": "#2563eb",
    "cubbyhole-pipes": "#fb923c",
    "cubbyhole-manager": "#a78bfa",
    "cubbyhole-zmq": "#ca8a04",
    "SharedDict": "#0f766e",
    "Manager().dict()": "#7c3aed",
    "lmdb": "#c2410c",
    "UltraDict": "#2563eb",
}
_STYLE = (
    "text{font-family:system-ui,sans-serif;fill:#1f2937}.t{font-size:14px;font-weight:600}.n{font-size:12px}"
    ".v{font-size:12px;fill:#475569}.h{font-size:18px;font-weight:700}.s{font-size:11px;fill:#64748b}"
    "@media(prefers-color-scheme:dark){.bg{fill:#0b1220}text{fill:#e5e7eb}.v,.s{fill:#94a3b8}}"
)
_WIDTH, _BAR, _GAP, _LABEL, _COLUMNS = 470, 18, 6, 118, 2


def _panel(
    x: float, y: float, title: str, note: str, bars: list[tuple[str, dict[str, float]]]
) -> list[str]:
    out = [f'<text class="t" x="{x}" y="{y + 14}">{escape(title)}</text>']
    out.append(f'<text class="s" x="{x}" y="{y + 30}">{escape(note)}</text>')
    top = max((figure["max"] for _, figure in bars), default=1.0) or 1.0
    room = _WIDTH - _LABEL - 110
    for i, (name, figure) in enumerate(bars):
        at = y + 40 + i * (_BAR + _GAP)
        width = max(1.0, room * figure["median"] / top)
        colour = _COLOURS.get(name, "#94a3b8")
        out.append(
            f'<text class="n" x="{x + _LABEL - 8}" y="{at + 13}" text-anchor="end">{escape(name)}</text>'
        )
        out.append(
            f'<rect x="{x + _LABEL}" y="{at}" width="{width:.1f}" height="{_BAR}" rx="3" fill="{colour}"/>'
        )
        low, high = (x + _LABEL + room * figure[k] / top for k in ("min", "max"))
        middle = at + _BAR / 2
        out.append(
            f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#111827" stroke-opacity=".55" stroke-width="1.5"/>'
        )
        end = max(high, x + _LABEL + width) + 8
        out.append(f'<text class="v" x="{end:.1f}" y="{at + 13}">{number(figure["median"])}</text>')
    return out


def sheet(
    title: str,
    subtitle: str,
    panels: list[tuple[str, str, list[tuple[str, dict[str, float]]]]],
    above: list[str] | None = None,
    above_height: float = 0.0,
) -> str:
    """Lay panels of bars out in two columns; a thin line on each bar is min to max."""
    out: list[str] = list(above or [])
    heights = [70.0 + above_height] * _COLUMNS
    for panel in panels:
        column = heights.index(min(heights))
        out += _panel(20 + column * (_WIDTH + 20), heights[column], *panel)
        heights[column] += 40 + len(panel[2]) * (_BAR + _GAP) + 26
    width, height = _COLUMNS * (_WIDTH + 20) + 20, max(heights) + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}">'
        f'<style>{_STYLE}</style><rect class="bg" width="100%" height="100%" fill="#ffffff"/>'
        f'<text class="h" x="20" y="32">{escape(title)}</text><text class="s" x="20" y="52">{escape(subtitle)}</text>'
        + "".join(out)
        + "</svg>\n"
    )


def _subtitle(result: dict[str, Any]) -> str:
    machine = result["machine"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, commit {result['commit'][:8]}, median of "
        f"{result['settings']['repeat']}, line: min to max. {result['command']}"
    )


_SERVER_PANELS = [
    (
        "noop-32",
        "server_cpu_ms",
        "No-op JSON: CPU per request, all processes",
        "ms, less is better",
    ),
    ("noop-32", "requests_per_s", "No-op JSON, 32 connections", "requests/s, more is better"),
    ("noop-128", "requests_per_s", "No-op JSON, 128 connections", "requests/s, more is better"),
    ("noop-1", "p50_ms", "No-op JSON, one connection", "p50 in ms, less is better"),
    ("raw-64k", "requests_per_s", "64 KiB array in and out", "requests/s, more is better"),
    ("raw-4m", "requests_per_s", "4 MiB array in and out", "requests/s, more is better"),
    ("sleep-4", "requests_per_s", "5 ms model, 4 workers", "requests/s of at most 800"),
    ("batch-32", "requests_per_s", "Batches of 32 at 10 ms", "requests/s of at most 3,200"),
    ("stream-16", "chunks_per_s", "Streams, 16 at once", "chunks/s, more is better"),
    ("stream-16", "first_chunk_p50_ms", "Streams, first chunk", "p50 in ms, less is better"),
    ("idle", "idle_percent", "Idle, batching on", "% of a core, less is better"),
    ("noop-32", "pss_mib", "Memory, one worker", "PSS in MiB, less is better"),
    ("start", "start_s", "Start to the first right answer", "s, less is better"),
]
_CHANNEL_PANELS = [
    ("bytes-64-x128", "round_trips_per_s", "64 B, 128 in flight", "round trips/s, more is better"),
    ("bytes-64-x128", "cpu_us", "64 B, CPU per message", "us over both processes, less is better"),
    ("bytes-64-x1", "p50_us", "64 B, one in flight", "p50 in us, less is better"),
    ("bytes-4k-x128", "round_trips_per_s", "4 KiB, 128 in flight", "round trips/s, more is better"),
    (
        "array-4k-x128",
        "round_trips_per_s",
        "float32[1024], 128 in flight",
        "round trips/s, more is better",
    ),
    ("views-64m", "p50_ms", "64 MiB float32, round trip by views", "p50 in ms, less is better"),
    (
        "in-place-64m",
        "p50_ms",
        "64 MiB, written in place, handed over",
        "p50 in ms, less is better",
    ),
    ("look", "look_us", "One entry, read from a third process", "us, less is better"),
]


def _panels(
    result: dict[str, Any], wanted: list[tuple[str, str, str, str]], order: list[str]
) -> list[Any]:
    panels = []
    for workload, figure, title, note in wanted:
        measured = result["summary"].get(workload, {})
        bars = [(n, measured[n][figure]) for n in order if figure in measured.get(n, {})]
        if bars:
            panels.append((title, note, bars))
    return panels


def servers(result: dict[str, Any]) -> str:
    order = result["settings"]["contenders"]
    return sheet("Model servers", _subtitle(result), _panels(result, _SERVER_PANELS, order))


def channels(result: dict[str, Any]) -> str:
    order = result["settings"]["channels"]
    return sheet("Channels", _subtitle(result), _panels(result, _CHANNEL_PANELS, order))


_Series = dict[str, list[tuple[float, float]]]
_UNITS = [(1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")]


def _size(count: float) -> str:
    scale, unit = next((s, u) for s, u in _UNITS if count >= s)
    return f"{count / scale:.0f} {unit}"


def _time(micros: float) -> str:
    if micros >= 1e6:
        return f"{micros / 1e6:g} s"
    return f"{micros / 1e3:g} ms" if micros >= 1e3 else f"{micros:g} us"


def curves(x: float, y: float, title: str, series: _Series) -> list[str]:
    """Draw microseconds against bytes, both logarithmic; a line for each channel."""
    points = [p for line in series.values() for p in line]
    left, right = math.log(min(p[0] for p in points)), math.log(max(p[0] for p in points))
    low = math.floor(math.log10(min(p[1] for p in points)))
    high = math.ceil(math.log10(max(p[1] for p in points)))
    width, height = _WIDTH - 130, 200

    def at(point: tuple[float, float]) -> tuple[float, float]:
        across = (math.log(point[0]) - left) / (right - left or 1)
        up = (math.log10(point[1]) - low) / (high - low or 1)
        return x + 55 + width * across, y + 30 + height * (1 - up)

    out = [f'<text class="t" x="{x}" y="{y + 14}">{escape(title)}</text>']
    for power in range(low, high + 1):
        _, tick = at((math.exp(left), 10.0**power))
        out.append(
            f'<path d="M{x + 55} {tick:.1f}h{width}" stroke="#94a3b8" stroke-opacity=".4"/>'
            f'<text class="s" x="{x + 50}" y="{tick + 4:.1f}" text-anchor="end">{_time(10.0**power)}</text>'
        )
    labelled = 0.0
    for size in sorted({p[0] for p in points}, reverse=True):
        across, _ = at((size, 10.0**low))
        if labelled and labelled - across < 44:
            continue  # no room beside the next larger one
        labelled = across
        out.append(
            f'<text class="s" x="{across:.1f}" y="{y + height + 46}" text-anchor="middle">{_size(size)}</text>'
        )
    ends: list[float] = []
    for name, line in sorted(series.items(), key=lambda item: -max(item[1])[1]):
        colour = _COLOURS.get(name, "#94a3b8")
        path = "L".join("{:.1f} {:.1f}".format(*at(p)) for p in sorted(line))
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        across, up = at(max(line))
        while any(abs(up - other) < 13 for other in ends):
            up += 13  # names of lines that end together stand below each other
        ends.append(up)
        out.append(
            f'<text class="n" x="{across + 6:.1f}" y="{up + 4:.1f}" style="fill:{colour}">{escape(name)}</text>'
        )
    return out


def _by_size(result: dict[str, Any], shape: str, figure: str) -> _Series:
    series: _Series = {}
    for case, contenders in result["summary"].items():
        if case.startswith(f"sizes:{shape}-"):
            size = float(case.rsplit("-", 1)[1])
            for name, figures in contenders.items():
                series.setdefault(name, []).append((size, figures[figure]["median"]))
    return series


_PARTS = (
    ("front_cpu_us", "front", 1.0),
    ("worker_cpu_us", "workers", 0.6),
    ("other_cpu_us", "others (a manager's process)", 0.3),
)


def stacked(x: float, y: float, title: str, bars: dict[str, dict[str, float]]) -> list[str]:
    """Draw CPU per message by process: a bar for each channel, in its colour, paler for each further process."""
    note = "us; from dark to pale: " + ", ".join(label for _, label, _ in _PARTS)
    out = [f'<text class="t" x="{x}" y="{y + 14}">{escape(title)}</text>']
    out.append(f'<text class="s" x="{x}" y="{y + 30}">{escape(note)}</text>')
    top = max(sum(parts.values()) for parts in bars.values()) or 1.0
    room = _WIDTH - _LABEL - 110
    for i, (name, parts) in enumerate(bars.items()):
        at, left = y + 40 + i * (_BAR + _GAP), x + _LABEL
        out.append(
            f'<text class="n" x="{left - 8}" y="{at + 13}" text-anchor="end">{escape(name)}</text>'
        )
        for figure, _, shade in _PARTS:
            width = room * parts.get(figure, 0.0) / top
            out.append(
                f'<rect x="{left:.1f}" y="{at}" width="{width:.1f}" height="{_BAR}" '
                f'fill="{_COLOURS.get(name, "#94a3b8")}" fill-opacity="{shade}"/>'
            )
            left += width
        total = number(sum(parts.values()))
        out.append(f'<text class="v" x="{left + 8:.1f}" y="{at + 13}">{total}</text>')
    return out


def _by_process(result: dict[str, Any], case: str) -> dict[str, dict[str, float]]:
    measured = result["summary"].get(case, {})
    names = [name for name in result["settings"]["channels"] if name in measured]
    keys = [key for key, _, _ in _PARTS]
    return {n: {k: measured[n][k]["median"] for k in keys if k in measured[n]} for n in names}


def article(result: dict[str, Any]) -> str:
    """Plot latency against size on log axes, CPU by process, and bars for what has one figure."""
    order = result["settings"]["channels"]
    wanted = [
        (
            "concurrency:128-in-flight-1-workers",
            "round_trips_per_s",
            "64 B, 128 in flight, 1 worker",
            "round trips/s, more is better",
        ),
        (
            "lag:50-mib",
            "loop_lag_max_ms",
            "Event loop while 50 MiB bodies pass",
            "latest wake-up in ms, less is better",
        ),
        (
            "access:one-urgent",
            "waited_ms",
            "One urgent request behind 1,000",
            "it waited, in ms, less is better",
        ),
        (
            "visibility:worker-killed",
            "answer_after_death_ms",
            "Worker killed",
            "its client has an answer after ms",
        ),
    ]
    drawn: list[str] = []
    shapes = {"bytes": "bytes", "array": "float32 arrays", "nested": "nested data, encoded"}
    cells = [(shape, figure) for shape in shapes for figure in ("p50_us", "cpu_us")]
    shapes["in-place"] = "written in place, handed over, short answer"
    cells.append(("in-place", "p50_us"))
    measured = [(*cell, series) for cell in cells if (series := _by_size(result, *cell))]
    for place, (shape, figure, series) in enumerate(measured):
        what = "round trip, p50" if figure == "p50_us" else "CPU of a round trip, all processes"
        x, y = 20 + (place % 2) * (_WIDTH + 20), 70 + (place // 2) * 270
        drawn += curves(x, y, f"{shapes[shape]}: {what}", series)
    height = 270.0 * ((len(measured) + 1) // 2)
    cells_ = [(f"concurrency:{k}-in-flight-1-workers", k) for k in (1, 128)]
    stacks = [(k, bars) for case, k in cells_ if (bars := _by_process(result, case))]
    for place, (in_flight, bars) in enumerate(stacks):
        title = f"64 B, {in_flight} in flight: CPU of a message by process"
        drawn += stacked(20 + place * (_WIDTH + 20), 70 + height, title, bars)
    if stacks:
        height += 66.0 + max(len(bars) for _, bars in stacks) * (_BAR + _GAP)
    panels = _panels(result, wanted, order)
    served, stores = result.get("servers"), result.get("dict")
    if served:
        shown = {"noop-32", "raw-4m", "stream-16"}
        of_servers = [w for w in _SERVER_PANELS if w[0] in shown and w[1].endswith("_per_s")]
        panels += _panels(served, of_servers, served["settings"]["contenders"])
    if stores:
        panels += _panels(stores, _STORE_PANELS, stores["settings"]["stores"])
    return sheet("The article's claims, measured", _subtitle(result), panels, drawn, height)


_STORE_PANELS = [
    (
        "contention:own-keys",
        "pairs_per_s",
        "4 processes, each its own key, 1 KiB",
        "set+get a second, more is better",
    ),
    (
        "contention:one-key",
        "pairs_per_s",
        "4 processes, one key, 1 KiB",
        "set+get a second, more is better",
    ),
    ("sizes:bytes-64", "get_us", "get of 64 B", "us, less is better"),
    ("sizes:bytes-64", "set_us", "set of 64 B", "us, less is better"),
    ("sizes:array-1048576", "get_us", "get of a 1 MiB array", "us, less is better"),
    ("sizes:array-1048576", "set_us", "set of a 1 MiB array", "us, less is better"),
]


def dictionaries(result: dict[str, Any]) -> str:
    order = result["settings"]["stores"]
    return sheet("Shared dictionaries", _subtitle(result), _panels(result, _STORE_PANELS, order))
