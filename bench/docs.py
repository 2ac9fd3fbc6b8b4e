# SPDX-License-Identifier: Apache-2.0
"""`python -m bench docs`: put the figures of `bench/results/` into `docs/benchmarks.md`, between its markers.

Figures in documents are never typed: a block `<!-- bench:NAME -->` ... `<!-- /bench -->` is replaced by the tables of
`bench/results/NAME.json`, its plot, and the machine and command that made it. A block whose file is missing is left alone.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import article_command, channels_command, dict_command, servers_command
from bench.machine import RESULTS
from bench.venvs import ROOT

if TYPE_CHECKING:
    import argparse

_BLOCK = re.compile(r"(<!-- bench:(\S+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", default=str(ROOT / "docs" / "benchmarks.md"))


def block(result: dict[str, Any], plot: str) -> str:
    """Return one result as Markdown."""
    report = {
        "servers": servers_command.report,
        "channels": channels_command.report,
        "article": article_command.report,
        "dict": dict_command.report,
    }
    at = result["machine"]
    failed = sum(1 for run in result["runs"] if run["failures"])
    lines = [
        f"`{result['command']}`, commit `{result['commit'][:10]}`, {result['at']}.",
        (
            f"{at['cpu']}, {at['cores']} cores, {at['memory_gib']} GiB, Linux {at['kernel']}, "
            f"Python {at['python']}; load average at the start {at['load_average_at_start']}. "
            f"Median of {result['settings']['repeat']} (least-most); {len(result['runs'])} runs, {failed} failed."
        ),
        f"![{result['name']}]({plot})",
        report[result["kind"]](result, markdown=True),
    ]
    return "\n\n".join(lines)


def run(arguments: argparse.Namespace) -> int:
    path = Path(arguments.file)

    def fill(match: re.Match[str]) -> str:
        source = RESULTS / f"{match[2]}.json"
        if not source.exists():
            return match[0]
        plot = path.parent / "images" / f"bench-{match[2]}.svg"
        plot.parent.mkdir(exist_ok=True)
        shutil.copyfile(source.with_suffix(".svg"), plot)
        text = block(json.loads(source.read_text()), f"images/{plot.name}")
        return f"{match[1]}\n{text}\n\n{match[3]}"

    path.write_text(_BLOCK.sub(fill, path.read_text()))
    print(f"{path} is up to date with bench/results/.")
    return 0
