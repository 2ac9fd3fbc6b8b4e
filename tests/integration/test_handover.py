# SPDX-License-Identifier: Apache-2.0
"""Memory handed over by a client on the same machine, with real fronts and workers."""

from __future__ import annotations

import array
import fcntl
import gc
import mmap
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from tests.conftest import poll_until

import cubbyhole as ls
from cubbyhole.core.errors import AnswerError, ClientError, ServerUnreachable
from cubbyhole.core.handed import Ask, Reply, Tensor, address
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.testing.serving import Served

APIS = f"{Path(__file__).with_name('handover_apis.py')}:make_server"
X = np.arange(1 << 18, dtype=np.float32).reshape(4, -1)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(APIS, timeout_s=60) as server:
        yield server


@pytest.fixture
def port(served: Served) -> int:
    return int(served.url.rpartition(":")[2])


@pytest.fixture
def client(port: int) -> Iterator[ls.LocalClient]:
    with ls.LocalClient(port) as made:
        yield made


@pytest.mark.parametrize("path", ["/plain", "/reserved"])
def test_an_array_goes_and_comes(client: ls.LocalClient, path: str) -> None:
    for _ in range(3):
        x = client.empty(X.shape)
        x[:] = X
        y = client.predict(x, path)
        np.testing.assert_array_equal(y, X * 2)
        assert not y.flags.writeable
    np.testing.assert_array_equal(client.predict(X, path), X * 2)  # one that must be copied first


def test_the_next_request_may_come_at_once(client: ls.LocalClient) -> None:
    x = client.empty(4)
    for n in range(300):
        x[:] = n
        assert client.predict(x, "/reserved")[0] == 2 * n


def test_arrays_by_name_and_plain_values(client: ls.LocalClient) -> None:
    answer = client.predict({"a": X, "b": X[:, :3]}, "/named")
    np.testing.assert_array_equal(answer["a"], X + 1)
    np.testing.assert_array_equal(answer["b"], X[:, :3] + 1)
    assert client.predict({"n": [1, None]}, "/json") == {"n": [1, None]}


def test_raw_bytes_are_a_memoryview(client: ls.LocalClient) -> None:
    assert client.predict(np.arange(5, dtype=np.uint8), "/raw") == 10


def test_an_answer_that_does_not_fit_comes_all_the_same(client: ls.LocalClient) -> None:
    answer = client.predict(np.ones(3, np.float32), "/grow")
    assert answer.shape == (3, 1 << 20)
    again = client.predict(np.ones(3, np.float32), "/grow")  # now in the client's own memory
    np.testing.assert_array_equal(answer, again)


def test_the_answers_stay_as_they_are_while_they_are_held(client: ls.LocalClient) -> None:
    kept = [client.predict(np.full(1000, n, np.float32), "/plain") for n in range(20)]
    assert [float(y[0]) for y in kept] == [2.0 * n for n in range(20)]


def test_memory_is_used_again_once_its_arrays_are_gone(client: ls.LocalClient) -> None:
    for n in range(50):
        client.predict(np.full(1000, n, np.float32), "/plain")
    gc.collect()
    memfds = [fd for fd in Path("/proc/self/fd").iterdir() if "cubbyhole-client" in _target(fd)]
    assert len(memfds) <= 4


