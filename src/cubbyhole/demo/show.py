# SPDX-License-Identifier: Apache-2.0
"""The demo in the terminal: start the server, send it the samples, print what happened to each request.

The server has this process; its client has one of its own, as a server that forks must not share its process with threads
that print. The client ends the server, if it must, as anybody would: with SIGTERM.

Flow:  cli/demo.py -> **perform** -> serving.make_server().run()
       and beside it -> `python -m cubbyhole.demo.show` -> **Visit** -> visit.Visitor -> HTTP
Owns:  the client's process.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from cubbyhole.demo.samples import ENOUGH, SAMPLES
from cubbyhole.demo.visit import Reading, VisitFailed, Visitor

if TYPE_CHECKING:
    from rich.status import Status

START_S = 120.0  # loading the model takes 3 s on a laptop; a first run from a slow disk much longer
LOOK_S = 0.1
LEAVE_S = 5.0  # the client's process, told to end
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (where a client finds what listens everywhere)
NEEDED = ("rapidocr", "onnxruntime", "cv2")
WIDTH = 68
NO_SERVER = 3  # exit status of a client whose server went away; the server tells why


def missing() -> list[str]:
    """Return which packages of the extra `demo` are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


def perform(*, host: str, port: int, workers: int, channel: str, once: bool) -> int:
    """Run the demo until it is ended (or, with `once`, until the samples are read).

    Returns:
        Exit status: 0 if every sample was read rightly and the server ended well.
    """
    from cubbyhole.demo.serving import make_server

    server = make_server(workers, channel)
    arguments = ["--host", host, "--port", str(port), *(["--once"] if once else [])]
    client = subprocess.Popen([sys.executable, "-m", "cubbyhole.demo.show", *arguments])
    try:
        server.run(
            host=host,
            port=port,
            num_api_servers=1,
            log_level="warning",
            generate_client_file=False,
        )
        if once:
            return client.wait(timeout=LEAVE_S)
    finally:
        client.terminate()
        client.wait(timeout=LEAVE_S)
    return max(
        client.returncode, 0
    )  # negative: it was ended before it was through, which is no failure


class Visit:
    """The client's side of one demo.

    Args:
        console: Where it is told.
        host: Address that the server listens on.
        port: Its port.
        server: Its process id; ended after the samples if `once`.
        once: Do not leave the server to the user.
    """

    def __init__(self, console: Console, host: str, port: int, *, server: int, once: bool) -> None:
        self._console = console
        self._server = server
        self._once = once
        self._visitor = Visitor(EVERYWHERE.get(host, host), port)
        shown = "localhost" if host in ("127.0.0.1", *EVERYWHERE) else host
        self._url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
        self._began = time.monotonic()

    def run(self) -> int:
        """Wait for the server, send the samples, tell. Returns the exit status."""
        code = 1
        try:
            with self._console.status("Starting the server ...") as status:
                self._wait_until_ready(status)
            took_s = time.monotonic() - self._began
            self._console.print(f"[bold green]Ready[/] in {took_s:.1f} s at [bold]{self._url}[/]\n")
            code = self._send_samples()
        except (VisitFailed, OSError) as problem:
            if os.getppid() != self._server:
                return NO_SERVER
            self._console.print(f"[bold red]The demo failed:[/] {escape(str(problem))}")
        if self._once:
            os.kill(self._server, signal.SIGTERM)
        else:
            self._console.print(
                f"\nYour turn: open [bold]{self._url}[/] and drop an image on the page. Ctrl+C ends it."
            )
        return code

    def _wait_until_ready(self, status: Status) -> None:
        while self._visitor.health() != 200:
            elapsed_s = time.monotonic() - self._began
            if elapsed_s > START_S:
                raise VisitFailed(
                    f"The server is not ready after {START_S:.0f} s; its log, above, tells why."
                )
            if os.getppid() != self._server:
                raise VisitFailed("The server ended.")
            status.update(f"Starting the worker, loading the model ... {elapsed_s:.0f} s")
            time.sleep(LOOK_S)

    def _send_samples(self) -> int:
        before = self._visitor.counters()
        readings = []
        for sample in SAMPLES:
            with self._console.status(f"Sending {sample.name} ..."):
                readings.append(self._visitor.read(sample))
            self._console.print(reading_panel(readings[-1]))
        self._console.print(times_table(readings))
        self._console.print(bytes_table(before, self._visitor.counters()))
        wrong = [reading.sample.name for reading in readings if not reading.verdict.right]
        if wrong:
            self._console.print(f"[bold red]Read wrongly:[/] {', '.join(wrong)}")
            return 1
        self._console.print(f"[bold green]All {len(readings)} samples were read rightly.[/]")
        return 0


