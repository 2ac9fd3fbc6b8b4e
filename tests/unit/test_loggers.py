# SPDX-License-Identifier: Apache-2.0
"""Users' loggers, in their own process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cubbyhole.api.loggers import Logger, LoggerProcess, LogSink, check_loggers

if TYPE_CHECKING:
    from collections.abc import Callable


class FileLogger(Logger):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def process(self, key: str, value: Any) -> None:
        if key == "raise":
            raise RuntimeError("a logger's own trouble")
        with self.path.open("a") as file:
            file.write(f"{os.getpid()} {key} {value}\n")


class Unpicklable(Logger):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.path = Path(os.environ["CUBBYHOLE_TEST_LOG"])

    def process(self, key: str, value: Any) -> None:
        self.path.write_text(f"{key} {value}")


def log_numbers(sink: LogSink, name: str, count: int) -> None:
    for number in range(count):
        sink.put((name, number))


def log_and_hang(sink: LogSink) -> None:
    sink.put(("hung", 1))
    signal.pause()


@pytest.fixture
def loggers(tmp_path: Path) -> Any:
    process = LoggerProcess([FileLogger(tmp_path / "log")])
    process.start()
    yield process
    process.stop()


def lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]


def test_events_arrive_in_order_in_one_other_process(
    tmp_path: Path, loggers: LoggerProcess
) -> None:
    for number in range(100):
        loggers.sink.put(("loss", number))
    pid = loggers.pid
    loggers.stop()
    assert lines(tmp_path / "log") == [[str(pid), "loss", str(number)] for number in range(100)]
    assert pid != os.getpid()


def test_each_spawned_worker_keeps_its_own_order(tmp_path: Path, loggers: LoggerProcess) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=log_numbers, args=(loggers.sink, name, 500)) for name in ("a", "b")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    loggers.stop()
    for name in ("a", "b"):
        numbers = [int(number) for _, key, number in lines(tmp_path / "log") if key == name]
        assert numbers == list(range(500))


def test_a_failing_logger_costs_only_its_event(tmp_path: Path) -> None:
    process = LoggerProcess([FileLogger(tmp_path / "one"), FileLogger(tmp_path / "two")])
    process.start()
    for event in (("raise", 0), ("good", 1)):
        process.sink.put(event)
    process.stop()
    for name in ("one", "two"):
        assert [line[1] for line in lines(tmp_path / name)] == ["good"]


def test_a_killed_worker_leaves_the_others_logging(
    tmp_path: Path, loggers: LoggerProcess, wait_until: Callable[..., Any]
) -> None:
    path = tmp_path / "log"
    worker = multiprocessing.get_context("spawn").Process(target=log_and_hang, args=(loggers.sink,))
    worker.start()
    wait_until(lambda: path.exists() and "hung" in path.read_text())
    worker.kill()
    worker.join()
    loggers.sink.put(("after", 1))
    loggers.stop()
    assert [line[1] for line in lines(path)] == ["hung", "after"]


def test_a_value_that_cannot_be_pickled_is_told_to_the_caller(loggers: LoggerProcess) -> None:
    with pytest.raises((TypeError, AttributeError)):
        loggers.sink.put(("lock", threading.Lock()))


def test_an_unpicklable_logger_is_made_anew_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBBYHOLE_TEST_LOG", str(tmp_path / "log"))
    process = LoggerProcess([Unpicklable()])
    with pytest.warns(UserWarning, match="Logger Unpicklable is not pickleable and might not work"):
        process.start()
    process.sink.put(("key", "value"))
    process.stop()
    assert (tmp_path / "log").read_text() == "key value"


def test_the_process_ends_by_itself_when_nobody_is_left_to_write(
    tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    """A supervisor that is killed says no stop."""
    process = LoggerProcess([FileLogger(tmp_path / "log")])
    process.start()
    process.sink.put(("last", 1))
    process.sink.close()
    child = process._process
    wait_until(lambda: not child.is_alive())
    assert child.exitcode == 0
    process.stop()
    assert [line[1] for line in lines(tmp_path / "log")] == ["last"]


def test_a_mounted_app_stays_with_the_fronts(tmp_path: Path) -> None:
    logger = FileLogger(tmp_path)
    logger.mount("/metrics", lambda: "an app that cannot be pickled")
    assert [path for path, _ in logger.mounts] == ["/metrics"]
    assert logger.__getstate__()["_mounts"] == ()


def test_a_logger_that_forgets_super_still_mounts() -> None:
    class Forgets(Logger):
        def __init__(self) -> None:
            self.mount("/x", print)

        def process(self, key: str, value: Any) -> None: ...

    assert Forgets().mounts == [("/x", print)]


def test_loggers_are_checked_with_litserves_texts(tmp_path: Path) -> None:
    one = FileLogger(tmp_path)
    assert check_loggers(None) == []
    assert check_loggers(one) == [one]
    assert check_loggers([one]) == [one]
    with pytest.raises(ValueError, match="Logger must be an instance of"):
        check_loggers([one, 1])
    with pytest.raises(ValueError, match="loggers must be a list or an instance of"):
        check_loggers(1)
