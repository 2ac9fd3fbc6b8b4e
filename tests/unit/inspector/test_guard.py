# SPDX-License-Identifier: Apache-2.0
"""Who may look at the page, and what browsers cannot be talked into."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from cubbyhole.inspector.guard import COOKIE, LOOPBACK_NAMES, Guard
from cubbyhole.inspector.peers import knows_peers, uid_of_peer
from cubbyhole.seen.reach import check_key, is_loopback

if TYPE_CHECKING:
    from starlette.requests import Request

KEY = "a long key that nobody guesses"
GUARDED = "what is guarded"


def plain(request: Request) -> PlainTextResponse:
    return PlainTextResponse("asks for the key" if request.url.path == "/login" else GUARDED)


def client(
    key: str | None = None, *, anywhere: bool = False, headers: dict[str, str] | None = None
) -> httpx.AsyncClient:
    paths = ("/", "/login", "/api/snapshot", "/assets/main.js")
    app = Starlette(routes=[Route(path, plain) for path in paths])
    guard = Guard(app, key, None if anywhere else LOOPBACK_NAMES)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(guard), base_url="http://localhost:8001", headers=headers
    )


async def test_without_a_key_whoever_reaches_loopback_may_look() -> None:
    async with client() as browser:
        assert (await browser.get("/")).text == GUARDED


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8001", "[::1]:9", "LOCALHOST:1"])
async def test_this_machine_may_be_called_by_each_of_its_own_names(host: str) -> None:
    async with client(headers={"host": host}) as browser:
        assert (await browser.get("/api/snapshot")).text == GUARDED


@pytest.mark.parametrize(
    "host", ["evil.example:8001", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
async def test_a_foreign_name_that_resolves_to_this_machine_is_refused(host: str) -> None:
    async with client(headers={"host": host}) as browser:
        answer = await browser.get("/api/snapshot")
        assert answer.status_code == 421
        assert GUARDED not in answer.text


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999"])
async def test_requests_of_another_origin_are_refused(origin: str) -> None:
    async with client(headers={"origin": origin}) as browser:
        assert (await browser.get("/api/snapshot")).status_code == 403


async def test_requests_that_a_browser_says_come_from_another_site_are_refused() -> None:
    async with client(headers={"sec-fetch-site": "cross-site"}) as browser:
        assert (await browser.get("/api/snapshot")).status_code == 403
        assert (await browser.get("/")).status_code == 200  # a link to the page is no harm


async def test_its_own_pages_requests_are_answered() -> None:
    own = {"origin": "http://localhost:8001", "sec-fetch-site": "same-origin"}
    async with client(headers=own) as browser:
        assert (await browser.get("/api/snapshot")).status_code == 200


async def test_with_a_key_nothing_is_told_to_whoever_has_it_not() -> None:
    async with client(KEY) as browser:
        assert (await browser.get("/api/snapshot")).status_code == 401
        assert GUARDED not in (await browser.get("/")).text
        wrong = await browser.get("/api/snapshot", headers={"x-api-key": KEY[:-1]})
        assert wrong.status_code == 401
        assert (await browser.get("/assets/main.js")).status_code == 200


async def test_the_key_opens_by_header_and_its_session_by_cookie() -> None:
    async with client(KEY) as browser:
        headers = {"x-api-key": KEY}
        assert (await browser.get("/api/snapshot", headers=headers)).text == GUARDED
        guard: Guard = browser._transport.app  # type: ignore[attr-defined]
        session = guard.session_for(KEY)
        assert session
        assert guard.session_for("wrong") is None
        assert guard.session_for(None) is None
        for value, status in ((session, 200), (session[:-1], 401), ("", 401)):
            answer = await browser.get("/api/snapshot", headers={"cookie": f"{COOKIE}={value}"})
            assert answer.status_code == status


async def test_a_server_without_a_key_gives_no_sessions() -> None:
    async with client() as browser:
        guard: Guard = browser._transport.app  # type: ignore[attr-defined]
        assert guard.session_for("") is None


async def test_every_answer_forbids_what_the_page_does_not_need() -> None:
    async with client(KEY) as browser:
        for path in ("/", "/api/snapshot", "/nothing"):
            headers = (await browser.get(path)).headers
            assert headers["content-security-policy"].startswith("default-src 'none'")
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["cache-control"] == "no-store"
            assert not [name for name in headers if name.startswith("access-control")]


async def test_with_a_key_the_page_may_be_called_by_any_name() -> None:
    async with client(KEY, anywhere=True, headers={"host": "gpu-box:8001"}) as browser:
        headers = {"x-api-key": KEY}
        assert (await browser.get("/api/snapshot", headers=headers)).status_code == 200
        assert (await browser.get("/api/snapshot")).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "gpu-box", ""])
def test_beyond_loopback_it_does_not_start_without_a_key(host: str) -> None:
    with pytest.raises(ValueError, match="without a key"):
        check_key(host, None)
    check_key(host, KEY)


@pytest.mark.parametrize("key", ["", "  "])
def test_an_empty_key_is_refused_everywhere(key: str) -> None:
    for host in ("127.0.0.1", "0.0.0.0", None):
        with pytest.raises(ValueError, match="empty"):
            check_key(host, key)


def test_loopback_and_a_unix_socket_need_no_key() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8", None):
        check_key(host, None)
    assert not is_loopback("0.0.0.0")


@pytest.mark.parametrize(
    ("uid", "status"), [(os.geteuid(), 200), (0, 200), (os.geteuid() + 1, 403), (None, 403)]
)
async def test_without_a_key_only_processes_of_the_same_user_may_look(
    uid: int | None, status: int
) -> None:
    app = Starlette(routes=[Route("/", plain)])
    for key in (None, KEY):
        guard = Guard(app, key, uid_of_peer=lambda _client, _server: uid)
        transport = httpx.ASGITransport(guard)
        headers = {"x-api-key": KEY}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost:8001", headers=headers
        ) as browser:
            assert (await browser.get("/")).status_code == (200 if key else status)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_kernel_tells_whose_process_is_at_the_other_end(host: str) -> None:
    if not knows_peers():
        pytest.skip("the system does not tell")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            pytest.skip(f"no {host} here")
        listener.listen()
        with socket.create_connection(listener.getsockname()[:2]) as client:
            accepted, address = listener.accept()
            server = accepted.getsockname()[:2]
            assert uid_of_peer(address[:2], server) == os.geteuid()
            assert uid_of_peer((address[0], address[1] ^ 1), server) is None
            assert uid_of_peer(("no address", 1), server) is None
            accepted.close()
            del client
