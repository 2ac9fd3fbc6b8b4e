# SPDX-License-Identifier: Apache-2.0
"""One loop that looks at the server, for all who look at the page; only counters are read while nobody does.

Flow:  Picture.take, twice a second -> what changed -> **Snapshots.follow** -> server-sent events of each viewer
Owns:  the server's memory as it is mapped here, the last look, the number of viewers.

A viewer that missed a step gets the whole picture instead of the change, so that nobody is waited for and nothing is queued.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.core.clock import now_ns
from cubbyhole.inspector.flow import Flow
from cubbyhole.inspector.picture import Picture
from cubbyhole.seen.attached import NoServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from cubbyhole.seen.attached import AttachedServer

logger = logging.getLogger(__name__)

LOOK_S = 0.5  # two pictures a second: people read no faster, and a look takes milliseconds from a server on few cores
REST = 4  # times what a look took: however many slots there are, looking takes a fifth of a core at most
SAMPLE_NS = 1_000_000_000
SEEK_NS = 2_000_000_000  # between two looks for a successor of a server that ended
STEP_WAIT_S = 1.0  # the end of the loop is not announced
_encode = msgspec.json.Encoder().encode


class Snapshots:
    """What viewers get.

    Args:
        attached: The server to look at.
        reattach: Finds its successor once it ended; None: there is to be none.
    """

    def __init__(
        self, attached: AttachedServer, reattach: Callable[[], AttachedServer] | None = None
    ) -> None:
        self.picture = Picture(attached)
        self.viewers = 0
        self.looks = 0
        self.closed = False
        self._reattach = reattach
        self._flow = Flow()
        self._sampled_ns = self._sought_ns = 0
        self._sections: dict[str, Any] = {}
        self._step = 0
        self._change = b""
        self._stepped = asyncio.Condition()

    async def run(self) -> None:
        """Look again and again, until `close`."""
        while not self.closed:
            if now_ns() - self._sampled_ns >= SAMPLE_NS:
                self._sampled_ns = now_ns()
                self._flow.sample(self._sampled_ns, self.picture.attached.statistics())
                self.picture.count(self._sampled_ns)
            begun_ns = now_ns()
            if self.viewers:
                await self._look()
            took_s = (now_ns() - begun_ns) / 1e9
            await asyncio.sleep(max(LOOK_S, REST * took_s))

    def flow_points(self) -> list[dict[str, Any]]:
        """Return the last minute, oldest second first."""
        return self._flow.points()

    def close(self) -> None:
        """Let all viewers go."""
        self.closed = True

    def whole(self) -> dict[str, Any]:
        """Look now, and return all sections."""
        self.looks += 1
        taken = self.picture.take()
        return {"about": self.picture.about(), "flow": self.flow_points(), **taken}

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """Give server-sent events: at first the whole picture, then what changed; until `close`."""
        self.viewers += 1
        try:
            if (
                self.viewers == 1 or not self._sections
            ):  # what is there is as old as the last viewer
                await self._look()
            known = self._step
            yield b"event: whole\ndata: " + _encode(self._sections) + b"\n\n"
            while not self.closed:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wait(known), STEP_WAIT_S)
                if self._step == known + 1:
                    yield b"event: change\ndata: " + self._change + b"\n\n"
                elif self._step != known:
                    yield b"event: whole\ndata: " + _encode(self._sections) + b"\n\n"
                known = self._step
        finally:
            self.viewers -= 1

    async def _wait(self, known: int) -> None:
        async with self._stepped:
            await self._stepped.wait_for(lambda: self._step != known or self.closed)

    async def _look(self) -> None:
        sections = self.whole()
        if sections["state"] == "GONE":
            self._seek()
        self._change = _encode(changes(self._sections, sections))
        self._sections = sections
        self._step += 1
        async with self._stepped:
            self._stepped.notify_all()

    def _seek(self) -> None:
        if self._reattach is None or now_ns() - self._sought_ns < SEEK_NS:
            return
        self._sought_ns = now_ns()
        with contextlib.suppress(NoServer):
            found = self._reattach()
            logger.info("server found: pid=%d", found.description.pid)
            self.picture.attached.close()
            self.picture, self._flow = Picture(found), Flow()


def changes(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return the sections that differ; of the entries only those that are new, differ, or went."""
    found = {
        name: value
        for name, value in now.items()
        if name != "entries" and before.get(name) != value
    }
    old, new = before.get("entries", {}), now["entries"]
    found["entries"] = {  # most rows are the ones of the look before, and dicts are compared whole
        key: row for key, row in new.items() if (was := old.get(key)) is not row and was != row
    }
    found["gone"] = [key for key in old if key not in new]
    return found
