# SPDX-License-Identifier: Apache-2.0
"""What the article's page says of figures, how a run fits its time, and the stores that need a server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from bench import docs, tables
from bench.article_words import across, losses, statements
from bench.budget import Budget
from bench.dict_stores import Redis

MACHINE = dict.fromkeys(
    ("cpu", "cores", "memory_gib", "kernel", "python", "load_average_at_start"), 1
)
NAMES = ["shm", "pipes", "manager"]


def result(workload: str, figure: str, *values: float, **more: Any) -> dict[str, Any]:
    runs = [
        {"workload": workload, "contender": name, "failures": 0, figure: value}
        for name, value in zip(NAMES, values, strict=True)
    ]
    return {
        "kind": "article",
        "name": "article",
        "command": "python -m bench article",
        "at": "2026-01-01",
        "commit": "0123456789ab",
        "machine": MACHINE,
        "runs": runs,
        "summary": tables.summarize(runs),
        "settings": {"channels": NAMES, "repeat": 1},
        **more,
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((1.0, 2.0, 30.0), "the best; next is `pipes` with 2.00 ms (2.00 times); `manager` 30.0 ms"),
        ((1.0, 1.05, 30.0), "as good as the best of the others, `pipes` with 1.05 ms"),
        ((2.0, 1.0, 30.0), "**beaten by `pipes`** with 1.00 ms (2.00 times)"),
    ],
)  # fmt: skip
def test_a_sentence_says_who_is_ahead_whoever_it_is(values: Any, said: str) -> None:
    measured = result("access:one-urgent", "waited_ms", *values)
    assert said in "\n".join(statements(measured, "access"))
    beaten = "beaten" in said
    assert ("beaten by" in losses(measured)[0]) is beaten


def test_where_more_is_better_the_larger_is_ahead() -> None:
    case = "concurrency:128-in-flight-1-workers"
    measured = result(case, "round_trips_per_s", 10.0, 100.0, 1.0)
    assert "**beaten by `pipes`** with 100 /s" in "\n".join(statements(measured, "concurrency"))


def test_a_claim_that_was_not_measured_says_so() -> None:
    measured = result("access:one-urgent", "waited_ms", 1.0, 2.0, 3.0)
    for claim in ("sizes", "visibility", "servers", "dict"):
        assert statements(measured, claim) == ["- Not measured in this run."]


def test_sizes_are_a_line_each_and_channels_a_column() -> None:
    table = across(
        result("sizes:array-67108864", "p50_us", 1.0, 2.0, 3.0), "sizes", "p50_us"
    ).splitlines()
    assert table[0] == "|  | shm | pipes | manager |"
    assert table[2] == "| array, 64 MiB | 1.00 | 2.00 | 3.00 |"


def test_what_a_killed_writer_leaves_is_told_of_each_store() -> None:
    runs = [
        {"workload": "death:writer-killed", "contender": name, "failures": 0, "rounds": 6,
         "stuck": stuck, "torn_or_lost": 0}
        for name, stuck in (("SharedDict", 0), ("UltraDict", 5))
    ]  # fmt: skip
    part = {"summary": tables.summarize(runs), "left_out": ["Redis: no redis-server"]}
    said = "\n".join(statements({"summary": {}, "dict": part}, "dict"))
    assert "the other processes could not go on: `UltraDict` 5 of 6 times" in said
    assert "a value was torn or lost: with none" in said
    assert "Not available in this run: Redis: no redis-server." in said


def test_blocks_of_a_page_are_filled_and_filling_again_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docs, "RESULTS", tmp_path)
    measured = result("access:one-urgent", "waited_ms", 1.0, 2.0, 3.0, left_out=["x"])
    (tmp_path / "article.json").write_text(json.dumps(measured))
    (tmp_path / "article.svg").write_text("<svg/>")
    page = tmp_path / "page.md"
    names = ("article:access", "article:plot", "article:losses", "nothing")
    page.write_text("".join(f"<!-- bench:{n} -->\nold\n<!-- /bench -->\n" for n in names))

    class Arguments:
        files = (str(page),)

    arguments: Any = Arguments()
    docs.run(arguments)
    once = page.read_text()
    assert "the best; next is `pipes`" in once
    assert "| one-urgent | pipes | 2.00 |" in once
    assert "![article](images/bench-article.svg)" in once
    assert "Median of up to 1" in once
    assert "- None in this run." in once
    assert once.count("old") == 1  # there is no result of that name: left alone
    assert (tmp_path / "images" / "bench-article.svg").exists()
    docs.run(arguments)
    assert page.read_text() == once


def test_every_claim_of_the_page_is_one_that_the_command_measures() -> None:
    from bench.article_command import CLAIMS
    from bench.article_more import MORE

    page = (Path(__file__).parents[3] / "docs" / "article.md").read_text()
    for claim in {*CLAIMS, *MORE}:
        assert f"<!-- bench:article:{claim} -->" in page
        assert any(
            claim in line
            for line in page.splitlines()
            if line.startswith("Check it: `python -m bench article --claims ")
        )


def test_what_is_unseen_goes_before_a_repetition() -> None:
    budget = Budget.of_minutes(1.0, ["sizes", "access"], channels=1)
    budget.start()
    budget.guess_s = {"sizes": 1.0, "access": 1.0}
    assert budget.has_room("sizes", first=False)
    budget.guess_s["access"] = 1000.0
    assert not budget.has_room("sizes", first=False)
    assert budget.has_room("access", first=True)
    budget.took("access", 1000.0)
    assert budget.has_room("sizes", first=False)


def test_a_claim_is_measured_once_even_if_time_is_over() -> None:
    budget = Budget.of_minutes(1.0, ["sizes", "access"], channels=1)
    budget.start()
    budget.begun -= 3600.0
    assert budget.has_room("access", first=True)
    assert not budget.has_room("access", first=False)


def test_a_short_budget_shortens_runs_and_none_leaves_them_alone() -> None:
    claims = ["sizes", "concurrency", "servers", "dict"]
    assert Budget.of_minutes(0.0, claims, 5).scale == 1.0
    assert Budget.of_minutes(1.0, claims, 5).scale < 1.0


def test_a_store_whose_server_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert Redis.lacks() == "no redis-server on this machine"


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="apt install redis-server")
def test_redis_listens_on_a_socket_in_a_folder_and_leaves_neither() -> None:
    store = Redis()
    address = Path(store.make(1024))
    assert address.is_socket()
    assert not list(address.parent.glob("*.rdb"))
    store.end()
    assert not address.parent.exists()
    assert store.process.poll() is not None
