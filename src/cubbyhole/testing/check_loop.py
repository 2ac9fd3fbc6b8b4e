# SPDX-License-Identifier: Apache-2.0
"""The contract of loops as a suite: for loops of third parties, and for LitAPIs with loops of their own.

    def test_my_loop():
        check_loop(lambda: MyAPI(loop=MyLoop()), [({"input": 2}, b'{"output":4}')])

Each check runs on a stage of its own and raises `AssertionError` with what the loop did wrong.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import Failure, Result
from cubbyhole.testing.loop_stage import LoopStage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cubbyhole.api.lit_api import LitAPI
    from cubbyhole.testing.loop_stage import Answer

ROUNDS = 8  # of all examples at once
MALFORMED = b"{"
WAIT_S = 10.0


def check_loop(make: Callable[[], LitAPI], examples: Sequence[tuple[Any, bytes]]) -> None:
    """Run the whole suite.

    Args:
        make: Makes a LitAPI with the loop, for each check anew.
        examples: Requests (bytes, or anything that JSON can hold) and the bytes of their whole answers.

    Raises:
        AssertionError: the loop breaks a rule of `worker/loops/base.py`.
    """
    for check in CHECKS:
        with LoopStage(make()) as stage:
            check(stage, examples)


def check_answers(stage: LoopStage, examples: Sequence[tuple[Any, bytes]]) -> None:
    """Every request gets its own answer, many at once."""
    asked = [(stage.submit(body), body, wanted) for body, wanted in list(examples) * ROUNDS]
    for request_id, body, wanted in asked:
        got = whole(stage.answer(request_id, WAIT_S))
        if got != wanted:
            raise AssertionError(f"{body!r} was answered {got!r} instead of {wanted!r}")


def check_failures(stage: LoopStage, examples: Sequence[tuple[Any, bytes]]) -> None:
    """A body that cannot be read is that request's failure only."""
    before = [stage.submit(body) for body, _ in examples]
    malformed = stage.submit(MALFORMED)
    after = [stage.submit(body) for body, _ in examples]
    code = stage.answer(malformed, WAIT_S).failure.code
    if code != "malformed_body":
        raise AssertionError(f"a malformed body was answered {code!r} instead of 'malformed_body'")
    for request_id, (_, wanted) in zip([*before, *after], list(examples) * 2, strict=True):
        if whole(stage.answer(request_id, WAIT_S)) != wanted:
            raise AssertionError("a malformed body changed the answer to another request")


def check_expiry(stage: LoopStage, examples: Sequence[tuple[Any, bytes]]) -> None:
    """A request that is over its deadline is answered so."""
    code = stage.answer(stage.submit(examples[0][0], deadline_ns=now_ns())).failure.code
    if code != "expired":
        raise AssertionError(f"an expired request was answered {code!r} instead of 'expired'")


def check_cancelling(stage: LoopStage, examples: Sequence[tuple[Any, bytes]]) -> None:
    """Whatever is cancelled, nothing of it stays behind."""
    for body, _ in list(examples) * ROUNDS:
        stage.front.cancel(stage.submit(body))
    _wait(lambda: not stage.channel.snapshot(), "cancelled requests are still held")


def check_idling(stage: LoopStage, _examples: Sequence[tuple[Any, bytes]]) -> None:
    """It beats without work, and does not spin."""
    before = stage.beats
    _wait(lambda: stage.beats > before, "an idle loop does not beat")
    used_s, start_s = time.process_time(), time.monotonic()
    _wait(lambda: time.monotonic() - start_s > 0.3, "time stands still")
    share = (time.process_time() - used_s) / (time.monotonic() - start_s)
    if share > 0.5:
        raise AssertionError(f"an idle loop uses {share:.0%} of a core; wait in claim, do not poll")


def check_stopping(stage: LoopStage, examples: Sequence[tuple[Any, bytes]]) -> None:
    """Told to stop, it answers what it has claimed and leaves the rest."""
    for body, _ in list(examples) * ROUNDS:
        stage.submit(body)
    stage.stop(WAIT_S)
    held = [
        entry.id for entry in stage.channel.snapshot() if entry.state in ("CLAIMED", "STREAMING")
    ]
    if held:
        raise AssertionError(f"the loop ended with {len(held)} claimed requests unanswered")


CHECKS = (
    check_answers,
    check_failures,
    check_expiry,
    check_cancelling,
    check_idling,
    check_stopping,
)


def whole(answer: Answer) -> bytes:
    """All bytes of an answer, in chunks or not."""
    if isinstance(answer.outcome, Failure):
        raise AssertionError(f"a request failed: {answer.outcome}")  # noqa: TRY004
    result: Result = answer.outcome
    return b"".join([*answer.chunks, bytes(result.body)])


def _wait(condition: Callable[[], bool], problem: str) -> None:
    give_up_s = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > give_up_s:
            raise AssertionError(f"{problem} after {WAIT_S} s")
        time.sleep(0.002)
