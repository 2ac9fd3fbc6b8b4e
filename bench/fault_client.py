# SPDX-License-Identifier: Apache-2.0
"""What a client sees of one request when something goes wrong: a status and when, or how the connection ended.

Plain sockets, because libraries hide the difference between an answer that ended and one that broke off.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 20.0  # a client that has seen nothing by then goes away


@dataclass
class Seen:
    """What came of a request.

    Attributes:
        what: "200", "503", ...; "no answer": nothing for `PATIENCE_S`; "cut off": the connection ended before the answer did;
            "reset": no answer at all, and the connection gone; "refused": nobody listens.
        after_s: How long that took.
        body: As far as it came.
    """

    what: str
    after_s: float
    body: bytes = b""

    def text(self) -> str:
        """Say it for a table."""
        return f"{self.what} after {self.after_s:.2f} s"


def ask(
    port: int, path: str, body: Any, *, raw: bytes | None = None, leave_s: float | None = None
) -> Seen:
    """POST and wait for the end of the answer.

    Args:
        port: Of the server, on this machine.
        path: Of the model.
        body: Sent as JSON.
        raw: Sent instead of it.
        leave_s: Close the connection after so long, whatever came.
    """
    content = json.dumps(body).encode() if raw is None else raw
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    begun_s = time.monotonic()
    got, end = b"", "no answer"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
            connection.settimeout(leave_s or PATIENCE_S)
            # It may have answered before it had all.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(head.encode() + content)
            while part := connection.recv(1 << 20):
                got += part
            end = "closed"
    except TimeoutError:
        end = "no answer"
    except ConnectionRefusedError:
        end = "refused"
    except OSError:
        end = "reset"
    return Seen(_what(got, end), time.monotonic() - begun_s, got.partition(b"\r\n\r\n")[2])


def _what(got: bytes, end: str) -> str:
    head, complete, body = got.partition(b"\r\n\r\n")
    if not complete:
        return "reset" if end == "closed" else end
    status = head.split(b" ", 2)[1].decode()
    fields = head.lower()
    if b"transfer-encoding: chunked" in fields:
        whole = body.endswith(b"0\r\n\r\n")
    elif b"content-length: " in fields:
        length = fields.split(b"content-length: ")[1].split(b"\r\n")[0]
        whole = len(body) >= int(length)
    else:
        whole = end == "closed"
    return status if whole else f"{status}, then cut off"


class Asking(threading.Thread):
    """`ask` in a thread."""

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(daemon=True)
        self._words, self._named = words, named
        self.seen = Seen("not yet", 0.0)
        self.start()

    def run(self) -> None:
        self.seen = ask(*self._words, **self._named)

    def result(self) -> Seen:
        self.join()
        return self.seen
