# SPDX-License-Identifier: Apache-2.0
"""What an operator may ask of a running server, and how: one short request to its supervisor, one answer.

The supervisor listens on an abstract Unix socket with a random name, which is in the roster's description. It answers whoever has
its own uid, as the kernel tells it; nothing lies on disk, so nothing is left behind.

Flow:  `cubbyhole cancel ID` -> **ask** -> supervise/admin.py -> supervise/operating.py -> **Done**
Owns:  a connection, for the time of one `ask`.
See:   docs/guide/operating.md, docs/decisions/0040-operators-come-through-an-abstract-socket.md
"""

from __future__ import annotations

import socket
from typing import Any, TypeAlias

import msgspec

from cubbyhole.core.errors import OperatorUnheard

REQUEST_BYTES = 4096  # a request is a few words; whoever sends more is cut off
ANSWER_BYTES = 64 << 10


class _Operation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=str.lower):
    pass


class Cancel(_Operation, frozen=True):
    """Take a request back: its client is answered at once, and who runs it sees `cancelled`."""

    id: int


class Rerank(_Operation, frozen=True):
    """Give a request that waits another priority: 0 (most urgent) to 9."""

    id: int
    priority: int


class Drain(_Operation, frozen=True):
    """Accept nothing more, finish what was accepted, end."""


class Roll(_Operation, frozen=True):
    """Replace all workers, one after another."""


class Scale(_Operation, frozen=True):
    """Have so many workers, of one API or (path None) of the only one there is."""

    path: str | None
    workers: int


Operation: TypeAlias = "Cancel | Rerank | Drain | Roll | Scale"


class Done(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        ok: Whether it was done; else `text` says why not.
        text: One line for a human.
        data: The same for programs.
    """

    ok: bool
    text: str
    data: dict[str, Any] = {}


encode_operation = msgspec.json.Encoder().encode
decode_operation = msgspec.json.Decoder(Cancel | Rerank | Drain | Roll | Scale).decode
encode_done = msgspec.json.Encoder().encode
_decode_done = msgspec.json.Decoder(Done).decode


def socket_address(address: str) -> str:
    """Turn an address as it is shown ("@name", as `ss -x` has it) into what the socket takes."""
    return "\0" + address[1:] if address.startswith("@") else address


def ask(address: str, operation: Operation, timeout_s: float = 5.0) -> Done:
    """Ask a server's supervisor for something, and wait for its answer.

    Args:
        address: `ServerDescription.admin`.
        operation: What is to be done.
        timeout_s: Seconds to wait: for a busy supervisor, not for the end of the operation, which may go on for long.

    Raises:
        OperatorUnheard: it does not listen, does not answer in time, or hung up.
    """
    if not address:
        raise OperatorUnheard(
            "This server takes no operations: it runs on a system without abstract Unix sockets."
        )
    try:
        answer = _exchange(address, encode_operation(operation), timeout_s)
    except (TimeoutError, BlockingIOError) as error:  # the latter: too many wait already
        raise OperatorUnheard(
            f"The supervisor did not answer within {timeout_s} s: it is stopped, or busy. Look at it with `cubbyhole top`."
        ) from error
    except (ConnectionResetError, BrokenPipeError):
        answer = b""
    except OSError as error:
        raise OperatorUnheard(
            f"No supervisor listens at {address} ({error.strerror}): the server has ended, or it runs in another network namespace."
        ) from error
    if not answer:
        raise OperatorUnheard(
            f"The supervisor at {address} hung up: it belongs to another user, or it is just ending."
        )
    return _decode_done(answer)


def _exchange(address: str, message: bytes, timeout_s: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(timeout_s)
        sock.connect(socket_address(address))
        sock.send(message)
        return sock.recv(ANSWER_BYTES)
