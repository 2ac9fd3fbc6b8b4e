# SPDX-License-Identifier: Apache-2.0
"""The access log: what it notes, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from cubbyhole.front import access
from cubbyhole.front.access import AccessLog


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/raises":
        raise ValueError("no")
    headers = [(b"x-request-id", b"r7")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": b"ab", "more_body": True})
    await send({"type": "http.response.body", "body": b"c"})


async def send(_message: Any) -> None:
    pass


def scope(path: str) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": path, "client": ("10.0.0.1", 5)}


async def test_a_request_is_noted_at_its_end_and_written_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "cubbyhole.access")
    served = AccessLog(app)
    await served(scope("/predict"), None, send)
    assert not caplog.records
    served.write()
    (line,) = caplog.messages
    assert line.startswith("request: method=POST path=/predict status=201 duration_ms=")
    assert line.endswith("bytes=3 client=10.0.0.1:5 request_id=r7")


async def test_a_path_with_line_breaks_stays_one_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cubbyhole.access")
    served = AccessLog(app)
    await served(scope("/a b\nc"), None, send)
    served.write()
    assert "path=/a%20b%0Ac status" in caplog.messages[0]


async def test_a_request_that_raises_is_noted_without_a_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "cubbyhole.access")
    served = AccessLog(app)
    with pytest.raises(ValueError, match="no"):
        await served(scope("/raises"), None, send)
    served.write()
    assert "status=0" in caplog.messages[0]


async def test_what_a_stopped_disk_does_not_take_is_counted_not_kept(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "cubbyhole.access")
    monkeypatch.setattr(access, "MOST_BYTES", 200)  # of 64 and the words: two
    served = AccessLog(app)
    for _ in range(5):
        await served(scope("/predict"), None, send)
    served.write()
    assert len(caplog.messages) == 3
    assert caplog.messages[-1] == "requests not logged: count=3 reason='too many at once'"
    await served(scope("/predict"), None, send)
    served.write()
    assert len(caplog.messages) == 4, "what is written makes room"


async def test_what_cannot_be_written_is_counted_and_costs_no_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "cubbyhole.access")
    served = AccessLog(app)
    odd = scope("/odd") | {"client": ("10.0.0.1", "no number")}
    for one in (scope("/predict"), odd, scope("/predict")):
        await served(one, None, send)
    served.write()
    assert len(caplog.messages) == 3
    assert (
        caplog.messages[-1] == "requests not logged: count=1 reason='something odd in their scope'"
    )


async def test_lines_are_written_after_a_while_and_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "cubbyhole.access")
    served = AccessLog(lifespan_or_app)
    ends = asyncio.Event()
    running = asyncio.create_task(served({"type": "lifespan"}, ends.wait, send))
    await asyncio.sleep(0)
    await served(scope("/predict"), None, send)
    for _ in range(1000):
        if caplog.messages:
            break
        await asyncio.sleep(0.01)
    assert "path=/predict" in caplog.messages[0]
    await served(scope("/last"), None, send)
    ends.set()
    await running
    assert "path=/last" in caplog.messages[-1], "the end of the front writes the rest"


async def lifespan_or_app(scope: Any, receive: Any, send: Any) -> None:
    await (receive() if scope["type"] == "lifespan" else app(scope, receive, send))


async def test_a_filter_that_raises_costs_its_lines_and_not_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "WRITE_EVERY_S", 0.01)
    caplog.set_level(logging.INFO, "cubbyhole.access")
    served, ends = AccessLog(lifespan_or_app), asyncio.Event()

    def refuse(record: logging.LogRecord) -> bool:
        if "path=/odd" in record.getMessage():
            raise ValueError("no")
        return True

    access.logger.addFilter(refuse)
    try:
        running = asyncio.create_task(served({"type": "lifespan"}, ends.wait, send))
        await asyncio.sleep(0)
        await served(scope("/odd"), None, send)
        for _ in range(1000):
            if caplog.messages:
                break
            await asyncio.sleep(0.01)
        assert caplog.messages == ["access log: lines lost, as a filter or a handler raised"]
        await served(scope("/predict"), None, send)
        ends.set()
        await running
    finally:
        access.logger.removeFilter(refuse)
    assert "path=/predict" in caplog.messages[-1]
