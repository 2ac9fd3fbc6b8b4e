# SPDX-License-Identifier: Apache-2.0
"""The faults: each is a function that has a fresh server to itself and tells what the clients saw.

Flow:  faults_command.py -> **FAULTS** -> fault_client.py
Owns:  nothing; the server is the command's.
"""

from __future__ import annotations

import collections
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.fault_client import Asking, Seen, ask
from bench.processes import tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.contenders import Serving

GOOD = {"input": 3}
NOTICE_S = 3.0  # how long orphans have to notice that their parent is gone
BURST, BURST_SLEEP_S = 300, 0.1


@dataclass(frozen=True)
class Fault:
    """`server` is the kind of server that it needs: see bench/servers/fault_apis.py."""

    name: str
    title: str
    server: str
    run: Callable[[Serving], dict[str, Any]]


def _ask(serving: Serving, body: Any, **named: Any) -> Seen:
    return ask(serving.port, serving.contender.path, body, **named)


def _start(serving: Serving, body: Any, **named: Any) -> Asking:
    return Asking(serving.port, serving.contender.path, body, **named)


def _with_next(serving: Serving, seen: Seen) -> dict[str, Any]:
    """Add what the next request sees."""
    following = _ask(serving, GOOD)
    return {
        "saw": seen.what,
        "after_s": seen.after_s,
        "next": following.what,
        "next_after_s": following.after_s,
        "text": f"{seen.text()}; the next request: {following.text()}",
    }


def killed_worker(serving: Serving) -> dict[str, Any]:
    return _with_next(serving, _ask(serving, {**GOOD, "do": "kill"}))


def hanging_predict(serving: Serving) -> dict[str, Any]:
    return _with_next(serving, _ask(serving, {**GOOD, "sleep_s": 3600}))


def broken_stream(serving: Serving) -> dict[str, Any]:
    seen = _ask(serving, {**GOOD, "do": "raise"})
    told = b"error" in seen.body.lower() or b"exception" in seen.body.lower()
    words = {True: ", an error in the stream", False: ""}[told]
    if seen.what == "200":
        words += ", a clean end"
    return {
        "saw": seen.what,
        "after_s": seen.after_s,
        "told": told,
        "body": seen.body.decode("latin-1")[:300],
        "text": f"{seen.what}{words}",
    }


def no_json(serving: Serving) -> dict[str, Any]:
    seen = _ask(serving, None, raw=b'{"input": ')
    return {**_with_next(serving, seen), "body": seen.body.decode("latin-1")[:300]}


def bad_item(serving: Serving) -> dict[str, Any]:
    bodies = [{"input": n, **({"do": "raise"} if n == 3 else {})} for n in range(8)]
    asked = [_start(serving, body) for body in bodies]
    counts = collections.Counter(one.result().what for one in asked)
    right = sum(
        one.seen.what == "200" and str(n * n).encode() in one.seen.body
        for n, one in enumerate(asked)
    )
    return {
        "saw": dict(counts),
        "right": right,
        "after_s": max(one.seen.after_s for one in asked),
        "text": f"{right} of 7 good ones answered; " + _listed(counts),
    }


def leavers(serving: Serving) -> dict[str, Any]:
    leaving = [_start(serving, {**GOOD, "sleep_s": 1.0}, leave_s=0.3) for _ in range(5)]
    for one in leaving:
        one.join()
    seen = _ask(serving, GOOD)
    return {"saw": seen.what, "after_s": seen.after_s, "text": f"the next request: {seen.text()}"}


def terminated(serving: Serving) -> dict[str, Any]:
    asked = _start(serving, {**GOOD, "sleep_s": 1.5})
    time.sleep(0.5)  # it is accepted and runs
    begun_s = time.monotonic()
    serving.process.send_signal(signal.SIGTERM)
    seen = asked.result()
    code, left = _end_of(serving, begun_s + 15)
    took_s = time.monotonic() - begun_s
    ended = (
        f"exit code {code} after {took_s:.1f} s" if code is not None else "still there after 15 s"
    )
    return {
        "saw": seen.what,
        "after_s": seen.after_s,
        "exit_code": code,
        "orphans": left,
        "text": f"{seen.text()}; {ended}; {left} processes left",
    }


def burst(serving: Serving) -> dict[str, Any]:
    begun_s = time.monotonic()
    asked = [_start(serving, {**GOOD, "sleep_s": BURST_SLEEP_S}) for _ in range(BURST)]
    counts = collections.Counter(one.result().what for one in asked)
    slowest_s = max(one.seen.after_s for one in asked)
    over_s = time.monotonic() - begun_s
    seen = _ask(serving, GOOD)
    return {
        "saw": dict(counts),
        "after_s": slowest_s,
        "over_s": over_s,
        "next": seen.what,
        "next_after_s": seen.after_s,
        "text": f"{_listed(counts)}; the last after {slowest_s:.1f} s; the next request: {seen.text()}",
    }


def too_large(serving: Serving) -> dict[str, Any]:
    return _with_next(serving, _ask(serving, {**GOOD, "filler": "x" * 10_000_000}))


def killed_main(serving: Serving) -> dict[str, Any]:
    asked = _start(serving, {**GOOD, "sleep_s": 1.5})
    time.sleep(0.5)
    os.kill(serving.process.pid, signal.SIGKILL)
    seen = asked.result()
    time.sleep(NOTICE_S)
    serving.process.wait()
    left = len([pid for pid in tree(serving.process.pid) if pid != serving.process.pid])
    still = _ask(serving, GOOD)
    return {
        "saw": seen.what,
        "after_s": seen.after_s,
        "orphans": left,
        "port": still.what,
        "text": f"{seen.text()}; {NOTICE_S:.0f} s later {left} processes left, the port: {still.what}",
    }


def _end_of(serving: Serving, until_s: float) -> tuple[int | None, int]:
    while serving.process.poll() is None and time.monotonic() < until_s:
        time.sleep(0.01)
    time.sleep(0.2)
    root = serving.process.pid
    return serving.process.poll(), len([pid for pid in tree(root) if pid != root])


def _listed(counts: collections.Counter[str]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in sorted(counts.items()))


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill-worker", "kill -9 of the worker in `predict`", "plain", killed_worker),
        Fault("hang", "`predict` hangs, `timeout` is 2 s", "hasty", hanging_predict),
        Fault("mid-stream", "a generator raises after three values", "stream", broken_stream),
        Fault("bad-json", "the body is no JSON", "plain", no_json),
        Fault("bad-item", "one of a batch of 8 raises in `predict`", "batch", bad_item),
        Fault("leavers", "5 clients leave after 0.3 s of 1 s each, one worker", "plain", leavers),
        Fault("sigterm", "SIGTERM, one request of 1.5 s under way", "plain", terminated),
        Fault(
            "burst", "300 requests of 0.1 s at once, one worker, `timeout` is 2 s", "hasty", burst
        ),
        Fault("too-large", "a body of 10 MB, the limit is 1 MB", "small", too_large),
        Fault("kill-main", "kill -9 of the main process", "plain", killed_main),
    )
}
