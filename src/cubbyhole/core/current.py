# SPDX-License-Identifier: Apache-2.0
"""For which requests user code runs right now, so that every log record can say so.

Flow:  worker/runner.py, batches.py, loops -> **set_current** ... log record -> **current_request_ids**
Owns:  one context variable. It holds entries, which hold leases of the segment: whoever sets it in a thread that lives on takes it
       back with `set_current(None)`. An asyncio task has a context of its own, which ends with it.

To set it costs about 30 ns; an id is only looked for when something is logged.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from cubbyhole.core.entries import RequestMeta

if TYPE_CHECKING:
    from cubbyhole.core.entries import ClaimedEntry

    Current: TypeAlias = "ClaimedEntry | tuple[ClaimedEntry, ...] | None"

SHOWN_IDS = 8  # of a batch; a line is to be read

_current: ContextVar[Current] = ContextVar("cubbyhole_entry", default=None)
_decode = msgspec.msgpack.Decoder(RequestMeta).decode
set_current = _current.set


def current_entries() -> tuple[ClaimedEntry, ...]:
    """Return the entries that user code works for, none outside of it."""
    current = _current.get()
    if current is None:
        return ()
    return current if isinstance(current, tuple) else (current,)


def current_request_ids() -> str:
    """Return their ids, the client's where it sent one, with commas; a large batch's first ones and dots; empty: no request."""
    entries = current_entries()
    if not entries:
        return ""
    ids = [_meta(entry).request_id or str(entry.id) for entry in entries[:SHOWN_IDS]]
    return ",".join(ids) + (",..." if len(entries) > SHOWN_IDS else "")


def current_trace_id() -> str:
    """Return the trace of the one request that user code works for, in 32 hexadecimal digits; else empty."""
    entries = current_entries()
    if len(entries) != 1:
        return ""
    parts = _meta(entries[0]).traceparent.split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else ""


def _meta(entry: ClaimedEntry) -> RequestMeta:
    return _decode(entry.meta) if entry.meta else RequestMeta()
