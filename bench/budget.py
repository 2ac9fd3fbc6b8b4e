# SPDX-License-Identifier: Apache-2.0
"""How much of a time budget is left, and what still has room in it.

Every turn is measured once, whatever the budget: half a report is worth less than one that took longer. A repetition has room only where
the first one says that there is time. What runs for a fixed time is shortened to fit (`scale`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

# seconds of one turn over one channel at full length, on two cores; for whole servers, over one contender
GUESS_S = {
    "sizes": 35.0,
    "blocking": 6.0,
    "lag": 9.0,
    "visibility": 4.0,
    "access": 5.0,
    "concurrency": 18.0,
}
SERVERS_GUESS_S = {"server noop": 9.0, "server raw": 9.0, "server stream": 6.0}
STORES_GUESS_S = {
    "dict sizes": 45.0,
    "dict contention": 15.0,
    "dict death": 90.0,
}  # over all stores
_PEERS = 2
_LEAST_SCALE = 0.2


@dataclass
class Budget:
    """`limit_s` 0: no limit. `guess_s`: of each turn, replaced by what it took."""

    limit_s: float
    scale: float
    guess_s: dict[str, float]
    begun: float = 0.0
    seen: set[str] = field(default_factory=set)

    @classmethod
    def of_minutes(cls, minutes: float, claims: list[str], channels: int) -> Budget:
        """Plan a run of these claims over so many channels; 0 minutes: without a limit."""
        guess_s = {c: GUESS_S[c] * channels for c in claims if c in GUESS_S}
        if "servers" in claims:
            guess_s |= {k: v * (channels + _PEERS) for k, v in SERVERS_GUESS_S.items()}
        if "dict" in claims:
            guess_s |= STORES_GUESS_S
        whole_s = sum(guess_s.values())
        scale = 1.0 if not minutes else min(1.0, max(_LEAST_SCALE, 60 * minutes / (whole_s or 1)))
        return cls(60 * minutes, scale, guess_s)

    def start(self) -> None:
        """Begin to count."""
        self.begun = time.monotonic()

    def left_s(self) -> float:
        """Return what is left, in seconds."""
        return self.limit_s - (time.monotonic() - self.begun)

    def has_room(self, turn: str, *, first: bool) -> bool:
        """Return whether a turn may run: the first one always, another if all that is unseen fits as well."""
        if first or not self.limit_s:
            return True
        unseen = sum(s for name, s in self.guess_s.items() if name not in self.seen)
        return self.left_s() > unseen * self.scale + self.guess_s[turn]

    def took(self, turn: str, seconds: float) -> None:
        """Note how long a turn took."""
        self.guess_s[turn] = seconds
        self.seen.add(turn)
