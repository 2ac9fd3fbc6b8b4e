# SPDX-License-Identifier: Apache-2.0
"""The parts of `python -m bench article` that are measured with the means of other commands: whole servers, and dictionaries.

Flow:  article_command.py -> **Servers** -> servers_command.py; **Dictionaries** -> dict_command.py
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import servers_command, tables
from bench.contenders import CONTENDERS, WORKLOADS
from bench.dict_command import QUESTIONS, SIZES, Peers
from bench.dict_stores import STORES
from bench.venvs import ROOT, ensure, versions

if TYPE_CHECKING:
    from bench.budget import Budget
    from cubbyhole.measuring.jobs import Place

_SERVER_WORKLOADS = ["noop-1", "noop-32", "raw-64k", "raw-4m", "stream-16"]
_KILLS = 6  # of a writer, for each store and repetition; a store that hangs costs 10 s each


class Servers:
    """Claim 6: one API by every channel, and two peers, over HTTP."""

    name = "servers"

    def __init__(
        self, kinds: list[str], place: Place, arguments: argparse.Namespace, budget: Budget
    ) -> None:
        self._names = [f"cubbyhole-{k}" if k != "shm" else "cubbyhole" for k in kinds]
        self._names += ["litserve", "mosec"]
        self._pythons = {"cubbyhole": Path(place.python)}
        self._arguments = arguments
        self._budget = budget
        self._runs: list[dict[str, Any]] = []
        self.left_out: list[str] = []

    def prepare(self) -> dict[str, Any]:
        """Make the peers' environments, and return their versions; one that cannot be made is a failure of that peer alone."""
        found = {}
        if self._arguments.in_place:
            os.environ["PYTHONPATH"] = str(ROOT / "src")
        for name in ("litserve", "mosec"):
            try:
                self._pythons[name] = ensure(name)
                found[name] = versions(name)
            except SystemExit as error:  # noqa: PERF203
                why = {"failures": 1, "requests": 0, "example": str(error)[-600:]}
                self._runs.append({"contender": name, "workload": "install", "repeat": 0, **why})
        return found

    def measure(self) -> dict[str, Any]:
        """Start each contender for each kind of server, run its workloads, as often as there is time."""
        contenders = [CONTENDERS[name] for name in self._names]
        contenders = [c for c in contenders if c.venv in self._pythons]
        workloads = [WORKLOADS[name] for name in _SERVER_WORKLOADS]
        groups = list(dict.fromkeys(w.server for w in workloads))
        options = argparse.Namespace(
            seconds=max(0.5, self._arguments.seconds * self._budget.scale), warmup=0.4, repeat=1
        )
        for repeat in range(self._arguments.repeat):
            turn = repeat % len(contenders)
            rotated = contenders[turn:] + contenders[:turn]
            for group in groups:
                if not self._budget.has_room(f"server {group}", first=repeat == 0):
                    self.left_out.append(f"servers ({group}), repetition {repeat + 1}")
                    continue
                begun = time.monotonic()
                asked = [w for w in workloads if w.server == group]
                runs = servers_command.measure(rotated, asked, self._pythons, options)
                self._runs += [{**run, "repeat": repeat} for run in runs]
                self._budget.took(f"server {group}", time.monotonic() - begun)
        return {
            "runs": self._runs,
            "summary": tables.summarize(self._runs),
            "targets": [],
            "settings": {"contenders": self._names, "repeat": self._arguments.repeat},
        }


class Dictionaries:
    """Claim 7: `SharedDict` and other dictionaries that processes share."""

    name = "dict"

    def __init__(
        self, _kinds: list[str], _place: Place, arguments: argparse.Namespace, budget: Budget
    ) -> None:
        self._arguments = arguments
        self._budget = budget
        self._peers: Peers
        self.left_out: list[str] = []

    def prepare(self) -> dict[str, Any]:
        """Make the environment of the peers, and return their versions."""
        self._peers = Peers(list(STORES), in_place=self._arguments.in_place)
        return {"dicts": versions("dicts")}

    def measure(self) -> dict[str, Any]:
        """Put each question to every store, as often as there is time."""
        runs: list[dict[str, Any]] = []
        for repeat in range(self._arguments.repeat):
            for question in QUESTIONS:
                if not self._budget.has_room(f"dict {question}", first=repeat == 0):
                    self.left_out.append(f"dict ({question}), repetition {repeat + 1}")
                    continue
                begun = time.monotonic()
                print(f"bench: dict {question}, repetition {repeat + 1}", flush=True)
                seconds = 0.5 * self._budget.scale
                runs += self._peers.ask(question, repeat, seconds=seconds, kills=_KILLS)
                self._budget.took(f"dict {question}", time.monotonic() - begun)
        return {
            "runs": runs,
            "summary": tables.summarize(runs),
            "left_out": self._peers.left_out,
            "settings": {"stores": self._peers.names, "sizes": SIZES, "kills": _KILLS},
        }


MORE: dict[str, type[Servers | Dictionaries]] = {"servers": Servers, "dict": Dictionaries}
