# SPDX-License-Identifier: Apache-2.0
"""The demo's server: the model's route, and beside it the page, the samples and a look at the segment.

All of it through the public API: a `LitServer` with one API, and routes added to `server.app` as on any FastAPI app.

Flow:  show.py -> **make_server** -> LitServer.run
Owns:  the routes of the page. The model route is the server's own.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import msgspec
from fastapi import HTTPException, Response

from cubbyhole.demo.addresses import READ_PATH, SAMPLES_PATH, SEGMENT_PATH
from cubbyhole.demo.reader import TextReader
from cubbyhole.demo.samples import SAMPLES
from cubbyhole.server import LitServer

IMAGE_BYTES_MOST = 32 << 20  # a photograph has 3 to 15 MiB
TIMEOUT_S = 60.0  # a page full of small print takes a few seconds on an old laptop


def make_server(workers: int, channel: str = "shm") -> LitServer:
    """Make the server; `run` starts it.

    Args:
        workers: Processes that each hold the model (about 0.5 GiB), >= 1.
        channel: How requests travel between the server's processes.
    """
    server = LitServer(
        TextReader(workers, api_path=READ_PATH),
        accelerator="cpu",
        workers_per_device=workers,
        channel=channel,
        timeout=TIMEOUT_S,
        max_payload_size=IMAGE_BYTES_MOST,
        model_metadata={"name": "PP-OCR", "package": "rapidocr"},
        server_timing=True,
        disable_openapi_url=True,  # the page stands for it, and the terminal is the demo's
    )
    add_routes(server)
    return server


def add_routes(server: LitServer) -> None:
    """Add the page at `/`, the samples, and the channel's counters."""
    app = server.app

    async def segment() -> dict[str, Any]:
        # Counters over all processes, see `core.statistics.ChannelStatistics`.
        place = server.desk.place
        if place is None:
            raise HTTPException(503, "The server is not running yet.")
        counters: dict[str, Any] = msgspec.to_builtins(place.channel.statistics())
        return counters

    app.add_api_route("/", page, methods=["GET"], include_in_schema=False)
    app.add_api_route(SAMPLES_PATH, sample_list, methods=["GET"])
    app.add_api_route(SAMPLES_PATH + "/{number}", sample_image, methods=["GET"])
    app.add_api_route(SEGMENT_PATH, segment, methods=["GET"])


async def page() -> Response:
    """Give the page; it loads nothing from elsewhere, and says so to the browser."""
    html = (files("cubbyhole.demo") / "assets" / "page.html").read_bytes()
    policy = (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return Response(html, media_type="text/html", headers={"Content-Security-Policy": policy})


async def sample_list() -> list[dict[str, str]]:
    """List the samples."""
    return [
        {"name": sample.name, "path": f"{SAMPLES_PATH}/{number}"}
        for number, sample in enumerate(SAMPLES)
    ]


async def sample_image(number: int) -> Response:
    """Give one sample as it lies in the package."""
    if not 0 <= number < len(SAMPLES):
        raise HTTPException(404, f"There are samples 0 to {len(SAMPLES) - 1}, not {number}.")
    return Response(SAMPLES[number].image(), media_type=SAMPLES[number].content_type)
