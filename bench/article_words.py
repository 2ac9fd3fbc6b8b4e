# SPDX-License-Identifier: Apache-2.0
"""What the figures of `results/article.json` say, as sentences: every number and every "more" or "less" is computed.

Where another channel beats `shm` the sentence says so by itself; nothing here knows the outcome beforehand.

Flow:  docs.py -> **statements(result, claim)** -> list of Markdown lines
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.contenders import WORKLOADS
from bench.tables import grid, number

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = "shm"
DICTIONARY = "SharedDict"
SERVER = "cubbyhole"  # over shm; the others are named for their channel
_NOISE = 0.10  # below this share a difference is called none
_UNITS = [(1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")]


def medians(result: dict[str, Any], case: str, figure: str) -> dict[str, float]:
    """Return the medians of one figure by channel."""
    contenders = result["summary"].get(case, {})
    return {name: f[figure]["median"] for name, f in contenders.items() if figure in f}


def verdict(
    values: dict[str, float], what: str, unit: str, *, more: bool = False, us: str = OURS
) -> str:
    """Say how `us` stands against the best and the worst of the others; empty if it was not measured or is alone."""
    others = {name: value for name, value in values.items() if name != us}
    if us not in values or not others:
        return ""
    ours = values[us]
    best = (max if more else min)(others, key=lambda name: others[name])
    worst = (min if more else max)(others, key=lambda name: others[name])
    tail = ""
    if worst != best:
        tail = f"; `{worst}` {number(others[worst])} {unit}"
    return (
        f"{what}: `{us}` {number(ours)} {unit}, {_against(ours, best, others[best], unit, more=more)}"
        f"{tail}."
    )


def _against(ours: float, name: str, theirs: float, unit: str, *, more: bool) -> str:
    low, high = sorted((ours, theirs))
    if high <= low * (1 + _NOISE):
        return f"as good as the best of the others, `{name}` with {number(theirs)} {unit}"
    ratio = f" ({number(high / low)} times)" if low else ""
    if (ours > theirs) == more:
        return f"the best; next is `{name}` with {number(theirs)} {unit}{ratio}"
    return f"**beaten by `{name}`** with {number(theirs)} {unit}{ratio}"


def size_text(count: float) -> str:
    scale, unit = next((s, u) for s, u in _UNITS if count >= s)
    return f"{count / scale:.0f} {unit}"


def _lost(what: str, cases: list[str]) -> str:
    return f"{what}: " + (f"**{len(cases)}**, {'; '.join(cases)}." if cases else "none.")


def _sizes(result: dict[str, Any]) -> list[str]:
    cases = [c for c in result["summary"] if c.startswith("sizes:bytes-")]
    ordered = sorted(cases, key=lambda c: int(c.rsplit("-", 1)[1]))
    if not ordered:
        return []
    lines = []
    for case in dict.fromkeys([ordered[0], ordered[-1]]):
        size = size_text(int(case.rsplit("-", 1)[1]))
        lines.append(verdict(medians(result, case, "p50_us"), f"A round trip of {size}", "us"))
        lines.append(verdict(medians(result, case, "cpu_us"), f"CPU for it at {size}", "us"))
    largest = ordered[-1]
    copies = medians(result, largest, "channel_copies")
    if copies:
        told = ", ".join(f"`{name}` {number(value)}" for name, value in copies.items())
        lines.append(
            f"Times that a body's bytes were copied by the channel, there and back: {told}."
        )
    place = f"sizes:in-place-{largest.rsplit('-', 1)[1]}"
    size = size_text(int(largest.rsplit("-", 1)[1]))
    handed = medians(result, place, "p50_us")
    lines.append(
        verdict(handed, f"{size}, written in place and handed over, with a short answer", "us")
    )
    copies = medians(result, place, "channel_copies")
    if copies:
        told = ", ".join(f"`{name}` {number(value)}" for name, value in copies.items())
        lines.append(f"Times that the channel copied these bytes on their way: {told}.")
    lines.append(
        verdict(medians(result, largest, "faults"), "A round trip of the largest", "page faults")
    )
    lost = []
    for case in result["summary"]:
        values = medians(result, case, "p50_us") if case.startswith("sizes:") else {}
        faster = [
            n for n, v in values.items() if OURS in values and v * (1 + _NOISE) < values[OURS]
        ]
        if faster:
            shape, _, size = case.partition(":")[2].rpartition("-")
            lost.append(
                f"{shape} of {size_text(int(size))} ({', '.join(f'`{n}`' for n in faster)})"
            )
    lines.append(_lost("Sizes at which another channel answers sooner than `shm`", lost))
    return lines


def _growth(result: dict[str, Any]) -> list[str]:
    lines = []
    for shape, words in (("bytes", "a round trip"), ("in-place", "handing over in place")):
        before = medians(result, f"sizes:{shape}-64", "p50_us")
        after = medians(result, f"sizes:{shape}-67108864", "p50_us")
        told = [f"`{n}` {number(after[n] / before[n])}" for n in after if before.get(n)]
        if told:
            lines.append(
                f"From 64 B to 64 MiB {words} becomes this many times longer: {', '.join(told)}."
            )
    return lines


def _blocking(result: dict[str, Any]) -> list[str]:
    case = "blocking:stopped-consumer"
    waits = medians(result, case, "producer_wait_max_ms")
    before = medians(result, case, "unrelated_before_per_s")
    during = medians(result, case, "unrelated_during_per_s")
    answered = medians(result, case, "accepted")
    lines = [verdict(waits, "The longest that a producer waited to hand its request over", "ms")]
    kept = [f"`{n}` {number(100 * during[n] / before[n])} %" for n in during if before.get(n)]
    if kept:
        lines.append(
            f"Of the rate of unrelated requests, this went on meanwhile: {', '.join(kept)}."
        )
    short = [f"`{n}` {number(v)}" for n, v in answered.items() if v < 64]
    if answered:
        lines.append(
            "Of the 64 requests to the stopped consumer, all were answered once it went on"
            + (
                f", but for {', '.join(short)}."
                if short
                else ", on every channel that was measured."
            )
        )
    return lines


def _lag(result: dict[str, Any]) -> list[str]:
    case = "lag:50-mib"
    return [
        verdict(
            medians(result, case, "loop_lag_p99_ms"), "The front's event loop is late, p99", "ms"
        ),
        verdict(medians(result, case, "loop_lag_max_ms"), "The latest it was", "ms"),
        verdict(medians(result, case, "p50_ms"), "A round trip of 50 MiB meanwhile", "ms"),
    ]


def _visibility(result: dict[str, Any]) -> list[str]:
    last = {r["contender"]: r for r in result["runs"] if r["workload"].startswith("visibility:")}
    groups: dict[str, list[str]] = {}
    for name, run in last.items():
        if run["seen_after"]:
            word = "its state, owner, age and size are read by a third process after the kill"
        elif run["answered_by_then"]:
            word = "nothing is left to read, as the front noticed the death first and answered"
        else:
            word = "nothing can be read from a third process"
        groups.setdefault(word, []).append(f"`{name}`")
    lines = [f"{', '.join(names)}: {word}." for word, names in groups.items()]
    waits = medians(result, "visibility:worker-killed", "answer_after_death_ms")
    return [*lines, verdict(waits, "From the kill until the client has an answer", "ms")]


def _access(result: dict[str, Any]) -> list[str]:
    before = medians(result, "access:one-urgent", "answered_before_it")
    passed = medians(result, "access:one-slow", "passed_it")
    lines = [
        verdict(
            medians(result, "access:one-urgent", "waited_ms"),
            "One urgent request behind 1,000 others waited",
            "ms",
        )
    ]
    if before:
        told = ", ".join(f"`{name}` {number(value)}" for name, value in before.items())
        lines.append(f"Others that were answered before it: {told}.")
    if passed:
        stuck = [f"`{name}`" for name, value in passed.items() if not value]
        lines.append(
            "Answers pass a slow one, out of order, on "
            + (f"all but {', '.join(stuck)}." if stuck else "every channel that was measured.")
        )
    return lines


def _concurrency(result: dict[str, Any]) -> list[str]:
    lines, lost = [], []
    cases = [c for c in result["summary"] if c.startswith("concurrency:")]
    for case in cases:
        rates = medians(result, case, "round_trips_per_s")
        best = max(rates, key=lambda name: rates[name], default=OURS)
        if OURS in rates and rates[best] > rates[OURS] * (1 + _NOISE):
            lost.append(f"{case.partition(':')[2].replace('-', ' ')} (`{best}`)")
    for case in ("concurrency:1-in-flight-1-workers", "concurrency:128-in-flight-1-workers"):
        words = case.partition(":")[2].replace("-", " ")
        rates = medians(result, case, "round_trips_per_s")
        lines.append(verdict(rates, f"Round trips of 64 B, {words}", "/s", more=True))
    if cases:
        lines.append(
            _lost(f"Of {len(cases)} combinations, those where another channel does more", lost)
        )
    return lines


def _servers(result: dict[str, Any]) -> list[str]:
    served = result.get("servers", {})
    summary = served.get("summary", {})
    lines = []
    for workload, contenders in summary.items():
        if workload not in WORKLOADS:
            continue  # starts, and environments that could not be made
        figure = "chunks_per_s" if workload.startswith("stream") else "requests_per_s"
        unit = "chunks/s" if workload.startswith("stream") else "requests/s"
        rates = {n: f[figure]["median"] for n, f in contenders.items() if figure in f}
        what = WORKLOADS[workload].title
        lines.append(verdict(rates, what, unit, more=True, us=SERVER))
    return lines


def _dict(result: dict[str, Any]) -> list[str]:
    measured = result.get("dict", {})
    if not measured:
        return []
    stores = {"summary": measured["summary"]}
    lines = [f"Not available in this run: {why}." for why in measured["left_out"]]
    for shape, size in (("bytes", 64), ("array", 1 << 20)):
        for figure in ("set", "get"):
            values = medians(stores, f"sizes:{shape}-{size}", f"{figure}_us")
            what = f"{figure} of {size_text(size)}" + (" as an array" if shape == "array" else "")
            lines.append(verdict(values, what, "us", us=DICTIONARY))
    for case, words in (("own-keys", "each on a key of its own"), ("one-key", "all on one key")):
        rates = medians(stores, f"contention:{case}", "pairs_per_s")
        what = f"Four processes, {words}"
        lines.append(verdict(rates, what, "set+get/s", more=True, us=DICTIONARY))
        lost = medians(stores, f"contention:{case}", "lost_writers")
        told = [f"`{name}` {number(value)}" for name, value in lost.items() if value]
        if told:
            lines.append(
                f"Of these four, this many ended with an error or hung: {', '.join(told)}."
            )
    kills = sum(1 for _ in medians(stores, "death:writer-killed", "stuck"))
    for figure, words in (
        ("stuck", "the other processes could not go on"),
        ("torn_or_lost", "a value was torn or lost"),
    ):
        told = [
            f"`{name}` {value:g} of {medians(stores, 'death:writer-killed', 'rounds')[name]:g} times"
            for name, value in medians(stores, "death:writer-killed", figure).items()
            if value
        ]
        if kills:
            lines.append(
                f"After a writer was killed, {words}: " + (", ".join(told) or "with none") + "."
            )
    return lines


_CLAIMS: dict[str, list[Callable[[dict[str, Any]], list[str]]]] = {
    "sizes": [_sizes, _growth],
    "blocking": [_blocking],
    "lag": [_lag],
    "visibility": [_visibility],
    "access": [_access],
    "concurrency": [_concurrency],
    "servers": [_servers],
    "dict": [_dict],
}


def across(result: dict[str, Any], claim: str, figure: str) -> str:
    """Return one figure of a claim as a table: a line for each case, a column for each channel."""
    names = result["settings"]["channels"]
    rows = []
    for case in result["summary"]:
        values = medians(result, case, figure)
        if case.startswith(f"{claim}:") and values:
            label = case.partition(":")[2]
            shape, _, size = label.rpartition("-")
            words = f"{shape}, {size_text(int(size))}" if size.isdigit() else label
            cells = [number(values[n]) if n in values else "-" for n in names]
            rows.append([words.replace("-", " "), *cells])
    return grid(["", *names], rows, markdown=True) if rows else ""


def statements(result: dict[str, Any], claim: str) -> list[str]:
    """Return what the figures say of a claim, as a Markdown list; a claim that was not measured says so."""
    lines = [line for write in _CLAIMS[claim] for line in write(result) if line]
    return [f"- {line}" for line in lines] or ["- Not measured in this run."]


def losses(result: dict[str, Any]) -> list[str]:
    """Return every statement in which another channel is ahead of ours."""
    lines = [line for claim in _CLAIMS for line in statements(result, claim)]
    return [line for line in lines if "**" in line] or ["- None in this run."]
