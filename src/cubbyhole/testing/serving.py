# SPDX-License-Identifier: Apache-2.0
"""Start a whole server for a test, on a free port of this machine, and end it again.

    with serving(LitServer(MyAPI())) as server:          # workers are processes, the HTTP side is a thread of the test
        requests.post(server.url + "/predict", json={"input": 4.0})

    with serving("server.py:MyAPI") as server:           # everything in processes of its own, as in production
        os.kill(server.pid, signal.SIGTERM)

The first form starts faster and sees the test's own objects; the second can be killed.

Owns:  what it started; nothing is left after the `with`, also if the test fails.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cubbyhole.server import LitServer

POLL_S = 0.005
STOP_S = 20.0
_ADDRESS = re.compile(r"Uvicorn running on (https?://\S+)")


class Served:
    """A server that runs.

    Attributes:
        url: Without a slash at the end, e.g. "http://127.0.0.1:40123".
        pid: Of the supervisor; in the thread form, of the test itself.
        process: The supervisor's process; None in the thread form.
    """

    def __init__(
        self,
        url: str,
        pid: int,
        process: subprocess.Popen[bytes] | None = None,
        output_fd: int = -1,
    ) -> None:
        self.url = url
        self.pid = pid
        self.process = process
        self._output_fd = output_fd

    def output(self) -> str:
        """Return what the server's processes printed so far; empty in the thread form."""
        if self._output_fd < 0:
            return ""
        size_bytes = os.fstat(self._output_fd).st_size
        return os.pread(self._output_fd, size_bytes, 0).decode(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = STOP_S) -> int:
        """Send a signal to the supervisor, wait for its end and return its exit code (negative: a signal).

        Raises:
            RuntimeError: in the thread form, which ends with its `with`.
            subprocess.TimeoutExpired: it goes on after `timeout_s` seconds.
        """
        if self.process is None:
            raise RuntimeError(
                "A server in a thread of the test has no process to signal: leave its `with`."
            )
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)


@contextmanager
def serving(
    target: LitServer | str | Path,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 15.0,
    ready: bool = True,
) -> Iterator[Served]:
    """Run a server for the time of a `with`.

    Args:
        target: A `LitServer`, or what `cubbyhole serve` takes: "FILE.py[:NAME]" or "MODULE[:NAME]".
        arguments: Further arguments of `cubbyhole serve`, e.g. ["--workers", "2"]; for the second form only.
        environment: Added to this process's environment; for the second form only.
        timeout_s: Seconds until it must serve.
        ready: Wait until all workers are ready; else only until the port is open.

    Raises:
        RuntimeError: it ended or was not ready in time; the text has its output.
    """
    if isinstance(target, (str, Path)):
        command = [
            sys.executable,
            "-m",
            "cubbyhole",
            "serve",
            str(target),
            "--port",
            "0",
            *arguments,
        ]
        with _in_processes(command, environment or {}, timeout_s, ready=ready) as served:
            yield served
    else:
        with _in_thread(target, timeout_s, ready=ready) as served:
            yield served


@contextmanager
def running(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 15.0,
    ready: bool = True,
) -> Iterator[Served]:
    """As `serving`, for a command of one's own, say `[sys.executable, "server.py"]`, whose server prints uvicorn's lines."""
    with _in_processes(command, environment or {}, timeout_s, ready=ready) as served:
        yield served


@contextmanager
def _in_processes(
    command: Sequence[str], environment: Mapping[str, str], timeout_s: float, *, ready: bool
) -> Iterator[Served]:
    # Neither outlives this process, however it ends: the file has no name, and the server drains at the end of the pipe.
    read_fd, write_fd = os.pipe()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[read_fd],
            env={**os.environ, **environment, "CUBBYHOLE_PARENT_FD": str(read_fd)},
        )
        os.close(read_fd)
        served = Served("", process.pid, process, output.fileno())
        try:
            served.url = _wait(lambda: _address(served), timeout_s, served)
            if ready:
                _wait(lambda: _healthy(served.url), timeout_s, served)
            yield served
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()  # its children see the end of their life line
                process.wait()
            os.close(write_fd)


@contextmanager
def _in_thread(server: LitServer, timeout_s: float, *, ready: bool) -> Iterator[Served]:
    from cubbyhole import wiring
    from cubbyhole.front.main import FrontArguments, make_server
    from cubbyhole.supervise import listening

    sockets = listening.bind("127.0.0.1", 0, 1)
    try:
        with wiring.launch(server, server.settings) as workers:
            if ready:
                workers.wait_ready(timeout_s)
            listening.listen(sockets)
            front = make_server(
                FrontArguments(
                    index=0,
                    server=server,
                    settings=workers.settings,
                    channel=workers.channel,
                    roster=workers.roster,
                    sockets=sockets,
                    lifeline=None,
                    uvicorn_options={"log_config": None},
                )
            )
            thread = threading.Thread(target=front.run, args=(sockets,), name="cubbyhole-front")
            thread.start()
            host, port = sockets[0].getsockname()[:2]
            served = Served(f"http://{host}:{port}", os.getpid())
            try:
                _wait(lambda: front.started or not thread.is_alive(), timeout_s, served)
                yield served
            finally:
                front.drain()
                thread.join()
    finally:
        listening.close(sockets)


def _address(served: Served) -> str:
    found = _ADDRESS.search(served.output())
    return found.group(1).replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]") if found else ""  # noqa: S104


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1.0) as answer:  # noqa: S310  our own address
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        return error.code == 404  # another healthcheck_path: the open port must do
    except OSError:
        return False


def _wait(condition: Callable[[], Any], timeout_s: float, served: Served) -> Any:
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        code = served.process.poll() if served.process else None
        if code is not None:
            raise RuntimeError(f"The server ended with exit code {code}:\n{served.output()}")
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"The server is not ready after {timeout_s} s:\n{served.output()}")
        time.sleep(POLL_S)
    return value
