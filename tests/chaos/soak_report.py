# SPDX-License-Identifier: Apache-2.0
"""What a soak found: counts, kills, what was wrong, memory over time; and how it looks at processes, from /proc.

Flow:  soak.py -> **Report** -> text for whoever ran it
Owns:  nothing.
"""

from __future__ import annotations

import collections
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.integration.processes import living


@dataclass
class Sample:
    """What the server's processes had at one moment."""

    at_s: float
    supervisor_kib: int
    fronts_kib: int
    total_kib: int


@dataclass
class Report:
    """What happened. `wrong` is empty when all promises were kept."""

    seed: int
    seconds: float
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    held: dict[str, dict[str, int]] = field(default_factory=dict)
    descriptors: dict[str, int] = field(default_factory=dict)

    def growth(self) -> dict[str, tuple[float, float]]:
        """Return the medians of the first and of the last third, in MiB, of what was sampled after the warm-up."""
        samples = self.samples[len(self.samples) // 10 :]
        third = max(1, len(samples) // 3)
        names = ("supervisor_kib", "fronts_kib", "total_kib")
        return {
            name.removesuffix("_kib"): (
                median(getattr(s, name) for s in samples[:third]) / 1024,
                median(getattr(s, name) for s in samples[-third:]) / 1024,
            )
            for name in names
            if samples
        }

    def text(self) -> str:
        """Tell it in lines."""
        lines = [
            f"soak: seed={self.seed} seconds={self.seconds:.0f}",
            "kills: " + listed(self.kills),
            "answers: " + listed(self.counts),
        ]
        lines += [
            f"{name} MiB: {first:.1f} in the first third, {last:.1f} in the last"
            for name, (first, last) in self.growth().items()
        ]
        lines += [f"held {when}: {listed(what)}" for when, what in self.held.items()]
        lines.append("descriptors: " + listed(self.descriptors))
        lines.append(f"wrong: {len(self.wrong)}")
        return "\n".join(lines + [f"  {one}" for one in self.wrong[:40]])


def listed(counts: Any) -> str:
    return " ".join(f"{name}={counts[name]}" for name in sorted(counts))


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return living([int(word) for word in text.split()])
    return []


def has_open(pid: int, path: Path) -> bool:
    for link in links_of(pid):
        with contextlib.suppress(OSError):
            if link.readlink() == path:
                return True
    return False


def links_of(pid: int) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(Path(f"/proc/{pid}/fd").iterdir())
    return []


def command_of(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def count_descriptors(pid: int) -> int:
    return len(links_of(pid))


def memory_kib(pid: int) -> tuple[int, int]:
    """Memory of its own, whether shared with a forked child or not, and its share of all."""
    anonymous = proportional = 0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                anonymous = int(line.split()[1])
            elif line.startswith("Pss:"):
                proportional = int(line.split()[1])
    return anonymous, proportional
