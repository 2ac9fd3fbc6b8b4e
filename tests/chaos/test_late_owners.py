# SPDX-License-Identifier: Apache-2.0
"""Who was declared dead and is not, who has a dead one's pid, a wall clock that jumps: owners are told apart, times stay right."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.integration.processes import SERVERS, Asking, state_of

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.registry import create_channel
from cubbyhole.core.entries import Chunk, Failure, RequestEntry, Result
from cubbyhole.core.errors import StaleOwner
from cubbyhole.supervise.process import spawn_child
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from cubbyhole.channels.base import Channel

WaitUntil = Callable[..., object]


def stopped_worker(arguments: tuple[Channel, str, bool]) -> None:
    """Claim an entry and stop, as in a container that is paused; when woken, publish."""
    channel, told, streams = arguments
    port = channel.worker(0, 0)
    (entry,) = port.claim(1, 10.0)
    if streams:
        port.publish(entry, Chunk(b"first"))
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        port.publish(entry, Chunk(b"late") if streams else Result(b"late"))
    except StaleOwner:
        Path(told).write_text("refused")
    else:
        Path(told).write_text("published")


def test_a_stopped_worker_that_wakes_after_another_took_over_is_refused(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    channel = create_channel("shm", ChannelSettings(fronts=1, workers=2, endpoints=1))
    front, told = channel.front(0), tmp_path / "told"
    child = spawn_child("worker", 0, stopped_worker, (channel, str(told), False))
    try:
        front.submit(RequestEntry(1, 0, b"x" * 5000, retry_on_death=True))
        wait_until(lambda: state_of(child.pid)[0] == "T")
        assert channel.reclaim("worker", 0) == 1
        other = channel.worker(1, 0)
        (entry,) = other.claim(1, 5.0)
        child.signal(signal.SIGCONT)
        assert child.reap(10.0) == "exit:0"
        assert told.read_text() == "refused"
        # It was declared dead while it lived, so what it held was its own until its end, at which it is reclaimed again.
        assert channel.reclaim("worker", 0) == 0
        assert front.collect() == []
        other.publish(entry, Result(b"right"))
        (collected,) = front.collect()
        assert isinstance(collected.outcome, Result)
        assert bytes(collected.outcome.body) == b"right"
        del entry, collected
        assert front.collect() == []
        assert (channel.statistics().slots_used, channel.statistics().blocks_used) == (0, 0)
        other.close()
    finally:
        child.signal(signal.SIGKILL)
        child.reap()
        front.close()
        channel.close()


def test_a_stopped_stream_that_wakes_after_its_end_adds_nothing(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    channel = create_channel("shm", ChannelSettings(fronts=1, workers=1, endpoints=1))
    front, told = channel.front(0), tmp_path / "told"
    child = spawn_child("worker", 0, stopped_worker, (channel, str(told), True))
    try:
        front.submit(RequestEntry(1, 0, b"x"))
        wait_until(lambda: state_of(child.pid)[0] == "T")
        assert channel.reclaim("worker", 0) == 1
        child.signal(signal.SIGCONT)
        assert child.reap(10.0) == "exit:0"
        assert told.read_text() == "refused"
        wait_until(front.collect)
        taken = front.take_chunks(1)
        assert [bytes(chunk) for chunk in taken.chunks] == [b"first"]
        assert isinstance(taken.end, Failure)
        assert taken.end.code == "worker_died"
        assert (channel.statistics().slots_used, channel.statistics().blocks_used) == (0, 0)
    finally:
        child.signal(signal.SIGKILL)
        child.reap()
        front.close()
        channel.close()


def claim_and_end(channel: Channel) -> None:
    """Claim an entry and end without a word."""
    port = channel.worker(0, 0)
    port.claim(1, 10.0)
    os._exit(0)


def test_a_stranger_with_a_dead_workers_pid_is_not_taken_for_it() -> None:
    """The kernel gives the same pid again; the place has the start time beside it."""
    last_pid = Path("/proc/sys/kernel/ns_last_pid")
    if not os.access(last_pid, os.W_OK):
        pytest.skip("no right to choose the next pid here (ns_last_pid)")
    from cubbyhole._native import _segment

    channel = create_channel("shm", ChannelSettings(fronts=1, workers=1, endpoints=1))
    front = channel.front(0)
    segment = front.entries.segment  # type: ignore[attr-defined]
    assert isinstance(segment, _segment.Segment)
    front.submit(RequestEntry(1, 0, b"x"))
    child = spawn_child("worker", 0, claim_and_end, channel)
    assert child.reap(10.0) == "exit:0"
    stranger = None
    for _ in range(200):  # others start processes, too
        last_pid.write_text(str(child.pid - 1))
        stranger = subprocess.Popen(["sleep", "60"])
        if stranger.pid == child.pid:
            break
        stranger.kill()
        stranger.wait()
        stranger = None
    try:
        if stranger is None:
            pytest.skip("did not get the pid again in 200 tries")
        assert segment.pid(1) == stranger.pid
        assert not segment.alive(1)
        assert channel.reclaim("worker", 0) == 1
        (collected,) = front.collect()
        assert isinstance(collected.outcome, Failure)
        assert stranger.poll() is None
    finally:
        if stranger is not None:
            stranger.kill()
            stranger.wait()
        front.close()
        channel.close()


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long jump(void) {  // seconds, from a file, so that it can change while the process runs
  char text[32] = {0};
  int fd = open(getenv("CLOCK_JUMP"), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
  close(fd);
  return atol(text);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(clock, now);
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += jump();
  return code;
}
int gettimeofday(struct timeval *now, void *zone) {
  struct timespec exact;
  (void)zone;
  int code = clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec, now->tv_usec = exact.tv_nsec / 1000;
  return code;
}
time_t time(time_t *into) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (into) *into = exact.tv_sec;
  return exact.tv_sec;
}
"""


def test_a_wall_clock_that_jumps_changes_no_answer_and_ends_no_worker(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    """As after a suspend or a bad time server. The clock is replaced under the server by a preloaded library."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    source, library, jump = tmp_path / "jump.c", tmp_path / "jump.so", tmp_path / "jump"
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    jump.write_text("0")
    environment = {"LD_PRELOAD": str(library), "CLOCK_JUMP": str(jump)}
    with serving(f"{SERVERS}:limited", environment=environment) as server:
        url = server.url + "/predict"
        pid = httpx.post(url, json={"input": 1}).json()["pid"]
        for number, seconds in enumerate((86_400, -86_400, 10**9)):
            begun = tmp_path / f"begun{number}"
            body = {"input": 3, "sleep_s": 0.3, "begun": str(begun)}
            asked = Asking(url, body)
            wait_until(begun.exists)
            jump.write_text(str(seconds))
            assert asked.result().json() == {"output": 9, "pid": pid, "id": "0"}
        late = httpx.post(url, json={"input": 1, "sleep_s": 600}, timeout=15)
        assert late.status_code == 504  # the limits hold as before
        output = server.output()
    assert output.count("worker stalled: ") <= 1
    assert "01-01" not in output  # nothing to do with the epoch either
