# SPDX-License-Identifier: Apache-2.0
"""Requests that were answered, until lines of the access log are made of them: in C where the native core is built, else here.

Both do the same (the tests run over both). The event loop notes, a thread makes the lines; in C without the interpreter's lock.

Flow:  front/access.py -> **Notes.note**;  access_lines.write_lines -> **Notes.make** | **Notes.take**
Owns:  what is noted and not written yet, up to a number of bytes.
See:   docs/decisions/0062-lines-of-the-access-log-in-c.md
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeAlias

from cubbyhole.core.clock import now_ns

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE = 8192  # lines of one call
# When it ended (monotonic, ns), how long it took (ns), method, path, status, bytes of its body, the client's host and port, its id.
Answered: TypeAlias = tuple[int, int, str, str, int, int, "tuple[str, int] | None", str]
_ROW_BYTES = 64  # in C; here it is more
_PLAIN = frozenset(map(chr, range(0x21, 0x7F))) - {'"', "\\"}


class PlainNotes:
    """Requests that were answered.

    Args:
        most_bytes: What may be noted and not taken; the rest is counted. A row has 64 bytes and its words.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._rows: list[Answered] = []
        self._bytes = 0
        self._left_out = self._odd = 0

    def __len__(self) -> int:
        return len(self._rows)

    def note(
        self,
        scope: dict[str, Any],
        began_ns: int,
        status: int,
        size: int,
        name: bytes = b"",
        number: int = 0,
    ) -> None:
        """Note a request that ends now.

        Args:
            scope: ASGI scope.
            began_ns: When it came.
            status: HTTP status; 0: nobody could be answered.
            size: Of the answer's body, in bytes.
            name: Its X-Request-ID.
            number: Of its entry, by which it goes without a name; 0: it had none.
        """
        try:
            ended_ns = now_ns()
            method, path, client = scope["method"], scope["path"], scope.get("client")
            host, port = ("", 0) if client is None else client
            peer = None if client is None else (host, int(port))
            words = (method, path, host)
            row_bytes = _ROW_BYTES + len(name)
            row_bytes += sum(len(word.encode("utf-8", "surrogatepass")) for word in words)
        except Exception:  # noqa: BLE001  (a middleware of the user's put something odd into the scope)
            self._odd += 1
            return
        if self._bytes + row_bytes > self._most_bytes:
            self._left_out += 1
            return
        self._bytes += row_bytes
        took_ns = max(0, ended_ns - began_ns)
        word = name.decode("latin-1") or (str(number) if number else "")
        self._rows.append((ended_ns, took_ns, method, path, status, size, peer, word))

    def lost(self) -> tuple[int, int]:
        """Return how many were not noted since the last call: for want of room, and because something in their scope was odd."""
        found = self._left_out, self._odd
        self._left_out = self._odd = 0
        return found

    def take(self) -> list[Answered]:
        """Return the requests; none is left."""
        self._bytes = 0
        rows, self._rows = self._rows, []
        return rows

    def make(
        self,
        parts: tuple[bytes, ...],
        stamp_ns: int,
        clock: bytes,
        utc: bool,
        escape: Callable[[str], str],
    ) -> str:
        """Return a line for each request, which are noted no more; empty: there was none. In C for `AT_ONCE` at most.

        Args:
            parts: What stands before, between and after the eight values: moment, method, path, status, ms, bytes, client, id.
            stamp_ns: To be added to a time of the monotonic clock.
            clock: strftime's form of a moment, which gets its milliseconds behind it.
            utc: It is to be UTC, else local time.
            escape: Word -> text, for those that are not plain: printable ASCII without space, quotes and backslash.
        """

        def shown(word: str) -> str:
            return word if _PLAIN.issuperset(word) else escape(word)

        form, broken_down = clock.decode(), time.gmtime if utc else time.localtime
        around = [part.decode() for part in parts]
        lines = []
        for ended_ns, took_ns, method, path, status, size, client, name in self.take():
            seconds, milliseconds = divmod((stamp_ns + ended_ns) // 1_000_000, 1000)
            values = (
                f"{time.strftime(form, broken_down(seconds))}.{milliseconds:03d}",
                shown(method),
                shown(path),
                str(status),
                f"{took_ns // 1000 / 1000:.3f}",
                str(size),
                "-" if client is None else f"{shown(client[0])}:{client[1]}",
                shown(name) if name else "-",
            )
            lines += [word for pair in zip(around, values, strict=False) for word in pair]
            lines.append(around[-1])
        return "".join(lines)


if TYPE_CHECKING:
    Notes = PlainNotes
else:
    try:
        from cubbyhole._native._lines import Notes
    except ImportError:  # no compiler at installation
        Notes = PlainNotes
