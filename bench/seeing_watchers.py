# SPDX-License-Identifier: Apache-2.0
"""Who looks at a server while it is measured: `python -m bench.seeing_watchers WHAT WHERE`.

    scrape PORT      GET /metrics each second, as a Prometheus would
    observe PID      the picture of `cubbyhole top --once`, and the histograms, each second, from outside
    screen PID       `cubbyhole top` itself, in a terminal of 160 columns and 50 lines; it stands still between turns
    page PORT        reads the inspector's stream, as an open page does
    collect PORT     takes OpenTelemetry spans, and drops them

It looks from a line `look` on stdin to a line `rest`, and ends with stdin.

Flow:  seeing_command.py -> **seeing_watchers.py** -> one line at its end: how often it looked
Owns:  nothing of the server.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import http.client
import http.server
import os
import pty
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import termios
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 1.0
STARTING_S = 4.0  # until a screen is drawn for the first time
PAGE_PATH = "/api/stream"


class Wanted:
    """Whether somebody is to look now; a thread reads it from stdin."""

    def __init__(self) -> None:
        self.looking = threading.Event()
        self.resting = threading.Event()  # the opposite, to be waited for
        self.ended = False
        self.stream: socket.socket | None = None  # ends with the turn
        self.resting.set()

    def read(self) -> None:
        for line in sys.stdin:
            if line.strip() == "look":
                self.resting.clear()
                self.looking.set()
            else:
                self._rest()
        self.ended = True
        self._rest()
        self.looking.set()  # whoever waits for a turn sees the end instead

    def _rest(self) -> None:
        self.looking.clear()
        self.resting.set()
        if self.stream is not None:
            with contextlib.suppress(OSError):
                self.stream.shutdown(socket.SHUT_RDWR)


wanted = Wanted()


def scrape(port: str) -> int:
    """Ask for the metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read()
    connection.close()
    return int(b"cubbyhole_requests_total" in text)


def observer(pid: str) -> Callable[[], int]:
    """Draw what `top` draws."""
    import io

    import typer

    from cubbyhole.cli.stats import look
    from cubbyhole.cli.top import picture, take_sample
    from cubbyhole.seen.attached import attach

    attached = attach(int(pid))
    samples = [take_sample(attached)]

    def draw() -> int:
        now = take_sample(attached)
        typer.echo(picture(attached, samples[0], now), file=io.StringIO())
        samples[0] = now
        look(attached)
        attached.history()
        return 1

    return draw


def screen(pid: str) -> Callable[[], int]:
    """Start `cubbyhole top`."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    top = subprocess.Popen(
        [sys.executable, "-m", "cubbyhole", "top", "--server", pid],
        stdin=its,
        stdout=its,
        stderr=its,
        env={**os.environ, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    atexit.register(top.kill)
    os.close(its)
    drawn = [0]

    def take() -> None:
        with contextlib.suppress(OSError):  # it ended
            while data := os.read(ours, 1 << 16):
                drawn[0] += len(data)

    threading.Thread(target=take, daemon=True).start()
    time.sleep(STARTING_S)
    top.send_signal(signal.SIGSTOP)

    def watch() -> int:
        before = drawn[0]
        top.send_signal(signal.SIGCONT)
        wanted.resting.wait()
        top.send_signal(signal.SIGSTOP)
        return int(drawn[0] > before)

    return watch


def read_page(port: str) -> int:
    """Read the stream of pictures until the turn ends; returns how many came."""
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
    while not wanted.resting.is_set():
        try:  # the page is a process of its own, and starts beside the server
            connection.request("GET", PAGE_PATH)
            break
        except ConnectionRefusedError:
            connection.close()
            time.sleep(0.05)
    else:
        return 0
    wanted.stream = connection.sock
    answer = connection.getresponse()
    pictures = 0
    with contextlib.suppress(http.client.HTTPException, OSError):  # the turn ends in the middle
        while not wanted.resting.is_set():
            line = answer.readline()
            if not line:
                break
            pictures += line.startswith(b"data:")
    wanted.stream = None
    connection.close()
    return pictures


def collect(port: str) -> int:
    """Answer whatever is sent with 200."""
    taken = [0]

    class Sink(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            taken[0] += 1
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:  # type: ignore[override]
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", int(port)), Sink) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print("ready", flush=True)
        while not wanted.ended:
            wanted.looking.wait()
            wanted.resting.wait()
        server.shutdown()
    return taken[0]


def main() -> None:
    what, subject = sys.argv[1:]
    threading.Thread(target=wanted.read, daemon=True).start()
    if what == "collect":
        print(collect(subject))
        return
    ways = {"page": lambda: read_page(subject), "scrape": lambda: scrape(subject)}
    makers = {"observe": observer, "screen": screen}
    look = makers[what](subject) if what in makers else ways[what]
    print("ready", flush=True)
    looks = 0
    while True:
        wanted.looking.wait()
        if wanted.ended:
            break
        due = time.monotonic()
        while not wanted.resting.is_set():
            looks += look()
            due += EVERY_S
            wanted.resting.wait(max(0.0, due - time.monotonic()))
    print(looks)


if __name__ == "__main__":
    main()
