# SPDX-License-Identifier: Apache-2.0
"""What the inspector answers, asked without a browser."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.conftest import poll_until
from tests.unit.inspector.stage import Stage, stage

from cubbyhole.core.clock import now_ns
from cubbyhole.core.entries import RequestMeta, Result
from cubbyhole.inspector.app import load_assets, make_app
from cubbyhole.inspector.guard import Guard
from cubbyhole.inspector.picture import Picture
from cubbyhole.inspector.snapshots import Snapshots, changes
from cubbyhole.observe.description import ServerDescription

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.inspector.orders import GiveOrder

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)


@pytest.fixture
def staged() -> Iterator[Stage]:
    with stage() as made:
        yield made


def ask(
    made: Stage, *, key: str | None = None, payloads: bool = False, order: Any = None
) -> httpx.AsyncClient:
    chosen: dict[str, GiveOrder] = {"order": order} if order else {}
    app = make_app(Snapshots(made.attached), payloads=payloads, **chosen)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(Guard(app, key)), base_url="http://localhost:8001"
    )


async def test_a_snapshot_has_every_entry_with_its_process(staged: Stage) -> None:
    first = staged.submit(b'{"input": 1}')
    staged.claim()
    second = staged.submit()
    async with ask(staged) as client:
        found = (await client.get("/api/snapshot")).json()
    assert found["entries"][str(first)]["state"] == "claimed"
    assert found["entries"][str(first)]["worker"] == 0
    assert found["entries"][str(second)]["state"] == "ready"
    assert found["queues"] == [
        {
            "endpoint": 0,
            "waiting": 1,
            "running": 1,
            "oldest": found["queues"][0]["oldest"],
            "classes": found["queues"][0]["classes"],
        }
    ]
    (worker,) = [one for one in found["processes"] if one["role"] == "worker"]
    assert worker["holds"] == [str(first)]
    assert found["about"]["endpoints"] == ["/predict"]
    assert found["about"]["orders"] is False


async def test_one_request_is_told_with_its_failure_and_traceback(staged: Stage) -> None:
    request_id = staged.submit()
    staged.fail(request_id, code="predict_failed", traceback_text="Traceback: here", worker=0)
    async with ask(staged) as client:
        found = (await client.get(f"/api/requests/{request_id}")).json()
    assert found["entry"]["id"] == str(request_id)
    assert len(found["times"]) == 5
    assert found["failure"]["code"] == "predict_failed"
    assert found["failure"]["traceback"] == "Traceback: here"


async def test_a_request_of_which_nothing_is_kept_is_not_found(staged: Stage) -> None:
    async with ask(staged, payloads=True) as client:
        for path in ("/api/requests/12345", "/api/requests/12345/payload"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    "bad",
    [
        "abc",
        "-1",
        "0",
        "1.5",
        "%20",
        "1e9",
        "9" * 21,
        "18446744073709551616",
        "٣",
        "0x10",
        "..%2f..%2fetc",
    ],
)
async def test_malformed_ids_are_refused(staged: Stage, bad: str) -> None:
    async with ask(staged, payloads=True) as client:
        for path in (f"/api/requests/{bad}", f"/api/requests/{bad}/payload"):
            assert (await client.get(path)).status_code in (400, 404)


async def test_payloads_are_hidden_unless_asked_for(staged: Stage) -> None:
    request_id = staged.submit(b'{"secret": "swordfish"}')
    async with ask(staged) as client:
        for path in ("payload", "payload/request/image", "payload/result/image"):
            answer = await client.get(f"/api/requests/{request_id}/{path}")
            assert answer.status_code == 403
            assert "swordfish" not in answer.text
        assert "swordfish" not in (await client.get("/api/snapshot")).text
        assert "swordfish" not in (await client.get(f"/api/requests/{request_id}")).text


async def test_a_payload_is_shown_where_the_inspector_was_started_so(staged: Stage) -> None:
    request_id = staged.submit(b'{"input":[1,2]}')
    claimed = staged.claim()
    staged.worker.publish(claimed, Result(b'{"output":3}'))
    async with ask(staged, payloads=True) as client:
        found = (await client.get(f"/api/requests/{request_id}/payload")).json()
    assert found["request"]["kind"] == "json"
    assert json.loads(found["request"]["text"]) == {"input": [1, 2]}
    assert json.loads(found["result"]["text"]) == {"output": 3}
    assert found["status"] == 200


async def test_only_images_are_given_as_they_came_and_under_their_own_type(staged: Stage) -> None:
    image = staged.submit(PIXEL, RequestMeta("text/html"))
    page = staged.submit(b"<script>alert(1)</script>", RequestMeta("image/png"))
    drawing = staged.submit(
        b"<svg xmlns='http://www.w3.org/2000/svg'/>", RequestMeta("image/svg+xml")
    )
    async with ask(staged, payloads=True) as client:
        answer = await client.get(f"/api/requests/{image}/payload/request/image")
        assert answer.content == PIXEL
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["x-content-type-options"] == "nosniff"
        for other in (page, drawing):
            refused = await client.get(f"/api/requests/{other}/payload/request/image")
            assert refused.status_code == 415


async def test_the_hook_of_the_server_takes_out_what_nobody_may_see() -> None:
    with stage(redact="tests.unit.seen.hooks:hide_names") as made:
        request_id = made.submit(b'{"name": "Ada"}')
        async with ask(made, payloads=True) as client:
            found = (await client.get(f"/api/requests/{request_id}/payload")).json()
    assert json.loads(found["request"]["text"]) == {"name": "***"}


@pytest.mark.parametrize("hook", ["none", "raises", "wrong", "missing"])
async def test_a_hook_that_fails_hides_the_payload(hook: str) -> None:
    with stage(redact=f"tests.unit.seen.hooks:{hook}") as made:
        request_id = made.submit(PIXEL)
        async with ask(made, payloads=True) as client:
            for path in ("payload", "payload/request/image"):
                answer = await client.get(f"/api/requests/{request_id}/{path}")
                assert answer.status_code == 403
                assert b"PNG" not in answer.content


@pytest.mark.parametrize(
    "path",
    [
        "../app.py",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "....//app.py",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "index.html",
        "main.js%00",
        "",
        "nothing.js",
    ],
)
async def test_no_path_leads_out_of_the_pages_files(staged: Stage, path: str) -> None:
    async with ask(staged) as client:
        answer = await client.get(f"/assets/{path}")
        assert answer.status_code in (404, 200)
        if answer.status_code == 200:  # the client itself has resolved it: to another route
            assert answer.url.path == "/" or "SPDX" not in answer.text


async def test_the_pages_files_have_their_types(staged: Stage) -> None:
    async with ask(staged) as client:
        for name, kind in (
            ("main.js", "javascript"),
            ("inspector.css", "css"),
            ("icon.svg", "svg"),
        ):
            answer = await client.get(f"/assets/{name}")
            assert kind in answer.headers["content-type"]
        assert "text/html" in (await client.get("/")).headers["content-type"]


def test_nothing_in_the_page_names_another_place() -> None:
    for name, data in load_assets().items():
        text = data.decode().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("// ", "").replace("</", "") or "http" not in text, name
        assert "innerHTML" not in text, name
        assert "<script>" not in text, name
        assert "<style" not in text, name
        assert " style=" not in text, name


async def test_the_key_is_turned_into_a_session_that_scripts_cannot_read(staged: Stage) -> None:
    async with ask(staged, key="right") as client:
        page = await client.get("/")
        assert page.status_code == 401
        assert "Key" in page.text
        assert (await client.post("/login", json={"key": "wrong"})).status_code == 401
        assert (await client.post("/login", json={"key": 5})).status_code == 401
        assert (await client.post("/login", json=["right"])).status_code == 400
        assert (await client.post("/login", data={"key": "right"})).status_code == 415
        assert (await client.post("/login", json={"key": "x" * 5000})).status_code == 413
        answer = await client.post("/login", json={"key": "right"})
        assert answer.status_code == 200
        assert "httponly" in answer.headers["set-cookie"].lower()
        assert "samesite=strict" in answer.headers["set-cookie"].lower()
        assert "right" not in answer.headers["set-cookie"]
        assert (await client.get("/api/snapshot")).status_code == 200


async def test_orders_go_to_the_servers_address_and_nowhere_without_one(staged: Stage) -> None:
    given: list[tuple[str, str, int, int]] = []

    def order(address: str, what: str, request_id: int, priority: int) -> tuple[bool, str]:
        given.append((address, what, request_id, priority))
        return what == "cancel", "said"

    request_id = staged.submit()
    async with ask(staged, order=order) as client:
        refused = await client.post(f"/api/requests/{request_id}/cancel", json={})
        assert refused.status_code == 409
    assert given == []


@pytest.mark.skipif(
    "admin" not in ServerDescription.__struct_fields__, reason="servers take no orders yet"
)
async def test_an_order_is_passed_on_with_its_priority_and_its_answer_shown() -> None:
    given: list[tuple[str, str, int, int]] = []

    def order(address: str, what: str, request_id: int, priority: int) -> tuple[bool, str]:
        given.append((address, what, request_id, priority))
        return what == "cancel", "said"

    with stage(admin="@here") as made:
        one = f"/api/requests/{made.submit()}"
        async with ask(made, order=order) as client:
            assert (await client.get("/api/snapshot")).json()["about"]["orders"] is True
            done = await client.post(f"{one}/cancel", json={})
            assert (done.status_code, done.json()) == (200, {"ok": True, "text": "said"})
            refused = await client.post(f"{one}/rerank", json={"priority": 3})
            assert refused.status_code == 409
            for priority in (10, -1, "1", None, 1.5):
                bad = await client.post(f"{one}/rerank", json={"priority": priority})
                assert bad.status_code == 422
            assert (await client.post(f"{one}/drain", json={})).status_code == 404
            foreign = await client.post(
                f"{one}/cancel", json={}, headers={"origin": "http://evil.example"}
            )
            assert foreign.status_code == 403
    assert [order[1:2] + order[3:] for order in given] == [("cancel", 0), ("rerank", 3)]


async def test_a_read_never_gives_an_order(staged: Stage) -> None:
    async with ask(staged) as client:
        for what in ("cancel", "rerank"):
            answer = await client.get(f"/api/requests/1/{what}")
            assert answer.status_code in (404, 405)
            other = await client.post(f"/api/requests/1/{what}", data={})
            assert other.status_code == 415


async def test_viewers_get_the_whole_and_then_what_changed(staged: Stage) -> None:
    first = staged.submit()
    snapshots = Snapshots(staged.attached)
    loop = asyncio.create_task(snapshots.run())
    events = snapshots.follow()
    whole = await anext(events)
    assert whole.startswith(b"event: whole\n")
    assert str(first).encode() in whole
    second = staged.submit()
    change = await anext(events)
    assert change.startswith(b"event: change\n")
    told = json.loads(change.partition(b"data: ")[2])
    assert str(second) in told["entries"]
    assert "about" not in told
    assert "processes" not in told
    await events.aclose()
    assert snapshots.viewers == 0
    snapshots.close()
    await loop


async def test_while_nobody_looks_nothing_but_the_flow_is_counted(staged: Stage) -> None:
    snapshots = Snapshots(staged.attached)
    loop = asyncio.create_task(snapshots.run())

    points = await asyncio.to_thread(poll_until, snapshots.flow_points)
    assert points[0]["arrivals"] == 0
    assert snapshots.looks == 0
    snapshots.close()
    await loop


async def test_all_viewers_share_one_look(staged: Stage) -> None:
    snapshots = Snapshots(staged.attached)
    viewers = [snapshots.follow() for _ in range(20)]
    for viewer in viewers:
        assert (await anext(viewer)).startswith(b"event: whole")
    assert snapshots.looks == 1
    assert snapshots.viewers == 20
    for viewer in viewers:
        await viewer.aclose()


async def test_beyond_a_number_the_youngest_are_left_out_and_counted(staged: Stage) -> None:
    ids = [staged.submit() for _ in range(30)]
    found = Picture(staged.attached, entries_most=20).take()
    assert list(found["entries"]) == [str(one) for one in ids[:20]]
    assert (found["under_way"], found["left_out"]) == (30, 10)
    assert found["queues"][0]["waiting"] == 30


async def test_of_a_long_queue_that_stands_still_nothing_is_made_or_sent_again(
    staged: Stage,
) -> None:
    ids = [str(staged.submit()) for _ in range(30)]
    staged.claim()
    picture = Picture(staged.attached)
    first, second = picture.take(), picture.take()
    assert all(second["entries"][one] is first["entries"][one] for one in ids[1:])
    assert set(changes(first, second)["entries"]) <= {ids[0]}


async def test_a_request_that_waits_past_its_deadline_is_marked_though_nothing_else_changed(
    staged: Stage,
) -> None:
    request_id = str(staged.submit(deadline_ns=now_ns() + 50_000_000))
    picture = Picture(staged.attached)
    assert picture.take()["entries"][request_id]["stuck"] == ""
    poll_until(lambda: picture.take()["entries"][request_id]["stuck"] == "past its deadline")
