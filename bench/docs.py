# SPDX-License-Identifier: Apache-2.0
"""`python -m bench docs`: put the figures of `bench/results/` into the documents, between their markers.

Figures in documents are never typed: a block `<!-- bench:NAME -->` ... `<!-- /bench -->` is replaced by the tables of
`bench/results/NAME.json`, its plot, and the machine and command that made it; `<!-- bench:NAME:targets -->` by the targets
alone, `<!-- bench:NAME:plot -->` by the plot; `<!-- bench:article:CLAIM -->` by sentences computed from the figures of one claim,
`<!-- bench:article:losses -->` by those in which another is ahead. A block whose file is missing is left alone.
"""

from __future__ import annotations

import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import (
    article_command,
    channels_command,
    clients_command,
    dict_command,
    faults_command,
    overload_command,
    seeing_command,
    servers_command,
    tables,
)
from bench.article_words import across, losses, statements
from bench.machine import RESULTS
from bench.venvs import ROOT

if TYPE_CHECKING:
    import argparse

DOCUMENTS = ("docs/benchmarks.md", "docs/article.md", "README.md")
# claims with too many figures for a report of ten minutes: the one that is shown; all are in benchmarks.md
_ACROSS = {
    "sizes": ("p50_us", "Round trip, p50 in microseconds"),
    "concurrency": ("round_trips_per_s", "Round trips a second"),
}
_BLOCK = re.compile(r"(<!-- bench:([\w-]+)(?::([a-z]+))? -->\n).*?(<!-- /bench -->)", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", default=[str(ROOT / name) for name in DOCUMENTS])


def _made_by(result: dict[str, Any]) -> str:
    at = result["machine"]
    often = f"{'up to ' if result.get('left_out') else ''}{result['settings']['repeat']}"
    counted = "Each once" if result["kind"] == "faults" else f"Median of {often} (least-most)"
    failed = sum(1 for run in result["runs"] if run["failures"])
    return (
        f"`{result['command']}`, commit `{result['commit'][:10]}`, {result['at']}. "
        f"{at['cpu']}, {at['cores']} cores, {at['memory_gib']} GiB, Linux {at['kernel']}, "
        f"Python {at['python']}; load average at the start {at['load_average_at_start']}. "
        f"{counted}; {len(result['runs'])} runs, {failed} failed."
    )


def block(result: dict[str, Any], plot: str) -> str:
    """Return one result as Markdown: how it was made, its plot, its tables."""
    report = {
        "servers": servers_command.report,
        "channels": channels_command.report,
        "article": article_command.report,
        "dict": dict_command.report,
        "overload": overload_command.report,
        "clients": clients_command.report,
        "seeing": seeing_command.report,
        "faults": faults_command.report,
    }
    tables_of = report[result["kind"]](result, markdown=True)
    picture = [f"![{result['name']}]({plot})"] if plot else []
    return "\n\n".join((_made_by(result), *picture, tables_of))


def _claim(result: dict[str, Any], claim: str) -> str:
    """Return what the figures say of one claim: sentences, and the figures where they fit on a page."""
    if claim == "losses":
        return "\n".join(losses(result))
    parts = ["\n".join(statements(result, claim))]
    if claim in _ACROSS:
        figure, title = _ACROSS[claim]
        table = across(result, claim, figure)
        parts += [f"{title}:", table] if table else []
    elif claim in article_command.CLAIMS:
        parts += article_command.claim_tables(result, claim)
    return "\n\n".join(parts)


def run(arguments: argparse.Namespace) -> int:
    for path in map(Path, arguments.files):
        path.write_text(_BLOCK.sub(partial(_filled, path=path), path.read_text()))
        print(f"{path} is up to date with bench/results/.")
    return 0


def _filled(match: re.Match[str], path: Path) -> str:
    source = RESULTS / f"{match[2]}.json"
    if not source.exists():
        return match[0]
    result = json.loads(source.read_text())
    if match[2] == "article" and match[3] not in (None, "plot"):
        return f"{match[1]}\n{_claim(result, match[3])}\n\n{match[4]}"
    if match[3] == "targets":
        table = tables.verdict_table(result["targets"], markdown=True)
        return f"{match[1]}\n{_made_by(result)}\n\n{table}\n\n{match[4]}"
    drawn = source.with_suffix(".svg")
    if not drawn.exists():  # words have no plot
        return f"{match[1]}\n{block(result, '')}\n\n{match[4]}"
    plot = path.parent / "images" / f"bench-{match[2]}.svg"
    plot.parent.mkdir(exist_ok=True)
    shutil.copyfile(drawn, plot)
    if match[3] == "plot":
        picture = f"![{match[2]}](images/{plot.name})"
        return f"{match[1]}\n{_made_by(result)}\n\n{picture}\n\n{match[4]}"
    return f"{match[1]}\n{block(result, f'images/{plot.name}')}\n\n{match[4]}"
