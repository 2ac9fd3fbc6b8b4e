# SPDX-License-Identifier: Apache-2.0
"""The public suite for loops passes ours and finds what is wrong with others."""

from __future__ import annotations

from typing import Any

import pytest

from cubbyhole.api.lit_api import LitAPI
from cubbyhole.core.entries import Result
from cubbyhole.testing.check_loop import check_loop
from cubbyhole.worker.loops.base import LitLoop, Workplace

EXAMPLES = [({"input": 2}, b'{"output":4}'), ({"input": 3}, b'{"output":6}')]


class Doubling(LitAPI):
    def decode_request(self, request: Any) -> Any:
        return request["input"]

    def predict(self, x: Any) -> Any:
        return x * 2

    def encode_response(self, output: Any) -> Any:
        return {"output": output}


class DoublingBatch(Doubling):
    def predict(self, x: Any) -> Any:
        return [value * 2 for value in x]


class ByRun(LitLoop):
    def run(self, lit_api: Any, *args: Any) -> None:
        item = self.get_request(args[2], True, 0.02)
        if item is None or item[1] is None:
            return
        output = lit_api.encode_response(lit_api.predict(lit_api.decode_request(item[3])))
        self.put_response(args[3], item[0], item[1], output, "OK", "REGULAR")


class Losing(LitLoop):
    """Keeps what it claims."""

    def serve(self, place: Workplace) -> None:
        while not place.stopping.is_set():
            place.claim(1, 0.02)


class Mixing(LitLoop):
    """Gives everybody the same."""

    def serve(self, place: Workplace) -> None:
        while not place.stopping.is_set():
            for entry in place.claim(1, 0.02):
                place.deliver(entry, Result(b'{"output":4}'))


class Deaf(LitLoop):
    """Does not beat."""

    def serve(self, place: Workplace) -> None:
        while not place.stopping.is_set():
            for entry in place.port.claim(1, 0.02):
                place.deliver(entry, place.runner.answer(entry))


def test_our_loops_pass() -> None:
    check_loop(Doubling, EXAMPLES)
    check_loop(lambda: DoublingBatch(max_batch_size=3, batch_timeout=0.001), EXAMPLES)


def test_a_loop_written_for_litserve_passes() -> None:
    check_loop(lambda: Doubling(loop=ByRun()), EXAMPLES)


@pytest.mark.parametrize(
    ("loop", "problem"),
    [
        (Losing, "no answer to request 1"),
        (Mixing, "was answered b'{\"output\":4}' instead of"),
        (Deaf, "does not beat"),
    ],
)
def test_what_is_wrong_is_found(
    loop: type[LitLoop], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cubbyhole.testing.check_loop.WAIT_S", 0.5)
    with pytest.raises(AssertionError, match=problem):
        check_loop(lambda: Doubling(loop=loop()), EXAMPLES)
