# SPDX-License-Identifier: Apache-2.0
"""Requests that were answered, until lines of the access log are made of them: in C where the native core is built, else here.

Both do the same (the tests run over both). In Python the notes and lines are a twentieth of a request that does nothing, in C a hundredth.

Flow:  front/access.py -> **Notes.note**;  access_lines.make_lines -> **Notes.make** | **Notes.take**
Owns:  up to `AT_ONCE` requests.
See:   docs/decisions/0062-lines-of-the-access-log-in-c.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from cubbyhole.core.clock import now_ns

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE = 64
# When it ended (monotonic, ns), how long it took (ns), method, path, status, bytes of its body, the client's host and port, its id.
Answered: TypeAlias = tuple[int, int, str, str, int, int, "tuple[str, int] | None", bytes]
_PLAIN = frozenset(map(chr, range(0x21, 0x7F))) - {'"', "\\"}


class PlainNotes:
    """Up to `AT_ONCE` requests that were answered.

    Args:
        when_first: Called when there is something again.
        when_full: Called when there is no more room: must take what there is.
    """

    def __init__(self, when_first: Callable[[], object], when_full: Callable[[], object]) -> None:
        self._when_first, self._when_full = when_first, when_full
        self._rows: list[Answered] = []

    def __len__(self) -> int:
        return len(self._rows)

    def note(
        self, scope: dict[str, Any], began_ns: int, status: int, size: int, name: bytes = b""
    ) -> None:
        """Note a request that ends now.

        Args:
            scope: ASGI scope.
            began_ns: When it came.
            status: HTTP status; 0: nobody could be answered.
            size: Of the answer's body, in bytes.
            name: Its X-Request-ID.
        """
        if len(self._rows) == AT_ONCE:
            raise BufferError("nobody took what was noted")
        ended_ns = now_ns()
        client, took_ns = scope.get("client"), max(0, ended_ns - began_ns)
        method, path = scope["method"], scope["path"]
        self._rows.append((ended_ns, took_ns, method, path, status, size, client, name))
        if len(self._rows) == AT_ONCE:
            self._when_full()
        elif len(self._rows) == 1:
            self._when_first()

    def take(self) -> list[Answered]:
        """Return the requests; none is left."""
        rows, self._rows = self._rows, []
        return rows

    def make(
        self,
        parts: tuple[bytes, ...],
        stamp_ns: int,
        moment: Callable[[int], str],
        escape: Callable[[str], str],
    ) -> str:
        """Return a line for each request; none is left.

        Args:
            parts: What stands before, between and after the eight values: moment, method, path, status, ms, bytes, client, id.
            stamp_ns: To be added to a time of the monotonic clock.
            moment: Time of day in ms -> text.
            escape: Word -> text, for those that are not plain: printable ASCII without space, quotes and backslash.
        """

        def shown(word: str) -> str:
            return word if _PLAIN.issuperset(word) else escape(word)

        around = [part.decode() for part in parts]
        lines = []
        for ended_ns, took_ns, method, path, status, size, client, name in self.take():
            values = (
                moment((stamp_ns + ended_ns) // 1_000_000),
                shown(method),
                shown(path),
                str(status),
                f"{took_ns // 1000 / 1000:.3f}",
                str(size),
                "-" if client is None else f"{shown(client[0])}:{client[1]}",
                shown(name.decode("latin-1")) if name else "-",
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
