# SPDX-License-Identifier: Apache-2.0
"""`LocalClient`: ask a server on the same machine and hand arrays over by descriptor, in a time that does not depend on their size.

    with cubbyhole.LocalClient(8000) as client:
        x = client.empty((4096, 4096), "float32")     # in memory that can be handed over; fill it in place
        y = client.predict(x)                         # an array where the server wrote it

Flow:  predict -> Ask and memfds over a Unix socket -> Reply -> arrays
Owns:  a connection, and the memories in memories.py.
See:   docs/guide/handover.md
"""

from __future__ import annotations

import mmap
import os
import socket
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cubbyhole.client.memories import Pool
from cubbyhole.client.messages import answer_error, read_answer
from cubbyhole.core.errors import ClientError, MalformedBody, ServerUnreachable
from cubbyhole.core.handed import (
    CONTENT_TYPE,
    INLINE_BYTES,
    MESSAGE_BYTES,
    Ask,
    Reply,
    Tensor,
    address,
    check_memory,
)
from cubbyhole.formats.tensors import array_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from cubbyhole.client.memories import Memory

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Reply).decode
_decode_tensors = msgspec.msgpack.Decoder(list[Tensor]).decode


class LocalClient:
    """Asks a server on this machine that was started with `LitServer(handover=True)` by the same user.

    One request at a time: threads that share a client wait for each other; take a client for each.

    Args:
        port: The server's HTTP port, by which its socket is found.
        api_key: Where the server wants one.
        timeout_s: Of a request.

    Raises:
        ServerUnreachable: there is no such server.
    """

    def __init__(
        self, port: int = 8000, *, api_key: str | None = None, timeout_s: float = 30.0
    ) -> None:
        self.timeout_s = timeout_s
        self._headers = {} if api_key is None else {"x-api-key": api_key}
        self._pool = Pool()
        self._lock = Lock()
        self._answer_bytes: dict[str, int] = {}  # of the last one, by path
        self._peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._peer.connect(address(port))
        except OSError as error:
            self._peer.close()
            raise ServerUnreachable(
                f"No server takes handed memory at port {port} ({error.strerror}): start it with LitServer(handover=True)."
            ) from error

    def __enter__(self) -> Self:
        """Be open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Hang up. Arrays that were given stay as they are."""
        self._peer.close()
        self._pool.close()

    def empty(self, shape: Any, dtype: Any = "float32") -> Any:
        """Return an array that can be handed over without a copy; what is in it is whatever was there before."""
        kind = np.dtype(dtype)
        sizes = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
        return self._pool.new_array(kind, sizes)

    def predict(
        self,
        value: Any = None,
        path: str = "/predict",
        *,
        answer_bytes: int = 0,
        priority: int | None = None,
        request_id: str = "",
    ) -> Any:
        """Send a value and return the answer.

        Args:
            value: An array or a dict of arrays: handed over, from `empty` without a copy, else after one. Anything else: as JSON,
                up to 32 KiB.
            path: Of the API.
            answer_bytes: How much memory the server gets for its answer; 0: as much as the last answer or this request took.
                What does not fit comes another way, after a copy.
            priority: As X-Priority.
            request_id: As X-Request-ID.

        Returns:
            A read-only array, or arrays by name, or what else the content type says.

        Raises:
            AnswerError: the server answered with 400 or above.
            ServerUnreachable: the connection is lost; make a new client.
            ClientError: the value cannot be sent, or the answer cannot be read.
        """
        headers = {**self._headers, "x-request-timeout": f"{self.timeout_s:.3f}"}
        if priority is not None:
            headers["x-priority"] = str(priority)
        if request_id:
            headers["x-request-id"] = request_id
        given, tensors = self._place(value)
        wanted = answer_bytes or max(self._answer_bytes.get(path, 0), _size_of(tensors))
        out = self._pool.take(wanted)
        try:
            ask = Ask(path, tensors, True, *_small_body(value, given), headers)
            fds = [out.fd] if given is None else [given.fd, out.fd]
            with self._lock:
                reply, received = self._ask(_encode(ask), fds)
            try:
                return self._read(reply, received, out, path)
            finally:
                for fd in received:
                    os.close(fd)
        finally:
            self._pool.give_back(out)
            if given is not None:
                self._pool.give_back(given)

    def _place(self, value: Any) -> tuple[Memory | None, list[Tensor]]:
        value = array_of(value)
        arrays = {"": value} if isinstance(value, np.ndarray) else value
        if not isinstance(arrays, dict) or not arrays:
            return None, []
        arrays = {name: array_of(part) for name, part in arrays.items()}
        if not all(isinstance(part, np.ndarray) for part in arrays.values()):
            return None, []
        try:
            return self._pool.place(arrays)
        except TypeError as error:
            raise ClientError(str(error)) from error

    def _ask(self, message: bytes, fds: list[int]) -> tuple[Reply, list[int]]:
        if len(message) > MESSAGE_BYTES:
            raise ClientError(
                f"The request has {len(message)} bytes beside its arrays; at most {MESSAGE_BYTES} can be sent."
            )
        self._peer.settimeout(
            self.timeout_s + 1.0
        )  # the server's own answer, a 504, should come first
        received: list[int] = []
        try:
            socket.send_fds(self._peer, [message], fds)
            data, received, _, _ = socket.recv_fds(
                self._peer, MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC
            )
            if not data:
                raise ServerUnreachable("The server hung up.")  # noqa: TRY301  (closes what came)
            return _decode(data), received
        except OSError as error:
            self._peer.close()
            raise ServerUnreachable(f"The connection to the server is lost: {error}.") from error
        except (ServerUnreachable, msgspec.DecodeError) as error:
            self._peer.close()
            for fd in received:
                os.close(fd)
            raise ServerUnreachable(f"The connection to the server is lost: {error}") from error

    def _read(self, reply: Reply, received: list[int], out: Memory, path: str) -> Any:
        body: Any = reply.body
        if reply.memory_bytes >= 0:
            body = _mapped(received, reply.memory_bytes)
            self._answer_bytes[path] = reply.memory_bytes + (
                1 << 16
            )  # the next one fits, its head included
        if reply.status >= 400:
            raise answer_error(reply.status, bytes(body), reply.headers, 1)
        if reply.content_type != CONTENT_TYPE:
            return read_answer(body, reply.content_type)
        try:
            tensors = _decode_tensors(body)
            arrays = self._pool.answered(out, tensors)
        except (msgspec.DecodeError, MalformedBody) as error:
            raise ClientError(f"The server's answer is not what it says: {error}") from error
        self._answer_bytes[path] = _size_of(tensors)
        return arrays[""] if set(arrays) == {""} else arrays


def _size_of(tensors: list[Tensor]) -> int:
    return max((tensor.at + tensor.size_bytes for tensor in tensors), default=0)


def _small_body(value: Any, given: Memory | None) -> tuple[bytes, str]:
    if given is not None:
        return b"", ""
    try:
        body = msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ClientError(f"The value cannot be sent: {error}") from error
    if len(body) > INLINE_BYTES:
        raise ClientError(
            f"The value has {len(body):,} bytes as JSON; more than {INLINE_BYTES:,} go by arrays, or by HTTP (cubbyhole.Client)."
        )
    return body, "application/json"


def _mapped(received: list[int], size_bytes: int) -> Any:
    """Return an answer that came in a memfd, as a read-only view of it."""
    if len(received) != 1 or check_memory(received[0])[1] < size_bytes:
        raise ClientError("The server's answer is shorter than it says.")
    return memoryview(mmap.mmap(received[0], size_bytes, access=mmap.ACCESS_READ))
