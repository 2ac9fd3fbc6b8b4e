# SPDX-License-Identifier: Apache-2.0
"""Section 22: `utils`, `schema.image` and the environment."""

from __future__ import annotations

import base64
import io
import logging
import pickle
import sys
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import HTTPException

from cubbyhole import utils
from cubbyhole.utils import azip, call_after_stream, configure_logging, dump_exception

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
def package_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("cubbyhole")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before


def test_configure_logging_replaces_the_handlers(package_logger: logging.Logger) -> None:
    stream = io.StringIO()
    for _ in range(2):
        configure_logging(level="WARNING", format="%(levelname)s|%(message)s", stream=stream)
    package_logger.info("not shown")
    package_logger.warning("shown")
    assert stream.getvalue() == "WARNING|shown\n"
    assert package_logger.propagate is False


def test_rich_is_used_where_it_is_installed(package_logger: logging.Logger) -> None:
    configure_logging(stream=io.StringIO(), use_rich=True)
    assert type(package_logger.handlers[0]).__name__ == "RichHandler"


def test_level_and_handlers_can_be_set_alone(package_logger: logging.Logger) -> None:
    stream = io.StringIO()
    utils.set_log_level("DEBUG")
    utils.add_log_handler(logging.StreamHandler(stream))
    package_logger.debug("seen")
    assert "seen" in stream.getvalue()


def test_installed_packages_are_found_without_importing_them() -> None:
    assert utils.is_package_installed("json")
    assert not utils.is_package_installed("no_such_package")
    assert not utils.is_package_installed("no_such_package.inside")


def test_an_http_exception_survives_pickling_with_its_headers() -> None:
    """Defect 12: headers were lost."""
    dumped = dump_exception(HTTPException(429, "later", headers={"Retry-After": "2"}))
    there = pickle.loads(dumped)  # noqa: S301
    assert isinstance(there, HTTPException)
    assert (there.status_code, there.detail) == (429, "later")
    assert there.headers == {"Retry-After": "2"}


def test_an_exception_that_cannot_be_pickled_is_dumped_as_its_text() -> None:
    """Defect 8: it killed the worker."""
    error = ValueError("holds a generator", (number for number in range(3)))
    there = pickle.loads(dump_exception(error))  # noqa: S301
    assert "ValueError" in str(there)


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def test_azip_stops_at_the_shortest() -> None:
    assert [pair async for pair in azip(numbers(2), numbers(3))] == [(0, 0), (1, 1)]


async def test_azip_over_nothing_ends() -> None:
    """Defect 19: it never ended."""
    assert [item async for item in azip()] == []


async def test_azip_passes_errors_on() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 0
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        _ = [pair async for pair in azip(numbers(3), broken())]


async def test_call_after_stream_calls_once_at_the_end() -> None:
    calls: list[Any] = []
    stream = call_after_stream(numbers(2), calls.append, "done")
    assert [item async for item in stream] == [0, 1]
    assert calls == ["done"]


def test_statuses_are_litserves_words() -> None:
    assert [
        utils.LitAPIStatus.START,
        utils.LitAPIStatus.OK,
        utils.LitAPIStatus.ERROR,
        utils.LitAPIStatus.FINISH_STREAMING,
    ] == ["START", "OK", "ERROR", "FINISH_STREAMING"]
    assert [kind.name for kind in utils.LoopResponseType] == ["REGULAR", "STREAMING"]
    assert utils.WorkerSetupStatus.READY == "ready"


async def test_a_response_buffer_item_has_an_event() -> None:
    item = utils.ResponseBufferItem()
    item.event.set()
    assert item.response is None


def test_the_debugger_breaks_only_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken: list[str] = []
    from cubbyhole.observe import debugging

    monkeypatch.setattr(debugging, "break_at", lambda frame: broken.append(frame.f_code.co_name))
    monkeypatch.delenv("LITSERVE_DEBUG", raising=False)
    utils.set_trace_if_debug()
    assert broken == []
    monkeypatch.setenv("LITSERVE_DEBUG", "1")
    utils.set_trace_if_debug()
    utils.set_trace_if_debug("OTHER", "yes")
    assert broken == [sys._getframe().f_code.co_name]


def test_tls_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    for name, content in (("LIGHTNING_CERT_PEM", b"certificate"), ("LIGHTNING_KEY_FILE", b"key")):
        monkeypatch.setenv(name, base64.b64encode(content).decode())
    options = utils.add_ssl_context_from_env({"backlog": 5})
    assert options["backlog"] == 5
    assert Path(options["ssl_certfile"]).read_bytes() == b"certificate"
    assert Path(options["ssl_keyfile"]).read_bytes() == b"key"
    own = {"ssl_certfile": "a", "ssl_keyfile": "b"}
    assert utils.add_ssl_context_from_env(dict(own)) == own


def test_one_variable_alone_is_no_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_CERT_PEM", "YQ==")
    monkeypatch.delenv("LIGHTNING_KEY_FILE", raising=False)
    assert utils.add_ssl_context_from_env({}) == {}


def encoded_image(path: Path | None = None) -> str:
    image = pytest.importorskip("PIL.Image", reason="schema.image needs pillow").new("RGB", (3, 2))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    del path
    return base64.b64encode(buffer.getvalue()).decode()


def test_an_image_input_is_decoded() -> None:
    from cubbyhole.schema.image import ImageInput

    text = encoded_image()

    class Two(ImageInput):
        mask: str

    assert ImageInput(image_data=text).get_image().size == (3, 2)
    assert Two(image_data=text, mask=text).get_image("mask").size == (3, 2)
    with pytest.raises(ValueError, match="Missing image data for key 'image_data'"):
        ImageInput().get_image()
    with pytest.raises(ValueError, match="Error loading image from decoded data: "):
        ImageInput(image_data="AAAA").get_image()
    with pytest.raises(ValueError, match="Invalid Base64 string"):
        ImageInput(image_data="not base64!")


def test_an_image_output_is_written_as_png() -> None:
    image = pytest.importorskip("PIL.Image", reason="schema.image needs pillow").new("RGB", (3, 2))
    from cubbyhole.schema.image import ImageInput, ImageOutput

    text = ImageOutput(image=image).model_dump()["image"]
    assert ImageInput(image_data=text).get_image().size == (3, 2)
    with pytest.raises(Exception, match="Expected a PIL Image"):
        ImageOutput(image="no image").model_dump()
