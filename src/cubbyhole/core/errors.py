# SPDX-License-Identifier: Apache-2.0
"""The one tree of errors.

    CubbyholeError
    ├── ChannelError
    │   ├── ChannelFull           503  no free slot, or no room in the arena, now
    │   │   └── SlotsFull         503  no free slot
    │   ├── EntryTooLarge         413  does not fit whatever is freed
    │   ├── StaleOwner            500  this process was declared dead; its claim is void
    │   ├── ChannelClosed         503  the segment or connection is gone
    │   ├── NotOffered            501  this kind of channel cannot do what was asked
    │   └── WrongLayout           500  another version of the segment's layout, or no segment at all
    ├── NativeCoreMissing         500  the compiled part cannot be loaded; says what to install
    ├── RequestError                   what a client did
    │   ├── MalformedBody         400
    │   ├── PayloadTooLarge       413
    │   ├── HTTPError             (its own `status_code`, as FastAPI's HTTPException has it)
    │   └── DeadlineExceeded      504
    ├── WorkerError                    what happened to a worker
    │   ├── WorkerDied            503
    │   ├── WorkerFailedToStart   500
    │   └── BatchSizeMismatch     500
    ├── ClientError                    what `cubbyhole.Client` met
    │   ├── AnswerError           (its own `status_code`) the server answered with 400 or above
    │   ├── ServerUnreachable     503  no connection, or one that broke; says how often it was tried
    │   └── StreamCut             502  a stream ended before its end
    ├── OperatorUnheard           503  the supervisor does not take or answer an operation
    └── DictionaryError                SharedDict (each also is the builtin a dict user expects)
        ├── SegmentFull           (MemoryError)
        ├── ValueTooLarge         (ValueError)
        ├── UnknownType           (TypeError)
        ├── SegmentClosed         (ValueError)
        └── PlacesTaken           (OSError)

`status` is the HTTP status with which a front answers; `code` is the stable word in logs, metrics and failure records.
A text says what happened, the numbers with their units, and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping


class CubbyholeError(Exception):
    """Root of all errors that Cubbyhole raises itself."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"


class ChannelError(CubbyholeError):
    """The channel could not carry an entry."""

    code = "channel"


class ChannelFull(ChannelError):
    """There is no free slot or no free room in the arena at this moment; try again later."""

    status = 503
    code = "channel_full"


class SlotsFull(ChannelFull):
    """As many requests are under way as the front has slots."""

    code = "slots_full"


class EntryTooLarge(ChannelError):
    """The entry can never fit, however much is freed."""

    status = 413
    code = "entry_too_large"


class StaleOwner(ChannelError):
    """This process was declared dead and its entries given to others; it may not publish any more."""

    code = "stale_owner"


class ChannelClosed(ChannelError):
    """The channel was closed under the caller."""

    status = 503
    code = "channel_closed"


class NotOffered(ChannelError):
    """This kind of channel cannot do what was asked; its `capabilities` say so."""

    status = 501
    code = "not_offered"


class WrongLayout(ChannelError):
    """The memory is no segment, or one of another layout version."""

    code = "wrong_layout"


class NativeCoreMissing(CubbyholeError, ImportError):
    """The compiled core cannot be loaded on this machine."""

    code = "native_core_missing"

    @classmethod
    def because(cls, error: ImportError) -> NativeCoreMissing:
        """Say in one line what is missing and what to install."""
        return cls(
            f"The native core of Cubbyhole is not built for this Python ({error.name or error}). Install gcc and Python's "
            "headers (Debian: apt install gcc python3-dev) and run pip install --force-reinstall cubbyhole; "
            'servers run on channel="sockets" meanwhile.'
        )


class RequestError(CubbyholeError):
    """A client's request cannot be served as it is."""

    status = 400
    code = "bad_request"


class MalformedBody(RequestError):
    """The body cannot be read as what its content type says."""

    code = "malformed_body"


class PayloadTooLarge(RequestError):
    """The body is over the limit."""

    status = 413
    code = "payload_too_large"


class HTTPError(RequestError):
    """An answer as an exception, for code that must not import FastAPI.

    It has the attributes of FastAPI's `HTTPException`, and whoever catches one goes by these attributes and not by the
    class, so both are answered alike.

    Attributes:
        status_code: HTTP status of the answer.
        detail: JSON-able; sent as `{"detail": detail}`.
        headers: Sent with the answer, or None.
    """

    code = "http_error"

    def __init__(
        self, status_code: int, detail: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{status_code}: {detail}")
        self.status_code = status_code
        self.detail = detail
        self.headers = headers


class DeadlineExceeded(RequestError):
    """The time that the server allows a request is over."""

    status = 504
    code = "expired"


class WorkerError(CubbyholeError):
    """A worker could not do its part."""

    code = "worker"


class WorkerDied(WorkerError):
    """The worker that held the entry ended."""

    status = 503
    code = "worker_died"


class WorkerFailedToStart(WorkerError):
    """`setup` raised or the process ended before it was ready."""

    code = "worker_failed_to_start"


class BatchSizeMismatch(WorkerError):
    """`unbatch` did not give one output for each input."""

    code = "batch_size_mismatch"


class ClientError(CubbyholeError):
    """A request of `cubbyhole.Client` has no answer that could be given back."""

    code = "client"


class AnswerError(ClientError):
    """The server answered with a status of 400 or above.

    Attributes:
        status_code: HTTP status.
        detail: What the server said: its `detail`, or its `error`, or the text.
        request_id: For `cubbyhole inspect`, empty where the server gave none.
        retry_after_s: When the server would like to be asked again; None: it did not say.
        attempts: How often the request was sent.
    """

    code = "answer"

    def __init__(
        self,
        status_code: int,
        detail: Any,
        *,
        request_id: str = "",
        retry_after_s: float | None = None,
        attempts: int = 1,
    ) -> None:
        tried = "" if attempts == 1 else f" (sent {attempts} times)"
        super().__init__(f"{status_code}: {detail}{tried}")
        self.status_code = status_code
        self.detail = detail
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.attempts = attempts


class ServerUnreachable(ClientError):
    """No connection to the server, or one that broke before the answer."""

    status = 503
    code = "server_unreachable"


class StreamCut(ClientError):
    """A streamed answer ended before its end: what came of it is not whole."""

    status = 502
    code = "stream_cut"


class OperatorUnheard(CubbyholeError):
    """The supervisor cannot be asked, or did not answer."""

    status = 503
    code = "operator_unheard"


class DictionaryError(CubbyholeError):
    """`SharedDict` could not do what was asked."""

    code = "dictionary"


class SegmentFull(DictionaryError, MemoryError):
    """No room for the value now; deleting keys makes room."""

    code = "segment_full"


class ValueTooLarge(DictionaryError, ValueError):
    """The value is larger than the whole segment can ever hold."""

    code = "value_too_large"


class UnknownType(DictionaryError, TypeError):
    """The value's type cannot be stored without `allow_pickle=True`."""

    code = "unknown_type"


class SegmentClosed(DictionaryError, ValueError):
    """The dictionary was closed in this process."""

    code = "segment_closed"


class PlacesTaken(DictionaryError, OSError):
    """More processes want to attach than the segment has places for."""

    code = "places_taken"
