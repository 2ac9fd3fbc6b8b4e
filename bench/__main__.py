# SPDX-License-Identifier: Apache-2.0
"""`python -m bench <what>`: arguments only; each measurement has its own module.

Flow:  **__main__.py** -> *_command.py, compare.py, docs.py
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

COMMANDS = {
    "servers": (
        "bench.servers_command",
        "whole servers under load, beside LitServe, mosec, FastAPI and a bare handler",
    ),
    "channels": (
        "bench.channels_command",
        "what carries requests between processes: shm, sockets, pipes, manager, zmq",
    ),
    "article": (
        "bench.article_command",
        "the article's claims about pipes and a managed dict, on every channel",
    ),
    "seeing": ("bench.seeing_command", "what it costs a server to be seen, in each way and in all"),
    "faults": (
        "bench.faults_command",
        "the same faults on Cubbyhole, LitServe and mosec: what the clients saw",
    ),
    "clients": (
        "bench.clients_command",
        "large tensors by each way that clients have, beside KServe, MLServer, LitServe and mosec",
    ),
    "dict": ("bench.dict_command", "SharedDict beside other dictionaries that processes share"),
    "overload": (
        "bench.overload_command",
        "ten times what a server can do: how long accepted requests wait, how soon the others are told, memory",
    ),
    "compare": ("bench.compare", "two result files side by side"),
    "docs": ("bench.docs", "put the figures of bench/results/ into docs/benchmarks.md"),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Cubbyhole and its peers on this machine. Every answer is checked.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="WHAT")
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        import_module(module).add_arguments(sub)
        sub.set_defaults(run=import_module(module).run)
    arguments = parser.parse_args()
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
