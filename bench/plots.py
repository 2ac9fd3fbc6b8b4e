# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG, written by hand: bars need no library, and the file stays readable and small."""

from __future__ import annotations

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
    title: str, subtitle: str, panels: list[tuple[str, str, list[tuple[str, dict[str, float]]]]]
) -> str:
    """Lay panels of bars out in two columns; a thin line on each bar is min to max."""
    out: list[str] = []
    heights = [70.0] * _COLUMNS
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


def article(result: dict[str, Any]) -> str:
    """Plot latency against size on log axes, and bars for what has one figure."""
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
    return sheet(
        "The article's claims, measured", _subtitle(result), _panels(result, wanted, order)
    )


def dictionaries(result: dict[str, Any]) -> str:
    order = result["settings"]["stores"]
    wanted = [
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
    return sheet("Shared dictionaries", _subtitle(result), _panels(result, wanted, order))
