# SPDX-License-Identifier: Apache-2.0
"""One entry at a time: claim, run, publish.

Entries are claimed one by one, as each that waits in a busy worker could run in an idle one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cubbyhole.worker.loops.base import LitLoop

if TYPE_CHECKING:
    from cubbyhole.worker.loops.base import Workplace


class SingleLoop(LitLoop):
    """The loop of an API without batching and streaming; with `enable_async`, all claimed entries at once."""

    def serve(self, place: Workplace) -> None:
        """Serve until told to stop."""
        if place.settings.is_async:
            from cubbyhole.worker.loops.concurrent import serve_concurrently

            serve_concurrently(place)
            return
        claim, runner, deliver = place.claim, place.runner, place.deliver
        stopping = place.stopping.is_set
        while not stopping():
            for entry in claim(1, place.idle_wait_s):
                deliver(entry, runner.answer(entry))  # another one, while it has a span
                del entry  # its body is a lease of the segment; the next one may be hours away
