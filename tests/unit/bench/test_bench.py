# SPDX-License-Identifier: Apache-2.0
"""The parts of the benchmark that could make a figure wrong: checks of answers, medians, verdicts."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from bench import compare, plots, tables, targets
from bench.job import Job
from bench.load import Question, Run
from bench.processes import cpu_s, tree

from cubbyhole.measuring.tables import percentile

if TYPE_CHECKING:
    from collections.abc import Callable


def job(kind: str, port: int = 1, **more: Any) -> Job:
    return Job(port, "/predict", kind, 1, 0.0, 5.0, **more)


def http(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def chunked(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = [body[i : i + 6] for i in range(0, len(body), 6)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head + framed + b"0\r\n\r\n"


def answer_once_each(reply: Callable[[int], bytes], piece_bytes: int = 1 << 20) -> dict[str, Any]:
    """Serve three answers to the load generator from a thread, `piece_bytes` at a time."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        sock, _ = listener.accept()
        listener.close()  # a client that lost its connection is refused, and ends
        with sock, contextlib.suppress(OSError):
            for turn in range(3):
                sock.recv(65536)
                wire = reply(turn)
                for at in range(0, len(wire), piece_bytes):
                    sock.sendall(wire[at : at + piece_bytes])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    kind = "stream" if reply(0).lower().find(b"chunked") > 0 else "json"
    result = Run(job(kind, port, requests_max=3)).measure()
    thread.join(5)
    return result


def test_right_answers_are_counted_however_they_are_cut() -> None:
    result = answer_once_each(lambda turn: http(b'{"output": %d}' % (4 + turn) ** 2), piece_bytes=7)
    assert result["requests"] == 3


def test_an_answer_of_another_request_is_a_failure() -> None:
    result = answer_once_each(lambda _turn: http(b'{"output": 16.0}'))
    assert result["failures"] >= 2
    assert "wrong answer" in result["example"]


def test_a_status_that_is_not_200_is_a_failure() -> None:
    result = answer_once_each(lambda _turn: http(b'{"output": 16.0}', "500 Internal"))
    assert result["failures"] >= 1


def test_a_stream_that_lacks_a_chunk_is_a_failure() -> None:
    def reply(turn: int) -> bytes:
        first = 1 if turn == 1 else 0
        return chunked(b"".join(b"%05d\n" % ((4 + turn) * 100 + i) for i in range(first, 100)))

    result = answer_once_each(reply, piece_bytes=11)
    assert result["failures"] >= 1


def test_a_raw_answer_must_be_twice_the_question() -> None:
    question = Question(job("raw", size_bytes=4096), 3)
    right = bytearray(question.expected)
    assert question.right(right)
    right[-1] ^= 1
    assert not question.right(right)


def test_failed_runs_are_in_no_median() -> None:
    runs = [
        {"workload": "w", "contender": "a", "failures": 0, "p50_ms": 1.0},
        {"workload": "w", "contender": "a", "failures": 0, "p50_ms": 3.0},
        {"workload": "w", "contender": "a", "failures": 1, "p50_ms": 99.0},
    ]
    figure = tables.summarize(runs)["w"]["a"]["p50_ms"]
    assert figure == {"median": 2.0, "min": 1.0, "max": 3.0, "runs": 2}


@pytest.mark.parametrize(("milliseconds", "reached"), [(0.10, True), (0.11, False)])
def test_a_target_is_judged_by_its_limit(milliseconds: float, reached: bool) -> None:
    figure = {"median": milliseconds, "min": 0.0, "max": 1.0, "runs": 3.0}
    summary = {"noop-32": {"cubbyhole": {"server_cpu_ms": figure}}}
    [verdict] = targets.judge(targets.SERVERS, summary)
    assert verdict["reached"] is reached


def test_compare_marks_what_got_worse() -> None:
    def result(rate: float) -> dict[str, Any]:
        runs = [{"workload": "w", "contender": "a", "failures": 0, "requests_per_s": rate}]
        return {"summary": tables.summarize(runs)}

    [row] = compare.compare(result(100.0), result(50.0), set(), 0.1)
    assert row[-2:] == ["0.50x", "WORSE"]


def test_a_plot_is_well_formed() -> None:
    from xml.etree import ElementTree as ET

    figure = {"median": 2.0, "min": 1.0, "max": 3.0, "runs": 3.0}
    text = plots.sheet("a < b", "c & d", [("title", "note", [("shm", figure)])])
    assert ET.fromstring(text).tag.endswith("svg")  # noqa: S314  (our own text)


def test_percentiles_come_from_the_sorted_values() -> None:
    assert percentile(list(range(100)), 0.99) == 99
    assert percentile([], 0.5) == 0


def test_a_process_is_in_its_own_tree_and_has_used_cpu() -> None:
    assert os.getpid() in tree(os.getpid())
    assert cpu_s(os.getpid()) > 0
