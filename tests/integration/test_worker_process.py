# SPDX-License-Identifier: Apache-2.0
"""A worker process from start to end, over real channels: states, signals, the life line, its exit code."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.conftest import poll_until
from tests.integration.worker_apis import Broken, Marking, Steady, Telling

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.registry import create_channel
from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import RequestEntry, Result
from cubbyhole.core.errors import NativeCoreMissing
from cubbyhole.core.roster import ProcessState, Roster
from cubbyhole.core.settings import EndpointSettings
from cubbyhole.supervise.lifeline import Lifeline
from cubbyhole.worker.main import ORPHANED, WorkerArguments, run_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.api.lit_api import LitAPI


class Bench:
    """One worker process and the front's port, in this process."""

    def __init__(self, kind: str) -> None:
        self.channel = create_channel(kind, ChannelSettings(arena_bytes=1 << 24))
        self.roster = Roster.create(1, 1)
        self.lifeline = Lifeline.create()
        self.front = self.channel.front(0)
        self.process: Any = None
        self._ids = count(1)
        self.answers: dict[int, Any] = {}

    def start(self, lit_api: LitAPI, wait_for: ProcessState = ProcessState.READY) -> None:
        lit_api.pre_setup()
        arguments = WorkerArguments(
            index=0,
            endpoint=0,
            number=3,
            device="cpu",
            lit_api=lit_api,
            settings=EndpointSettings(
                max_batch_size=lit_api.max_batch_size,
                batch_timeout_s=lit_api.batch_timeout,
                is_async=lit_api.enable_async,
            ),
            channel=self.channel,
            roster=self.roster,
            callbacks=[Marking()] if isinstance(lit_api, Telling) else [],
            lifeline=self.lifeline,
            log_level="error",
        )
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=run_worker, args=(arguments,))
        self.process.start()
        poll_until(lambda: self.state is wait_for)

    @property
    def state(self) -> ProcessState:
        return self.roster.state(self.roster.worker_cell(0))

    @property
    def beat_age_s(self) -> float:
        return (now_ns() - self.roster.last_beat_ns(self.roster.worker_cell(0))) / 1e9

    def submit(self, value: Any) -> int:
        request_id = next(self._ids)
        self.front.submit(RequestEntry(request_id, 0, msgspec.json.encode(value)))
        return request_id

    def answer(self, request_id: int) -> Any:
        poll_until(lambda: request_id in self.answers or self.pump(0.1))
        outcome = self.answers.pop(request_id)
        assert isinstance(outcome, Result), outcome
        return msgspec.json.decode(outcome.body)

    def pump(self, wait_s: float = 0.0) -> bool:
        """Do what a front's event loop does; some channels hand out entries there. Always False."""
        select.select([self.front], [], [], wait_s)
        for collected in self.front.collect():
            self.answers[collected.id] = collected.outcome
        return False

    def wait_until_busy(self) -> None:
        """Until an idle worker would have beaten twice."""
        poll_until(lambda: self.pump() or self.beat_age_s > 0.4)

    def exit_code(self, timeout_s: float = 10.0) -> int | None:
        self.process.join(timeout_s)
        code: int | None = self.process.exitcode
        return code

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process.close()
        self.front.close()
        self.channel.close()
        self.roster.close()
        self.lifeline.close()


@pytest.fixture(params=["shm", "sockets"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    try:
        bench = Bench(request.param)
    except NativeCoreMissing as error:
        pytest.skip(str(error))
    yield bench
    bench.close()


def test_a_worker_is_what_user_code_expects(bench: Bench) -> None:
    bench.start(Telling())
    told = bench.answer(bench.submit(1))
    assert told["setup"] == "['cpu', None, 'after']"
    assert (told["device"], told["number"]) == ("cpu", "3")
    assert told["pid"] == bench.process.pid == bench.roster.pid(bench.roster.worker_cell(0))


def test_a_worker_of_plain_json_carries_nothing_heavy(bench: Bench) -> None:
    bench.start(Telling())
    assert bench.answer(bench.submit(1))["heavy"] == ""


def test_sigterm_lets_it_finish_and_exit_with_0(bench: Bench) -> None:
    bench.start(Telling())
    request_id = bench.submit("sleep")
    bench.wait_until_busy()
    os.kill(bench.process.pid, signal.SIGTERM)
    assert bench.answer(request_id) == "slept"
    assert bench.exit_code() == 0
    assert bench.state is ProcessState.FINISHED


def test_an_idle_worker_ends_at_sigterm_and_not_at_sigint(bench: Bench) -> None:
    bench.start(Telling())
    os.kill(bench.process.pid, signal.SIGINT)
    assert bench.answer(bench.submit(1))["number"] == "3"
    os.kill(bench.process.pid, signal.SIGTERM)
    assert bench.exit_code() == 0


def test_a_setup_that_raises_is_an_error_with_exit_code_1(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    bench.start(Broken(), ProcessState.ERROR)
    assert bench.exit_code() == 1
    shown = capfd.readouterr().err
    assert "RuntimeError: no weights here" in shown
    assert shown.count("Traceback") == 1


def test_it_ends_with_the_supervisor_in_the_middle_of_predict(bench: Bench) -> None:
    bench.start(Telling())
    bench.submit("hang")
    bench.wait_until_busy()
    bench.lifeline.let_go()
    assert bench.exit_code(1.0) == ORPHANED


def test_a_heartbeat_is_progress_and_not_life(bench: Bench) -> None:
    bench.start(Telling())
    start_ns = now_ns()
    poll_until(lambda: now_ns() - start_ns > 1_500_000_000)
    assert bench.beat_age_s < 1.0  # idle, but its loop turns
    bench.submit("hang")
    poll_until(lambda: bench.pump() or bench.beat_age_s > 1.5)


def test_batches_come_through(bench: Bench) -> None:
    bench.start(Steady(max_batch_size=8, batch_timeout=0.005))
    ids = [bench.submit(n) for n in range(100)]
    assert [bench.answer(i) for i in ids] == list(range(100))
