# SPDX-License-Identifier: Apache-2.0
"""Workers that come and go with the load, or as an operator says: real processes, no failed request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.chaos.test_replacing import Load
from tests.conftest import poll_until
from tests.integration.test_operating import clients_of, command

from cubbyhole.core.roster import ProcessState
from cubbyhole.seen.attached import attach
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from cubbyhole.seen.attached import AttachedServer

OPERATED = Path(__file__).with_name("operated.py")


def states(seen: AttachedServer) -> list[str]:
    """Return the state of each worker's place."""
    roster = seen.roster
    cells = map(roster.worker_cell, range(roster.workers))
    return [roster.state(cell).name for cell in cells]


def present(seen: AttachedServer) -> int:
    """Return how many workers there are."""
    return sum(state != ProcessState.ABSENT.name for state in states(seen))


def healthy(url: str) -> bool:
    return httpx.get(f"{url}/health", timeout=10).status_code == 200


@pytest.mark.timeout(110)
def test_workers_come_with_the_load_and_go_without_it() -> None:
    with serving(f"{OPERATED}:scaling") as server, attach(server.pid) as seen:
        assert states(seen) == ["READY", "ABSENT", "ABSENT"]
        assert healthy(server.url)
        with Load(server.url, clients=6, sleep_s=0.25) as load:
            poll_until(lambda: present(seen) > 1, timeout_s=30)
            assert healthy(server.url)  # while another one starts
            poll_until(lambda: len(load.pids) == 3, timeout_s=40)
        poll_until(lambda: present(seen) == 1, timeout_s=30)
        assert states(seen) == ["READY", "ABSENT", "ABSENT"]
        assert healthy(server.url)
        workers = httpx.get(f"{server.url}/metrics", timeout=10).text
        output = server.output()
        assert server.stop() == 0
    assert load.wrong == []
    assert 'cubbyhole_workers{endpoint="/predict",state="absent"} 2.0' in workers
    assert "workers scaled: endpoint=/predict from=1 to=2" in output
    assert "worker replaced" not in output


@pytest.mark.timeout(110)
def test_an_operator_sets_the_number_under_load_and_no_request_fails() -> None:
    with serving(f"{OPERATED}:fixed") as server, attach(server.pid) as seen:
        with Load(server.url, sleep_s=0.02) as load:
            poll_until(lambda: len(load.pids) == 3, timeout_s=20)
            assert command(server, "scale", "1") == (
                0,
                "/predict had 3 workers and gets 1, as asked.\n",
            )
            poll_until(lambda: present(seen) == 1, timeout_s=20)
            assert healthy(server.url)
            assert command(server, "scale", "2")[0] == 0
            poll_until(lambda: states(seen) == ["READY", "READY", "ABSENT"], timeout_s=20)
            served = load.count
            poll_until(lambda: load.count > served + 20, timeout_s=20)
        code, text = command(server, "scale", "4")
        assert code == 1
        assert "can have 1 to 3 workers, not 4" in text
        code, text = command(server, "scale", "1", "--path", "/nowhere")
        assert code == 1
        assert "There is no API /nowhere" in text
    assert load.wrong == []


@pytest.mark.timeout(110)
def test_a_worker_that_is_one_too_many_finishes_its_batch(tmp_path: Path) -> None:
    release, begun = tmp_path / "release", [tmp_path / f"begun{number}" for number in range(4)]
    with serving(f"{OPERATED}:busy_batches") as server, attach(server.pid) as seen:
        with clients_of(server) as clients:
            for file in begun:
                clients.ask(file.name, begun=str(file), until=str(release))
            poll_until(lambda: all(file.exists() for file in begun))  # both workers are busy
            for _ in range(2):  # when the second one is answered, the first one was done
                assert command(server, "scale", "1")[0] == 0
            assert clients.answers == {}
            release.touch()
        poll_until(lambda: present(seen) == 1)
        output = server.output()
    assert {answer.status_code for answer in clients.answers.values()} == {200}
    assert len({answer.json()["pid"] for answer in clients.answers.values()}) == 2
    assert "worker replaced" not in output


@pytest.mark.timeout(110)
def test_a_further_worker_that_cannot_start_does_not_end_the_server() -> None:
    with serving(f"{OPERATED}:too_many") as server, attach(server.pid) as seen:
        with Load(server.url, clients=6, sleep_s=0.25) as load:
            process = server.process
            assert process is not None
            given_up = "worker given up: worker=1"
            poll_until(lambda: given_up in server.output() or process.poll() is not None, 70)
            assert process.poll() is None, server.output()
            assert healthy(server.url)
        poll_until(lambda: states(seen) == ["READY", "ABSENT"])
        assert len(load.pids) == 1
    assert load.wrong == []


@pytest.mark.timeout(110)
def test_workers_are_replaced_in_turn_under_load_and_no_request_fails() -> None:
    with serving(f"{OPERATED}:fixed") as server:
        with Load(server.url) as load:
            poll_until(lambda: len(load.pids) == 3, timeout_s=20)
            before = frozenset(load.pids)
            assert command(server, "roll") == (0, "3 workers are replaced, one after another.\n")
            poll_until(lambda: len(load.pids - before) == 3, timeout_s=40)
            served = load.count
            poll_until(lambda: load.count > served + 20, timeout_s=20)
        assert server.stop() == 0
    assert load.wrong == []
