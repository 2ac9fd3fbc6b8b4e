# SPDX-License-Identifier: Apache-2.0
"""The times of an entry as phases, and as a picture of bars.

Flow:  EntrySnapshot | FailureRecord -> **list_phases** -> **draw**
Owns:  nothing.
"""

from __future__ import annotations

import msgspec

BAR_CHARACTERS = 40


class Phase(msgspec.Struct, frozen=True):
    """A part of an entry's life; monotonic ns."""

    name: str
    start_ns: int
    end_ns: int
    open: bool = False  # it still lasts

    @property
    def duration_ms(self) -> float:
        """How long it lasted, or lasts already."""
        return (self.end_ns - self.start_ns) / 1e6


def list_phases(
    times_ns: tuple[int, int, int, int, int], end_ns: int, *, over: bool
) -> list[Phase]:
    """Return the phases that an entry went through.

    Args:
        times_ns: received, ready, claimed, first chunk, done; 0 where it did not come to that.
        end_ns: When it was over, or now.
        over: Whether it is over.
    """
    received, ready, claimed, first_chunk, done = times_ns
    steps = [("intake", received), ("queue", ready), ("run", claimed)]
    if first_chunk:
        steps.append(("stream", first_chunk))
    steps = [(name, start) for name, start in steps if start]
    last_ns = done or end_ns
    phases = []
    for number, (name, start) in enumerate(steps):
        is_last = number == len(steps) - 1
        stop = last_ns if is_last else steps[number + 1][1]
        phases.append(Phase(name, start, max(start, stop), is_last and not done and not over))
    if done and (not over or end_ns > done):
        phases.append(Phase("collect", done, max(done, end_ns), open=not over))
    return phases


def draw(phases: list[Phase]) -> list[str]:
    """Return one line for each phase: its name, its time, and where it lies in the whole."""
    if not phases:
        return []
    start_ns = phases[0].start_ns
    total_ns = max(1, phases[-1].end_ns - start_ns)
    lines = []
    for phase in phases:
        first = (phase.start_ns - start_ns) * BAR_CHARACTERS // total_ns
        last = -(-(phase.end_ns - start_ns) * BAR_CHARACTERS // total_ns)
        first = min(first, BAR_CHARACTERS - 1)
        bar = " " * first + "█" * max(1, last - first)
        tail = " ..." if phase.open else ""
        lines.append(
            f"{phase.name:<8}{phase.duration_ms:>12.3f} ms  |{bar:<{BAR_CHARACTERS}}|{tail}"
        )
    return lines
