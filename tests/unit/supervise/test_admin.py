# SPDX-License-Identifier: Apache-2.0
"""Who is heard by a supervisor, and that nobody can hold it up."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import poll_until

from cubbyhole.core.errors import NotOffered, OperatorUnheard
from cubbyhole.core.operations import (
    REQUEST_BYTES,
    Cancel,
    Done,
    Drain,
    Rerank,
    Roll,
    Scale,
    ask,
    encode_operation,
    socket_address,
)
from cubbyhole.supervise import admin
from cubbyhole.supervise.admin import AdminSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Ear:
    """An admin socket whose turns are driven by a thread, as a pool would."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.socket = AdminSocket.listen(self._answer)
        self.address = self.socket.address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._turn)
        self._thread.start()

    def _answer(self, operation: Any) -> Done:
        self.asked.append(operation)
        if isinstance(operation, Cancel) and operation.id == 13:
            raise NotOffered("over this channel nobody can")
        return Done(ok=True, text="did it", data={"count": len(self.asked)})

    def _turn(self) -> None:
        while not self._stop.wait(0.002):
            self.socket.turn()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.socket.close()


@pytest.fixture
def ear() -> Iterator[Ear]:
    one = Ear()
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def connect(ear: Ear) -> Iterator[Callable[[], socket.socket]]:
    opened: list[socket.socket] = []

    def open_one() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        opened.append(sock)
        sock.connect(socket_address(ear.address))
        sock.settimeout(10)
        return sock

    yield open_one
    for sock in opened:
        sock.close()


@pytest.mark.parametrize(
    "operation", [Cancel(7), Rerank(7, 0), Drain(), Roll(), Scale("/predict", 3), Scale(None, 0)]
)
def test_each_operation_arrives_as_it_was_asked(ear: Ear, operation: Any) -> None:
    assert ask(ear.address, operation) == Done(ok=True, text="did it", data={"count": 1})
    assert ear.asked == [operation]


def test_an_error_of_ours_is_told_to_who_asked(ear: Ear) -> None:
    done = ask(ear.address, Cancel(13))
    assert (done.ok, done.text) == (False, "over this channel nobody can")
    assert done.data == {"code": "not_offered"}


@pytest.mark.parametrize("message", [b"{}", b"drain", b'{"type":"explode"}', b"\x00" * 100])
def test_what_is_no_operation_is_said_to_be_none(
    ear: Ear, connect: Callable[[], socket.socket], message: bytes
) -> None:
    sock = connect()
    sock.send(message)
    assert b"no operation" in sock.recv(65536)
    assert ear.asked == []


def test_a_request_has_a_limit(ear: Ear, connect: Callable[[], socket.socket]) -> None:
    sock = connect()
    sock.send(encode_operation(Drain()) + b" " * REQUEST_BYTES)
    assert b"at most 4096 bytes" in sock.recv(65536)
    assert ear.asked == []


def test_another_user_is_not_heard(
    ear: Ear, connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)  # the kernel tells our uid
    sock = connect()
    assert sock.recv(10) == b""
    with pytest.raises(OperatorUnheard, match="hung up"):
        ask(ear.address, Drain())
    assert ear.asked == []


def test_who_says_nothing_holds_up_nobody_and_is_dropped(
    ear: Ear, connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = [connect() for _ in range(5)]
    assert ask(ear.address, Roll()).ok
    monkeypatch.setattr(admin, "PATIENCE_NS", 0)
    late = connect()
    assert late.recv(10) == b""
    assert [sock.getpeername() for sock in silent]  # these still have their two seconds


def test_more_connections_than_are_heard_wait_their_turn(
    ear: Ear, connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "PATIENCE_NS", 200_000_000)
    silent = [connect() for _ in range(admin.MOST_CONNECTIONS + 4)]
    assert ask(ear.address, Roll()).ok
    assert {sock.recv(10) for sock in silent[: admin.MOST_CONNECTIONS]} == {b""}


def test_who_leaves_before_the_answer_does_no_harm(
    ear: Ear, connect: Callable[[], socket.socket]
) -> None:
    for _ in range(20):
        sock = connect()
        sock.send(encode_operation(Roll()))
        sock.close()
    poll_until(lambda: len(ear.asked) == 20)
    assert ask(ear.address, Roll()).data["count"] == 21


def test_nobody_listens_after_the_end() -> None:
    one = Ear()
    address = one.address
    one.close()
    with pytest.raises(OperatorUnheard, match="No supervisor listens"):
        ask(address, Drain())


def test_a_supervisor_that_does_not_turn_is_not_waited_for_long() -> None:
    sock = AdminSocket.listen(lambda _: Done(ok=True, text=""))
    with pytest.raises(OperatorUnheard, match="did not answer within"):
        ask(sock.address, Drain(), timeout_s=0.05)
    sock.close()


def test_a_server_without_an_address_says_so() -> None:
    with pytest.raises(OperatorUnheard, match="takes no operations"):
        ask("", Drain())


def test_a_forked_child_does_not_go_on_listening() -> None:
    """A front that outlives its supervisor by a second would take operators and never answer them."""
    sock = AdminSocket.listen(lambda _: Done(ok=True, text=""))
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        theirs.send(b"here")
        theirs.recv(1)  # lives until the parent has looked
        os._exit(0)
    try:
        assert ours.recv(10) == b"here"
        sock.close()
        with pytest.raises(OperatorUnheard, match="No supervisor listens"):
            ask(sock.address, Drain(), timeout_s=5)
    finally:
        ours.send(b"x")
        os.waitpid(pid, 0)
        ours.close()
        theirs.close()
