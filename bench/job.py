# SPDX-License-Identifier: Apache-2.0
"""What a run of the load generator is asked, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass, field

CHUNKS = 100  # of a streamed answer


@dataclass
class Job:
    """What to ask: `kind` is json, raw or stream; `size_bytes` counts for raw only."""

    port: int
    path: str
    kind: str
    connections: int
    warmup_s: float
    seconds: float
    size_bytes: int = 0
    root_pid: int = 0
    requests_max: int = 0  # stop after so many answers, whatever the time; 0: no limit


@dataclass
class Tally:
    """What was counted in the measured window."""

    latencies_ns: list[int] = field(default_factory=list)
    first_ns: list[int] = field(default_factory=list)
    failures: int = 0
    example: str = ""
    reads: int = 0

    def fail(self, what: str) -> None:
        self.failures += 1
        self.example = self.example or what[:300]
