# SPDX-License-Identifier: Apache-2.0
"""What travels: entries, outcomes, and how an entry lives.

Flow:  front -> RequestEntry -> channel -> ClaimedEntry -> worker -> Result | Chunk* Result | Failure -> channel -> Collected -> front

Bodies are buffers and stay encoded on the way: the front never parses them, the worker does, and gives final bytes back.
`meta` is what else must travel, as MessagePack; empty means the common case (JSON in, JSON out), which costs nothing.
"""

from __future__ import annotations

import enum
from typing import Any, Protocol, TypeAlias

import msgspec

from cubbyhole.core.clock import NEVER_NS
from cubbyhole.core.handed import HandedMemory  # noqa: TC001  (msgspec looks at it)

Buffer: TypeAlias = (
    Any  # bytes, memoryview, Lease, Reservation: whatever speaks the buffer protocol
)


class EntryState(enum.IntEnum):
    """The life of an entry; the numbers are those of the native core (`cbh_layout.h`)."""

    FREE = 0
    WRITING = 1
    READY = 2
    CLAIMED = 3
    STREAMING = 4
    DONE = 5
    FAILED = 6


class RequestMeta(msgspec.Struct, array_like=True, frozen=True):
    """What a worker may need beside the body. Absent (empty bytes) for a plain JSON request."""

    content_type: str = ""
    query: str = ""
    headers: list[tuple[str, str]] = []
    request_id: str = ""
    traceparent: str = ""
    handed: HandedMemory | None = None  # only a front can say so: it is no header's value
    tracestate: str = ""


class ResultMeta(msgspec.Struct, array_like=True, frozen=True):
    """What a front needs beside body and status. Absent (empty bytes) for `application/json`."""

    content_type: str | None = None  # None: send no content type (LitServe's streams)
    headers: list[tuple[str, str]] = []


class RequestEntry(msgspec.Struct):
    """A request as a front submits it.

    Attributes:
        id: From `ids.request_ids`, unique in the server.
        endpoint: Index into `ServerSettings.endpoints`; decides which workers may claim it.
        body: The request body as it came, or a `Reservation` of this channel that holds it already.
        meta: Encoded `RequestMeta`, or empty.
        rank: Unsigned; the smallest is claimed first, equal ones in order of arrival. See `scheduling.policy`.
        deadline_ns: Absolute monotonic nanoseconds; a worker does not start an entry after it.
        retry_on_death: Offer the entry again when its worker dies, instead of failing it.
        received_ns: When the front got the request's head.
    """

    id: int
    endpoint: int
    body: Buffer = b""
    meta: bytes = b""
    rank: int = 0
    deadline_ns: int = NEVER_NS
    retry_on_death: bool = False
    received_ns: int = 0


class ClaimedEntry(Protocol):
    """A request as a worker holds it, from `WorkerPort.claim` until its final `publish`."""

    @property
    def id(self) -> int:
        """The request's id, as its front gave it."""
        ...

    @property
    def body(self) -> Buffer:
        """The body: a view of the segment where the channel can (a lease), else bytes."""

    @property
    def meta(self) -> bytes:
        """Encoded `RequestMeta`, or empty."""
        ...

    @property
    def deadline_ns(self) -> int:
        """Absolute monotonic nanoseconds."""
        ...

    @property
    def attempt(self) -> int:
        """0 at the first claim, one more after each death of a worker that held it."""

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more. Cheap: one load."""


class Result(msgspec.Struct):
    """A final answer, or, after chunks, the clean end of a stream (its body is then the last bytes)."""

    body: Buffer = b""
    status: int = 200
    meta: bytes = b""


class Chunk(msgspec.Struct):
    """A part of a streamed answer, as final bytes. `status` and `meta` count in the first chunk only."""

    body: Buffer
    status: int = 200
    meta: bytes = b""


class Failure(msgspec.Struct, array_like=True):
    """A failure as a record: exceptions never cross a process.

    Attributes:
        code: Stable word, e.g. "worker_died" (`core.errors`), "http_exception", "predict_failed".
        status: HTTP status of the answer.
        detail: JSON-able `detail` of the answer; must not tell internals.
        headers: For the answer, e.g. Retry-After.
        message: One line for the log and the inspector.
        traceback_text: For the log and the inspector; never sent to a client.
    """

    code: str
    status: int = 500
    detail: Any = "Internal server error"
    headers: dict[str, str] = {}
    message: str = ""
    traceback_text: str = ""


POISON_AFTER = 3  # deaths of workers after which an entry is not offered again: two may be chance


def poison_failure(message: str) -> Failure:
    """Return the answer for an entry that `POISON_AFTER` workers died of. Not a 503: to send it again would do the same again."""
    detail = f"{POISON_AFTER} workers ended while they ran this request; it is not tried again."
    return Failure("poison", 500, detail, message=message)


# 409 and not 503: the server is well, so no proxy should send it elsewhere, and no `Retry-After` asks for it again.
CANCELLED_BY_OPERATOR = Failure(
    "cancelled_by_operator",
    409,
    "The operator of the server cancelled this request.",
    message="an operator took the request back",
)

Outcome: TypeAlias = "Result | Chunk | Failure"


class Collected(msgspec.Struct):
    """What `FrontPort.collect` gives: the final outcome of an entry, or the news that chunks wait for it.

    Attributes:
        id: The request.
        outcome: Its `Result` or `Failure`; None while streaming: take the chunks with `FrontPort.take_chunks`.
        times_ns: received, ready, claimed, first chunk, done: monotonic ns, 0 where it did not come to that.
        worker: Of a failure: who held the entry, where the channel knows; else -1.
        attempt: Of a failure: 0 at the first claim.
    """

    id: int
    outcome: Result | Failure | None
    times_ns: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    worker: int = -1
    attempt: int = 0


class Taken(msgspec.Struct):
    """Chunks of one stream, in order.

    Attributes:
        chunks: Encoded bytes of each chunk, possibly none.
        head: The first chunk's status and meta, in the first `Taken` of a stream; None later.
        end: None while the stream goes on, else its final `Result` or `Failure`.
    """

    chunks: list[bytes]
    head: tuple[int, bytes] | None = None
    end: Result | Failure | None = None
