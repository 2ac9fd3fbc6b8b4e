# SPDX-License-Identifier: Apache-2.0
"""A client of the demo's server: waits until it is ready, sends an image, reads timings and counters.

Plain `http.client`, as the demo must not need more than the server does.

Flow:  show.py -> **Visitor** -> HTTP -> the server
Owns:  one connection.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from typing import Any

import msgspec

from cubbyhole.demo.addresses import READ_PATH, SEGMENT_PATH
from cubbyhole.demo.samples import Sample, Verdict, judge

PART = re.compile(r'(?P<name>[^\s;,]+)(?P<rest>(?:;\s*\w+=(?:"[^"]*"|[^;,"]*))*)')
WORDS = {  # the server's names for the spans between an entry's states
    "intake": "WRITING  the body arrives",
    "queue": "READY  waits for a worker",
    "run": "CLAIMED  the worker has it",
    "collect": "DONE  waits for its front",
}
FIELD = re.compile(r';\s*(?P<key>\w+)=(?:"(?P<quoted>[^"]*)"|(?P<plain>[^;,"]*))')


class Timing(msgspec.Struct, frozen=True):
    """One part of a request's time: `words` for people, `duration_ms` in milliseconds."""

    name: str
    words: str
    duration_ms: float


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What came back for one sample.

    Attributes:
        sample: What was sent.
        text: What was read, one line for each line of the image.
        verdict: Whether that is right.
        timings: How long the request was in each state of its entry, from the answer's Server-Timing.
        model_s: Of that, in the model itself.
        seen_s: From before the request to after the answer, as the client saw it.
    """

    sample: Sample
    text: str
    verdict: Verdict
    timings: list[Timing]
    model_s: float
    seen_s: float


class VisitFailed(Exception):
    """The server answered, but not as it should, or not in time; the text says what to do."""


def parse_server_timing(header: str) -> list[Timing]:
    """Read a Server-Timing header: `name;dur=1.5;desc="in words", ...`; parts without a duration are left out."""
    timings = []
    for part in PART.finditer(header):
        fields = {
            field["key"]: field["quoted"] if field["quoted"] is not None else field["plain"]
            for field in FIELD.finditer(part["rest"])
        }
        if "dur" in fields:
            name = part["name"]
            words = fields.get("desc", WORDS.get(name, name))
            timings.append(Timing(name, words, float(fields["dur"])))
    return timings


class Visitor:
    """Speaks to a server at `host`:`port`."""

    def __init__(self, host: str, port: int, timeout_s: float = 60.0) -> None:
        self.host = host
        self.port = port
        self.timeout_s = timeout_s

    def health(self) -> int | None:
        """Return the status of the health check; None while nobody listens."""
        try:
            return self._ask("GET", "/health", timeout_s=2.0)[0]
        except OSError:
            return None

    def read(self, sample: Sample) -> Reading:
        """Send one sample.

        Raises:
            VisitFailed: Any answer but 200.
        """
        began = time.perf_counter()
        status, headers, body = self._ask(
            "POST", READ_PATH, sample.image(), {"Content-Type": sample.content_type}
        )
        seen_s = time.perf_counter() - began
        if status != 200:
            told = body.decode(errors="replace")
            raise VisitFailed(f"POST {READ_PATH} was answered {status}: {told}")
        answer = json.loads(body)
        return Reading(
            sample=sample,
            text=answer["text"],
            verdict=judge(sample, answer["text"]),
            timings=parse_server_timing(headers.get("Server-Timing") or ""),
            model_s=answer["seconds"],
            seen_s=seen_s,
        )

    def counters(self) -> dict[str, Any]:
        """Return the channel's statistics.

        Raises:
            VisitFailed: Any answer but 200.
        """
        status, _, body = self._ask("GET", SEGMENT_PATH)
        if status != 200:
            raise VisitFailed(f"GET {SEGMENT_PATH} was answered {status}")
        counters: dict[str, Any] = json.loads(body)
        return counters

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection(
            self.host, self.port, timeout=timeout_s or self.timeout_s
        )
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()
