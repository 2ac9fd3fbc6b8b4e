# SPDX-License-Identifier: Apache-2.0
"""The access log: what it notes, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import io
import logging
from typing import Any

import pytest

from cubbyhole.front import access
from cubbyhole.front.access import AccessLog
from cubbyhole.observe.log import DATE_FORMAT, FORMAT, LineFormatter
from cubbyhole.observe.notes import AT_ONCE


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
    served.hand_over()
    served.write()
    (line,) = caplog.messages
    assert line.startswith("request: method=POST path=/predict status=201 duration_ms=")
    assert line.endswith("bytes=3 client=10.0.0.1:5 request_id=r7")


async def test_a_path_with_line_breaks_stays_one_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cubbyhole.access")
    served = AccessLog(app)
    await served(scope("/a b\nc"), None, send)
    served.hand_over()
    served.write()
    assert "path=/a%20b%0Ac status" in caplog.messages[0]


async def test_a_request_that_raises_is_noted_without_a_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "cubbyhole.access")
    served = AccessLog(app)
    with pytest.raises(ValueError, match="no"):
        await served(scope("/raises"), None, send)
    served.hand_over()
    served.write()
    assert "status=0" in caplog.messages[0]


async def test_what_a_stopped_disk_does_not_take_is_counted_not_kept(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "cubbyhole.access")
    monkeypatch.setattr(access, "MOST_NOTED", 2)
    served = AccessLog(app)
    for _ in range(5):
        await served(scope("/predict"), None, send)
        served.hand_over()
    served.write()
    assert len(caplog.messages) == 3
    assert "requests not logged: count=3" in caplog.messages[-1]
    await served(scope("/predict"), None, send)
    served.hand_over()
    served.write()
    assert len(caplog.messages) == 4, "what is written makes room"


async def test_what_cannot_be_written_costs_its_batch_and_no_request(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "cubbyhole.access")
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(LineFormatter(FORMAT, DATE_FORMAT))
    monkeypatch.setattr(access, "logger", logging.Logger("alone", logging.INFO))  # noqa: LOG001
    access.logger.addHandler(handler)
    served = AccessLog(app)
    odd = scope("/odd") | {"client": ("10.0.0.1", "no number")}
    for one in (odd, *[scope("/predict")] * (2 * AT_ONCE)):
        await served(one, None, send)
    served.hand_over()
    served.write()
    written = handler.stream.getvalue().splitlines()
    assert "requests not logged" in written[0]
    assert len(written) == 1 + AT_ONCE + 1


async def test_lines_are_handed_over_when_there_are_enough_or_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "cubbyhole.access")
    served = AccessLog(lifespan_or_app)
    ends = asyncio.Event()
    running = asyncio.create_task(served({"type": "lifespan"}, ends.wait, send))
    await asyncio.sleep(0)
    for _ in range(AT_ONCE + 1):
        await served(scope("/predict"), None, send)
    for _ in range(1000):
        if len(caplog.messages) > AT_ONCE:  # the last one by the timer
            break
        await asyncio.sleep(0.01)
    assert len(caplog.messages) == AT_ONCE + 1
    await served(scope("/last"), None, send)
    ends.set()
    await running
    assert "path=/last" in caplog.messages[-1], "the end of the front writes the rest"


async def lifespan_or_app(scope: Any, receive: Any, send: Any) -> None:
    await (receive() if scope["type"] == "lifespan" else app(scope, receive, send))
