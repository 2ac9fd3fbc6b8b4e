# SPDX-License-Identifier: Apache-2.0
"""Batches: a window that opens at the first request, and an assistant that works while predict runs.

    main thread       predict 1 ──────────────── predict 2 ──────────────── predict 3
    assistant              publish 0 · claim, decode 2   publish 1 · claim, decode 3

The assistant claims late, just before the running predict is expected to end: an entry claimed early is lost to workers
that have nothing to do, and to a better rank. decode_request and encode_response never run at the same time as each
other, but beside predict; `LitAPI.overlap_batches = False` keeps all hooks in one thread.

Flow:  Workplace.claim -> gather -> Runner.decode -> Batch.predict -> Batch.encode -> Workplace.deliver
Owns:  the batch under way and the next one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from cubbyhole.core.current import set_current
from cubbyhole.core.errors import ChannelError
from cubbyhole.worker.batches import Batch
from cubbyhole.worker.loops.base import LitLoop
from cubbyhole.worker.runner import fire

if TYPE_CHECKING:
    from cubbyhole.core.entries import ClaimedEntry
    from cubbyhole.worker.loops.base import Workplace

OVERLAP_FROM_S = 0.001  # a shorter predict is not worth two thread switches of 20 to 50 us each
LEAD_S = 0.001  # margin of the guess when predict will end; what is claimed so early waits so long at most
SMOOTHING = 0.3  # weight of the newest duration in the running mean


class BatchedLoop(LitLoop):
    """The loop of an API with `max_batch_size > 1`; with `enable_async`, batches may overlap each other."""

    def serve(self, place: Workplace) -> None:
        """Serve until told to stop."""
        if place.settings.is_async:
            from cubbyhole.worker.loops.concurrent import serve_concurrently

            serve_concurrently(place)
            return
        _Pipeline(place).serve()


def gather(place: Workplace, wait_s: float) -> list[ClaimedEntry]:
    """Claim a batch: wait for its first entry, then until it is full or its window is over."""
    size, window_s = place.settings.max_batch_size, place.settings.batch_timeout_s
    entries = place.claim(size, wait_s)
    if not entries:
        return entries
    if window_s <= 0:
        place.count_batch(len(entries), 0.0)
        return entries
    begun_s = time.monotonic()
    close_s = begun_s + window_s
    while len(entries) < size and not place.stopping.is_set():
        left_s = close_s - time.monotonic()
        if left_s <= 0:
            break
        entries += place.claim(size - len(entries), min(left_s, place.idle_wait_s))
    place.count_batch(len(entries), time.monotonic() - begun_s)
    return entries


def finish(batch: Batch, place: Workplace, lock: threading.RLock | None = None) -> None:
    """Encode and publish a batch, item by item."""
    events = batch.runner.events
    fire(events.before_encode)
    for task, outputs in batch.by_task():
        if lock is None:
            outcome = batch.encode(task, outputs)
        else:
            with lock:
                outcome = batch.encode(task, outputs)
        place.deliver(task.entry, outcome)
    set_current(None)
    fire(events.after_encode)


class _Pipeline:
    """One worker's batches, one predict at a time."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._runner = place.runner
        self._hooks = threading.RLock()  # users' decode and encode, never two at once
        self._changed = threading.Condition()
        # Below: under `_changed`.
        self._done: deque[Batch] = deque()  # predicted, for the assistant to publish
        self._next: Batch | None = None
        self._fetch_at_s: float | None = None
        self._fetching = False
        self._closed = False
        self._error: ChannelError | None = None
        # Below: the main thread's.
        self._assistant: threading.Thread | None = None
        self._predict_s = 0.0
        self._fetch_s = 0.0

    def serve(self) -> None:
        place = self._place
        overlaps = getattr(self._runner.lit_api, "overlap_batches", True)
        batch: Batch | None = None
        try:
            while batch is not None or not place.stopping.is_set():
                if batch is None:
                    batch = self._fetch(place.idle_wait_s)
                    continue
                if overlaps and self._predict_s >= OVERLAP_FROM_S and not place.stopping.is_set():
                    self._expect_end()
                start_s = time.monotonic()
                batch.predict()
                set_current(None)
                took_s = time.monotonic() - start_s
                self._predict_s += SMOOTHING * (took_s - self._predict_s)
                batch = self._hand_over(batch)
        finally:
            self._close()

    def _fetch(self, wait_s: float) -> Batch | None:
        """Claim and decode a batch."""
        entries = gather(self._place, wait_s)
        if not entries:
            return None
        start_s = time.monotonic()
        batch = self._decode(entries)
        self._fetch_s += SMOOTHING * (time.monotonic() - start_s - self._fetch_s)
        return batch

    def _decode(self, entries: list[ClaimedEntry]) -> Batch | None:
        events = self._runner.events
        fire(events.before_decode)
        tasks = []
        for entry in entries:
            if self._place.refuses(entry):
                continue
            with self._hooks:
                tasks.append(self._runner.decode_silently(entry))
        set_current(None)
        fire(events.after_decode)
        return Batch(self._runner, tasks) if tasks else None

    def _expect_end(self) -> None:
        """Have the next batch fetched just before the predict that starts now is expected to end."""
        lead_s = LEAD_S + 2 * self._fetch_s + self._place.settings.batch_timeout_s
        if self._assistant is None:
            self._assistant = threading.Thread(target=self._assist, name="assistant", daemon=True)
            self._assistant.start()
        with self._changed:
            self._fetch_at_s = time.monotonic() + max(0.0, self._predict_s - lead_s)
            self._changed.notify_all()

    def _hand_over(self, batch: Batch) -> Batch | None:
        """Have a predicted batch published; return the next one if it is there."""
        with self._changed:
            self._fetch_at_s = None
            following = self._take_next()
            if following is not None:
                self._done.append(batch)
                self._changed.notify_all()
                return following
        finish(batch, self._place, self._hooks)
        with self._changed:
            self._changed.wait_for(lambda: not self._fetching)
            return self._take_next()

    def _take_next(self) -> Batch | None:
        if self._error is not None:
            raise self._error
        following = self._next
        self._next = None
        return following

    def _close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._assistant is not None:
            self._assistant.join()

    def _assist(self) -> None:
        try:
            while True:
                with self._changed:
                    batch = self._await_work()
                    if batch is None and not self._fetching:
                        return
                if batch is None:
                    self._fetch_next()
                    continue
                finish(batch, self._place, self._hooks)
                del batch  # it holds leases of the segment; the next one may be hours away
        except ChannelError as error:
            with self._changed:
                self._error = error
                self._fetching = False
                self._changed.notify_all()

    def _await_work(self) -> Batch | None:
        """Under the lock: a batch to publish, or `_fetching` set for one to fetch, or neither: the end."""
        while not self._done and not self._closed:
            wait_s = None
            if self._fetch_at_s is not None and self._next is None:
                wait_s = self._fetch_at_s - time.monotonic()
                if wait_s <= 0:
                    self._fetch_at_s = None
                    self._fetching = True
                    return None
            self._changed.wait(wait_s)
        return self._done.popleft() if self._done else None

    def _fetch_next(self) -> None:
        batch: Batch | None = None
        try:
            batch = self._fetch(0.0)
        finally:
            with self._changed:
                self._next = batch
                self._fetching = False
                self._changed.notify_all()