def reading_panel(reading: Reading) -> Panel:
    """Show what was read in one sample."""
    verdict = reading.verdict
    words = f"{verdict.score:.1%} of the letters right" + (
        "" if verdict.right else f", wanted {ENOUGH:.0%}"
    )
    mark = "[green]✓[/]" if verdict.right else "[red]✗[/]"
    size = f"{len(reading.sample.image()):,} bytes"
    return Panel(
        escape(reading.text) or "[dim](nothing)[/]",
        title=f"{mark} [bold]{reading.sample.name}[/], {size}",
        subtitle=f"{words}, {reading.seen_s * 1e3:,.0f} ms",
        title_align="left",
        subtitle_align="right",
        border_style="green" if verdict.right else "red",
        width=WIDTH,
    )


def times_table(readings: list[Reading]) -> Table:
    """Show how long each request was in each state of its entry, in milliseconds."""
    table = Table(title="Where each request spent its time (ms)", title_justify="left", width=WIDTH)
    table.add_column("state of its entry")
    for reading in readings:
        table.add_column(reading.sample.name, justify="right")
    words = {timing.name: timing.words for reading in readings for timing in reading.timings}
    for name, told in words.items():
        durations = [
            next((timing.duration_ms for timing in reading.timings if timing.name == name), 0.0)
            for reading in readings
        ]
        table.add_row(escape(told), *(f"{duration:,.3f}" for duration in durations))
    table.add_row(
        "[dim]of it in the model[/]",
        *(f"[dim]{reading.model_s * 1e3:,.3f}[/]" for reading in readings),
        end_section=True,
    )
    table.add_row("seen by the client", *(f"{reading.seen_s * 1e3:,.3f}" for reading in readings))
    return table


def bytes_table(before: dict[str, Any], after: dict[str, Any]) -> Table:
    """Show what the samples moved through the channel."""
    grew = {
        name: value - before[name]
        for name, value in after.items()
        if isinstance(value, int) and name.endswith("_total")
    }
    table = Table(title="What crossed the channel", title_justify="left", width=WIDTH)
    table.add_column(f"channel: {after['kind']}")
    table.add_column("", justify="right")
    carried = grew["request_bytes_total"] + grew["result_bytes_total"]
    table.add_row("images, front to worker", f"{grew['request_bytes_total']:,} bytes")
    table.add_row("answers, worker to front", f"{grew['result_bytes_total']:,} bytes")
    copies = grew["copied_bytes_total"]
    share = f" = {copies / carried:.2f} times" if carried else ""
    table.add_row("copied by the channel", f"{copies:,} bytes{share}")
    table.add_row(
        "requests, and doorbells rung", f"{grew['submitted_total']}, {grew['rings_total']}"
    )
    table.add_row("entries in use now", f"{after['slots_used']} of {after['slots']}")
    return table


def main() -> int:
    """Be the client of the server in the parent process."""
    parser = argparse.ArgumentParser(prog="python -m cubbyhole.demo.show")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--once", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the server, which ends us
    visit = Visit(
        Console(), arguments.host, arguments.port, server=os.getppid(), once=arguments.once
    )
    return visit.run()


if __name__ == "__main__":
    sys.exit(main())
