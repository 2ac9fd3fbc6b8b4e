# SPDX-License-Identifier: Apache-2.0
"""One child process: spawned or forked, waited for by descriptor, with the reason of its end in words.

Flow:  pool.py -> spawn() | fork() -> Child -> pool waits for its `fileno()` -> Child.reap() -> "signal:SIGKILL"
Owns:  the process and a descriptor that tells of its end. Targets are given by the caller (wiring.py).

Workers are spawned (CUDA does not survive a fork), fronts are forked (they keep the live app that the user built).
"""

from __future__ import annotations

import io
import os
import signal
import sys
import sysconfig
import warnings
from contextlib import suppress
from multiprocessing import get_context, popen_spawn_posix, reduction, spawn, util
from multiprocessing.context import SpawnProcess, set_spawning_popen
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubbyhole.core.clock import now_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from multiprocessing.process import BaseProcess

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class Child:
    """A process that this one started."""

    def __init__(self, role: str, index: int, process: BaseProcess) -> None:
        self.role = role
        self.index = index
        self.pid = process.pid or 0
        self.started_ns = now_ns()
        self._process = process
        self._pidfd = _open_pidfd(self.pid)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the process ends."""
        # multiprocessing's own sentinel is a pipe that stays open while a grandchild (say, a forked data loader)
        # lives; a pidfd tells of this process alone. macOS has none.
        return self._pidfd if self._pidfd >= 0 else self._process.sentinel

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process has ended."""
        if self._process.exitcode is None:  # not reaped yet, so the pid is still ours
            os.kill(self.pid, number)

    def reap(self, timeout_s: float | None = None) -> str | None:
        """Wait for the end and return its reason, e.g. "signal:SIGKILL" or "exit:1"; None: still alive."""
        self._process.join(timeout_s)
        code = self._process.exitcode
        if code is None:
            return None
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        return describe_exit(code)


def reap_strangers(children: Collection[int]) -> None:
    """As PID 1 of a container: bury processes that others left to us, so that they do not stay as zombies.

    Args:
        children: Pids that are somebody else's to wait for.
    """
    if os.getpid() != 1:
        return
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in children:
            return
        os.waitpid(ended.si_pid, 0)


def describe_exit(code: int) -> str:
    """Turn an exit code as multiprocessing has it (negative: a signal) into a word."""
    if code >= 0:
        return f"exit:{code}"
    try:
        return f"signal:{signal.Signals(-code).name}"
    except ValueError:
        return f"signal:{-code}"


def spawn_child(
    role: str,
    index: int,
    target: Callable[..., None],
    arguments: Any,
    *,
    user_code: bool = True,
) -> Child:
    """Start `target(arguments)` in a fresh interpreter. `arguments` are pickled, descriptors in them duplicated.

    `user_code`: whether the user's main module is imported there, as classes of `arguments` may be defined in it.
    """
    process = _Spawned(target=_spawned, args=(target, arguments), name=f"cubbyhole-{role}-{index}")
    process.user_code = user_code
    # An ignored signal stays ignored over exec: Ctrl-C in a terminal reaches the whole process group, but how the
    # server ends is the supervisor's decision, and a half-imported worker would print a KeyboardInterrupt.
    with _ignoring_interrupts():
        process.start()
    return Child(role, index, process)


def fork_child(role: str, index: int, target: Callable[..., None], arguments: Any) -> Child:
    """Start `target(arguments)` in a copy of this process, which should have one thread and no event loop."""
    process = get_context("fork").Process(
        target=_forked, args=(target, arguments), name=f"cubbyhole-{role}-{index}"
    )
    with warnings.catch_warnings():
        # Python >= 3.12 warns when it sees several threads. They are those of numeric libraries that user code
        # imported (OpenBLAS and OpenMP have their own fork handlers); ours has one thread.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    return Child(role, index, process)


def _spawned(target: Callable[..., None], arguments: Any) -> None:
    # The life line is watched by a thread, which does not run while a model's C code holds the GIL. The kernel needs no
    # thread of ours. (It acts at the end of the parent's *thread* that started us: the one that supervises.)
    if sys.platform == "linux":
        import ctypes

        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    target(arguments)


def _forked(target: Callable[..., None], arguments: Any) -> None:
    signal.set_wakeup_fd(
        -1
    )  # the supervisor's pipe: a signal to this child must not wake its parent
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    target(arguments)


class _ignoring_interrupts:  # noqa: N801  a context manager, reads as a phrase
    def __enter__(self) -> None:
        self._before: Any = None
        try:
            self._before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        except (
            ValueError
        ):  # not the main thread: `wiring.launch` in somebody's process, no terminal is ours
            self._before = None

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)


def _open_pidfd(pid: int) -> int:
    if not hasattr(os, "pidfd_open"):  # macOS
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError:  # a kernel before 5.3, or a sandbox that forbids it
        return -1


class _Popen(popen_spawn_posix.Popen):  # its private parts are the same from Python 3.10 to 3.14
    """multiprocessing's own, less two things that a worker does not need and would pay for.

    No resource tracker: a whole interpreter (about 8 MiB) that cleans up named segments and semaphores; we make none, and
    a worker whose user code does starts its own. No second run of the main module when that is a console script
    (`cubbyhole`, `pytest`): it would pull a command line's imports into every worker.
    """

    _fds: list[int]

    def _launch(self, process_obj: BaseProcess) -> None:
        preparation = spawn.get_preparation_data(process_obj.name)
        wants_main = getattr(process_obj, "user_code", True)
        if not wants_main or _is_console_script(preparation.get("init_main_from_path")):
            preparation.pop("init_main_from_path", None)
        if not wants_main:
            preparation.pop("init_main_from_name", None)
        message = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(preparation, message)
            reduction.dump(process_obj, message)
        finally:
            set_spawning_popen(None)
        parent_r, child_w = os.pipe()
        child_r, parent_w = os.pipe()
        try:
            command = spawn.get_command_line(pipe_handle=child_r)
            self._fds.extend([child_r, child_w])
            executable: Any = spawn.get_executable()
            self.pid = util.spawnv_passfds(executable, command, self._fds)
        except BaseException:
            os.close(parent_r)
            os.close(parent_w)
            raise
        finally:
            os.close(child_r)
            os.close(child_w)
        self.sentinel = parent_r
        # parent_w stays open as long as this object lives: its end of file is `multiprocessing.parent_process()`.
        self.finalizer = util.Finalize(self, _close_all, (parent_r, parent_w))
        with open(parent_w, "wb", closefd=False) as pipe:
            pipe.write(message.getbuffer())


class _Spawned(SpawnProcess):
    user_code = True

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> _Popen:  # noqa: N802  multiprocessing's name
        return _Popen(process_obj)


def _close_all(*descriptors: int) -> None:
    for fd in descriptors:
        os.close(fd)


def _is_console_script(path: str | None) -> bool:
    if path is None:
        return False
    return Path(path).resolve().parent == Path(sysconfig.get_path("scripts")).resolve()
