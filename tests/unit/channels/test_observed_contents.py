# SPDX-License-Identifier: Apache-2.0
"""What an observer can copy of an entry's content, and what it never gets."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.unit.inspector.stage import SIZES, Stage, stage

from cubbyhole.channels.shm import SharedMemoryChannel
from cubbyhole.core.entries import RequestEntry, RequestMeta, Result, ResultMeta
from cubbyhole.core.errors import ChannelFull

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = b"0123456789abcdef" * 4096


@pytest.fixture
def staged() -> Iterator[Stage]:
    with stage() as made:
        yield made


@pytest.mark.parametrize("body", [b"", b"small", LARGE])
def test_a_request_is_read_while_it_waits_and_runs(staged: Stage, body: bytes) -> None:
    request_id = staged.submit(body, RequestMeta("text/plain"))
    for _ in range(2):
        found = staged.attached.payload(request_id)
        assert found is not None
        assert (found.request, found.request_bytes, found.request_type) == (
            body,
            len(body),
            "text/plain",
        )
        assert found.result is None
        if _ == 0:
            held = staged.claim()
    assert held.id == request_id


def test_a_result_is_read_until_its_front_took_it(staged: Stage) -> None:
    request_id = staged.submit(b"small")
    meta = msgspec.msgpack.encode(ResultMeta("text/csv"))
    staged.worker.publish(staged.claim(), Result(LARGE, 201, meta))
    found = staged.attached.payload(request_id)
    assert found is not None
    assert (found.result, found.status, found.result_type) == (LARGE, 201, "text/csv")
    kept = staged.front.collect()
    found = staged.attached.payload(request_id)
    assert found is not None
    assert found.result is None
    assert found.request == b"small"  # it lies in the slot, which nobody has used again
    del kept


def test_a_large_request_that_is_over_is_gone(staged: Stage) -> None:
    request_id = staged.submit(LARGE)
    staged.worker.publish(staged.claim(), Result(b"1"))
    staged.front.collect()
    found = staged.attached.payload(request_id)
    assert found is not None
    assert found.request is None


def test_a_slot_that_is_used_again_gives_nothing_of_its_last_request(staged: Stage) -> None:
    first = staged.submit(b"first")
    staged.worker.publish(staged.claim(), Result(b"1"))
    staged.front.collect()
    staged.submit(b"second")
    assert staged.attached.payload(first) is None


def test_a_refused_request_does_not_pass_for_the_last_one_of_its_slot(staged: Stage) -> None:
    """Its meta is written over the old bytes before the arena turns out to be full."""
    first = staged.submit(b"first", RequestMeta("text/plain"))
    staged.worker.publish(staged.claim(), Result(b"1"))
    staged.front.collect()
    held = []
    with contextlib.suppress(ChannelFull):  # the last part of the arena is kept for answers
        held += [staged.front.reserve(1 << 20) for _ in range(52)]
    with pytest.raises(ChannelFull):
        staged.submit(b"x" * (16 << 20), RequestMeta("a/b"))
    found = staged.attached.payload(first)
    assert found is None
    assert staged.channel.find(first) is None
    del held


def test_what_is_copied_is_bounded(staged: Stage) -> None:
    request_id = staged.submit(LARGE)
    found = staged.attached.payload(request_id, limit_bytes=10)
    assert found is not None
    assert (found.request, found.request_bytes) == (LARGE[:10], len(LARGE))


def test_unknown_ids_give_nothing(staged: Stage) -> None:
    assert staged.attached.payload(5) is None


def _serve_for_ever(channel: SharedMemoryChannel) -> None:
    """Send bodies that say whose they are, through a front and a worker in one process."""
    front: Any = channel.front(0)
    worker: Any = channel.worker(0, 0)
    number, parent = 1, os.getppid()
    while os.getppid() == parent:  # ends with the test, however that ends
        number += 1
        body = number.to_bytes(8, "little") * (4 if number % 2 else 8192)
        front.submit(RequestEntry(number, 0, body))
        (claimed,) = worker.claim(1, 0)
        worker.publish(claimed, Result(body))
        del claimed
        front.collect()


def test_no_copy_ever_mixes_two_requests() -> None:
    """The observer copies while another process uses slots and blocks again and again."""
    channel = SharedMemoryChannel.create(SIZES)
    pid = os.fork()
    if pid == 0:
        try:
            _serve_for_ever(channel)
        finally:
            os._exit(1)
    looks = seen = 0
    try:
        while looks < 200_000 and seen < 3000:
            looks += 1
            for entry in channel.snapshot(past=True)[:1]:
                found = channel.contents(entry.id, 1 << 20)
                for part in (found[0], found[3]) if found else ():
                    if part:
                        seen += 1
                        assert part == entry.id.to_bytes(8, "little") * (len(part) // 8)
            assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        channel.close()
    assert seen >= 100