def _target(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except OSError:
        return ""


def test_what_user_code_refuses_is_its_answer(client: ls.LocalClient) -> None:
    with pytest.raises(AnswerError) as caught:
        client.predict(X, "/json")
    assert caught.value.status_code == 400
    with pytest.raises(AnswerError, match="404"):
        client.predict(X, "/stream")


def test_types_that_cannot_be_handed_over_are_said_before(client: ls.LocalClient) -> None:
    for wrong in (np.zeros(3, bool), np.zeros(3, complex), np.array(["a"])):
        with pytest.raises(ClientError, match="cannot be handed over"):
            client.predict(wrong, "/plain")


def test_without_a_server_it_is_said_so() -> None:
    with pytest.raises(ServerUnreachable, match="handover=True"):
        ls.LocalClient(1)


def test_workers_let_go_of_memory_that_is_not_used(served: Served, port: int) -> None:
    with ls.LocalClient(port) as client:
        client.predict(X, "/plain")
    workers = [
        int(pid)
        for pid in Path(f"/proc/{served.pid}/task/{served.pid}/children").read_text().split()
    ]

    def nobody_maps_it() -> bool:
        return not any(
            "cubbyhole-client" in Path(f"/proc/{pid}/maps").read_text() for pid in workers
        )

    poll_until(nobody_maps_it, timeout_s=40)


# What a hostile client sends ----------------------------------------------------------------------------------------


def memfd(size_bytes: int, seals: int = fcntl.F_SEAL_SHRINK) -> int:
    fd = os.memfd_create("hostile", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size_bytes)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def ask_raw(port: int, message: bytes, fds: list[int]) -> Reply | None:
    """What the server says; None: it hung up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.settimeout(20)
        peer.connect(address(port))
        socket.send_fds(peer, [message], fds)
        try:
            data = peer.recv(1 << 16)
        except ConnectionResetError:
            return None
        return msgspec.msgpack.decode(data, type=Reply) if data else None


def tensor(shape: tuple[int, ...] = (4,), at: int = 0, dtype: str = "F32") -> Tensor:
    return Tensor("", dtype, shape, at)


def one(t: Tensor, **more: Any) -> bytes:
    return msgspec.msgpack.encode(Ask("/plain", [t], **more))


@pytest.mark.parametrize(
    "t",
    [
        tensor((1 << 20,)),
        tensor((-4,)),
        tensor((1 << 40, 1 << 40)),
        tensor(at=-64),
        tensor(at=4096 - 8),
        tensor(at=4096),
        tensor(at=2),
        tensor(dtype="BOOL"),
        tensor(dtype="no such"),
        tensor((1,) * 40),
    ],
)
def test_an_array_outside_its_memory_is_refused(port: int, t: Tensor) -> None:
    fd = memfd(4096)
    reply = ask_raw(port, one(t), [fd])
    os.close(fd)
    assert reply is not None
    assert reply.status == 400


def test_memory_that_could_be_taken_away_is_refused(port: int, tmp_path: Path) -> None:
    unsealed = memfd(4096, 0)
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 4096)
    reading, writing = os.pipe()
    for fd in (unsealed, file, reading, writing):
        reply = ask_raw(port, one(tensor()), [fd])
        assert reply is not None
        assert reply.status == 400
        os.close(fd)


def test_more_memory_than_the_limit_is_413(port: int) -> None:
    fd = memfd(1 << 40)
    reply = ask_raw(port, one(tensor()), [fd])
    os.close(fd)
    assert reply is not None
    assert reply.status == 413


def test_descriptors_must_be_as_many_as_it_says(port: int) -> None:
    fd = memfd(4096)
    for message, fds in (
        (one(tensor()), []),
        (one(tensor()), [fd, fd]),
        (msgspec.msgpack.encode(Ask("/json")), [fd]),
    ):
        reply = ask_raw(port, message, fds)
        assert reply is not None
        assert reply.status == 400
    assert ask_raw(port, one(tensor()), [fd] * 20) is None  # cut off by the kernel: hung up
    os.close(fd)


def test_what_is_no_request_is_refused(port: int) -> None:
    for message in (
        b"x",
        b"\x81\xa4path\x01",
        b"\x91" * 1000,
        msgspec.msgpack.encode({"path": "/plain", "tensors": [[1]]}),
    ):
        reply = ask_raw(port, message, [])
        assert reply is not None
        assert reply.status == 400


def test_no_descriptor_stays_with_the_server(served: Served, port: int) -> None:
    def held() -> int:
        pids = [
            served.pid,
            *map(int, Path(f"/proc/{served.pid}/task/{served.pid}/children").read_text().split()),
        ]
        return sum(
            "hostile" in _target(fd) or "cubbyhole-client" in _target(fd)
            for pid in pids
            for fd in Path(f"/proc/{pid}/fd").iterdir()
        )

    fd = memfd(4096)
    for fds in ([fd], [fd, fd], [fd] * 20):
        ask_raw(port, one(tensor()), fds)
        ask_raw(port, b"nonsense", fds)
    os.close(fd)
    with ls.LocalClient(port) as client:
        client.predict(X, "/plain")
    poll_until(lambda: held() == 0, timeout_s=40)  # a worker's mapping has one, too


def test_a_client_that_leaves_takes_its_request_along(port: int) -> None:
    given, out = memfd(4096), memfd(4096)
    seen = np.frombuffer(mmap.mmap(out, 4096), np.float32)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(address(port))
        socket.send_fds(
            peer, [msgspec.msgpack.encode(Ask("/slow", [tensor()], out=True))], [given, out]
        )
        poll_until(lambda: seen[0] == 1, timeout_s=40)  # another test's may run before
    poll_until(lambda: seen[0] == 2)
    os.close(given)
    os.close(out)


def test_a_second_request_before_the_answer_ends_the_connection(port: int) -> None:
    fd = memfd(4096)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.settimeout(20)
        peer.connect(address(port))
        for _ in range(2):
            socket.send_fds(peer, [msgspec.msgpack.encode(Ask("/slow", [tensor()]))], [fd])
        assert peer.recv(100) == b""
    os.close(fd)


def test_nothing_by_http_can_claim_handed_memory(served: Served) -> None:
    import requests

    meta = array.array(
        "B", msgspec.msgpack.encode(["application/json", "", [], "", "", [1, 2, 3, 4, []]])
    )
    for content_type in ("application/vnd.cubbyhole.handed", "application/json"):
        answer = requests.post(
            served.url + "/plain",
            data=meta.tobytes(),
            headers={"Content-Type": content_type},
            timeout=20,
        )
        assert answer.status_code in {400, 415}
