# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
# SPDX-License-Identifier: Apache-2.0
"""Binding of the dictionary of entries: its two ends, and the look from outside.

Thin on purpose: reference counts and the GIL live here, every hand-over lives in C. The words that leave (`Collected`, `Result`,
`Failure`, errors) are given by `channels/shm.py` as a `Words` object, so that this file knows none of them.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cubbyhole._native._dict cimport *
from cubbyhole._native._segment cimport (
    CBH_AGAIN, CBH_CORRUPT, CBH_FULL, CBH_OK, CBH_PLACES, CBH_STALE, Reservation, Segment, cbh_bit, cbh_drop, cbh_holders,
    cbh_segment,
)

cdef extern from *:
    """
    #include <stdatomic.h>
    #ifdef CBH_CRASH_POINTS
    extern int cbh_crash_armed, cbh_stop_armed;
    static void arm_crash(int point) { cbh_crash_armed = point; }
    static void arm_stop(int point) { cbh_stop_armed = point; }
    static const int crash_points = 1;
    #else
    static void arm_crash(int point) { (void)point; }
    static void arm_stop(int point) { (void)point; }
    static const int crash_points = 0;
    #endif
    #define load_acquire(p) atomic_load_explicit(p, memory_order_acquire)
    static inline void relax(void) {
    #if defined(__x86_64__)
      __builtin_ia32_pause();
    #elif defined(__aarch64__)
      __asm__ volatile("isb" ::: "memory");
    #endif
    }
    """
    void arm_crash(int point)
    void arm_stop(int point)
    const int crash_points
    uint64_t load_acquire(void *p) nogil
    void relax() nogil


CRASH_POINTS = bool(crash_points)
COPY_LIMIT = 32 * 1024   # bytes; below, a private copy is cheaper than a lease and frees the block at once
cdef enum:
    MAX_DRAIN = 4096
    MAX_CLAIM = 512  # CBH_MAX_CLAIM
cdef uint64_t GIL_BYTES = 1 << 18  # copies larger than this let other threads run


def arm_crash_point(int point):
    """Die by SIGKILL at this point of the core; only in builds with CUBBYHOLE_CRASH_POINTS."""
    arm_crash(point)


def arm_stop_point(int point):
    """Stop by SIGSTOP at this point, once; only in builds with CUBBYHOLE_CRASH_POINTS."""
    arm_stop(point)


def body_bytes(fronts, endpoints, per_front):
    """Bytes that the entries of a server need in front of the arena."""
    return cbh_dict_body_bytes(fronts, endpoints, per_front)


cdef class Entries:
    """The dictionary as this process sees it. One object for each port, as each has a place of its own."""
    cdef readonly Segment segment
    cdef cbh_dict d
    cdef readonly object words

    def __init__(self, Segment segment, bells, words):
        self.segment = segment
        self.words = words
        segment.check(cbh_dict_open(&self.d, &segment.c), "open entries")
        cdef int i = 0
        for fd in bells[:CBH_PLACES]:
            self.d.bells[i] = fd
            i += 1

    def __dealloc__(self):
        cbh_dict_close(&self.d)

    def reclaim(self, uint32_t place):
        """Free what the process at `place` held; returns how many entries changed."""
        cdef int code = cbh_reclaim(&self.d, place)
        self.segment.check(code, "reclaim")
        return code

    def take_place(self, uint32_t place):
        """Sit down; what a dead process left at this place is reclaimed first."""
        if self.segment.pid(place) and not self.segment.alive(place):
            self.reclaim(place)
        return self.segment.take_place(place)

    cdef int close(self, uint32_t place) except -1:
        """Leave the place as if dead; with views still alive, only once the last one is gone."""
        if not self.segment.closed:
            if self.segment.mine and not self.segment.holds:
                cbh_reclaim(&self.d, place)
            self.segment.close()
        return 0

    def snapshot(self, bint past=False):
        """Every entry that is under way (`past`: also the last one of each free slot), as tuples, without any lock."""
        cdef cbh_view v
        cdef uint32_t i
        found = []
        for i in range(self.d.slot_count):
            if cbh_peek(&self.d, i, &v) and v.id and (past or cbh_phase_of(v.state) != CBH_FREE):
                found.append(as_row(&v))
        return found

    def find(self, uint64_t request_id):
        """One entry by its id, as a tuple, under way or the last of its slot; None: no longer there."""
        cdef cbh_view v
        cdef int64_t slot = cbh_find(&self.d, request_id, 0)
        if slot < 0 or not cbh_peek(&self.d, <uint32_t>slot, &v) or v.id != request_id:
            return None
        return as_row(&v)

    def withdraw(self, uint64_t request_id):
        """Take an entry back for an operator: True, no worker will see it; False, its worker will; None: it is over."""
        cdef int code = cbh_withdraw(&self.d, request_id)
        return True if code == CBH_OK else False if code == CBH_AGAIN else None

    def rerank(self, uint64_t request_id, uint64_t rank):
        """Give a ready entry another rank: True, done; False, a worker has it, or had; None: it is over."""
        cdef int code = cbh_rerank(&self.d, request_id, rank)
        return True if code == CBH_OK else False if code == CBH_STALE else None

    def contents(self, uint64_t request_id, uint64_t limit_bytes):
        """Copies of what an entry holds, each cut at `limit_bytes`; None: it is not there, or did not stay while we copied.

        (request | None, its bytes, its meta | None, result | None, its bytes, its meta | None, status)
        """
        cdef cbh_contents c
        cdef int64_t slot
        for _ in range(4):
            slot = cbh_find(&self.d, request_id, 0)
            if slot < 0 or not cbh_contents_find(&self.d, <uint32_t>slot, request_id, &c):
                return None
            found = (cut(self.segment, c.body, limit_bytes), c.body.bytes, cut(self.segment, c.meta, limit_bytes),
                     cut(self.segment, c.result, limit_bytes), c.result.bytes, cut(self.segment, c.result_meta, limit_bytes),
                     c.status)
            if cbh_contents_hold(&self.d, <uint32_t>slot, request_id, &c):
                return found
        return None

    def counters(self):
        """Sums over all places, in the order of `cbh_counter` (cbh_layout.h)."""
        return sum_counters(self.segment)


cdef tuple as_row(cbh_view *v):
    return (v.id, v.endpoint, cbh_phase_of(v.state), cbh_flags_of(v.state), cbh_place_of(v.state), v.front, v.attempt, v.rank,
            v.deadline_ns, v.request_bytes, v.result_bytes, v.chunks, v.received_ns, v.ready_ns, v.claimed_ns,
            v.first_chunk_ns, v.done_ns, v.status)


cdef object cut(Segment segment, cbh_range range, uint64_t limit_bytes):
    if not range.at:
        return None
    return PyBytes_FromStringAndSize(segment.c.base + range.at, range.bytes if range.bytes < limit_bytes else limit_bytes)


cdef list sum_counters(Segment segment):
    cdef int i
    return [counter_sum(&segment.c, i) for i in range(13)]


cdef class FrontEnd:
    """A front's port: see `channels.base.FrontPort`."""
    cdef readonly Entries entries
    cdef dict streams          # id -> slot, from the first news of a stream to its end
    cdef uint32_t place
    cdef object words

    def __init__(self, Entries entries, int place):
        self.entries = entries
        self.words = entries.words
        self.streams = {}
        self.place = entries.take_place(place)
        entries.segment.check(cbh_front_open(&entries.d), "open front")

    def submit(self, entry):
        cdef cbh_bytes body, meta
        cdef Py_buffer view
        cdef Reservation reserved = None
        cdef object data = entry.body, extra = entry.meta
        cdef int code
        cdef bint viewed = False
        body.data = NULL
        body.block = 0
        meta.block = 0
        meta.data = PyBytes_AS_STRING(extra)
        meta.bytes = len(extra)
        if type(data) is bytes:
            body.data = PyBytes_AS_STRING(data)
            body.bytes = len(data)
        elif type(data) is Reservation:
            reserved = <Reservation>data
            if reserved.segment is not self.entries.segment or reserved.data_at:
                raise ValueError("a reservation can be handed over by the port that made it, and only there")
            body.block = reserved.hand_over()
            body.bytes = reserved.size_bytes
        else:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            viewed = True
            body.data = <const char *>view.buf
            body.bytes = view.len
        try:
            code = cbh_submit(&self.entries.d, entry.id, entry.endpoint, body, meta, entry.rank, entry.deadline_ns,
                              CBH_RETRY if entry.retry_on_death else 0, entry.received_ns)
        finally:
            if viewed:
                PyBuffer_Release(&view)
        if reserved is not None:
            if code < 0:
                reserved.block = body.block
            else:   # the slot holds it now, by the same bit: it is dropped with the slot
                self.entries.segment.holds.pop(body.block, None)
        if code == CBH_FULL and not self.entries.d.free_count:
            raise self.words.no_slot(self.entries.d.per_front)
        if code < 0:
            raise self.words.refuse(code, body.bytes, self.entries)

    def reserve(self, uint64_t size_bytes):
        try:
            return self.entries.segment.reserve(size_bytes)
        except self.words.core_error as error:
            raise self.words.refuse(error.code, size_bytes, self.entries) from error

    def collect(self):
        cdef uint32_t slots[MAX_DRAIN]
        cdef uint32_t count = cbh_drain(&self.entries.d, slots, MAX_DRAIN), i, phase
        cdef uint64_t state, now = cbh_now_ns() if count else 0  # one look at the clock for all that are over now
        cdef cbh_slot *slot
        cdef list found = []
        cdef object collected = self.words.collected
        if count > MAX_DRAIN - 64:
            cbh_bell_ring(self.entries.d.bells[self.place])  # there may be more than fits: come again
        for i in range(count):
            slot = &self.entries.d.slots[slots[i]]
            # SYNC(result-done): acquire; pairs with the compare-and-swap in cbh_publish().
            state = load_acquire(&slot.state)
            phase = cbh_phase_of(state)
            if cbh_flags_of(state) & (CBH_WITHDRAWN | CBH_CANCELLED) == CBH_WITHDRAWN and phase != CBH_FREE:
                found.append(self.withdrawn(slots[i], state, now))
                continue
            if phase != CBH_DONE and phase != CBH_FAILED and phase != CBH_STREAMING:
                continue
            if cbh_flags_of(state) & CBH_CANCELLED:
                if phase != CBH_STREAMING:
                    self.streams.pop(slot.id, None)
                    cbh_slot_free(&self.entries.d, slots[i], state, False, now)
                continue
            if phase == CBH_STREAMING or cbh_untag(slot.stream, state):
                self.streams[slot.id] = slots[i]
                found.append(collected(slot.id, None))
                continue
            times = (slot.received_ns, slot.ready_ns, slot.claimed_ns, slot.first_chunk_ns, slot.done_ns)
            item = collected(slot.id, self.final(slots[i], state, now), times)
            if phase == CBH_FAILED and slot.claimed_ns:  # who held it; the slot's words stay until we submit again
                item.worker, item.attempt = <int>cbh_place_of(state) - <int>self.entries.d.fronts, slot.attempt
            found.append(item)
        return found

    cdef object withdrawn(self, uint32_t index, uint64_t state, uint64_t now):
        """An operator took it back: its client is answered now, and whatever a worker still makes of it goes to nobody."""
        cdef cbh_slot *slot = &self.entries.d.slots[index]
        cdef uint64_t request_id = slot.id
        cdef uint32_t phase = cbh_phase_of(state)
        times = (slot.received_ns, slot.ready_ns, slot.claimed_ns, slot.first_chunk_ns, slot.done_ns)
        item = self.words.collected(request_id, self.words.explain("withdrawn", 0, slot.attempt), times)
        if slot.claimed_ns:
            item.worker, item.attempt = <int>cbh_place_of(state) - <int>self.entries.d.fronts, slot.attempt
        self.streams.pop(request_id, None)
        if phase == CBH_DONE or phase == CBH_FAILED:
            cbh_slot_free(&self.entries.d, index, state, False, now)
        else:
            cbh_cancel(&self.entries.d, request_id, False)
        return item

    cdef object final(self, uint32_t index, uint64_t state, uint64_t now):
        """Take the outcome of a finished slot out, and free the slot."""
        cdef cbh_dict *d = &self.entries.d
        cdef Segment segment = self.entries.segment
        cdef cbh_result result
        cdef uint64_t block = 0
        cdef uint32_t flags = cbh_flags_of(state)
        cdef bint kept = False
        cdef object outcome, body
        cdef bytes meta = b""
        cdef char *data
        if flags & (CBH_DIED | CBH_EXPIRED) or not cbh_result_of(d, index, state, &block, &result):
            reason = "worker_died" if flags & CBH_DIED else "expired" if flags & CBH_EXPIRED else "lost"
            outcome = self.words.explain(reason, cbh_place_of(state), d.slots[index].attempt)
        else:
            data = segment.c.base + block
            if result.meta_bytes:
                meta = PyBytes_FromStringAndSize(data + result.meta_at, result.meta_bytes)
            if cbh_phase_of(state) == CBH_FAILED:
                outcome = self.words.decode_failure(PyBytes_FromStringAndSize(data + result.body_from, result.body_bytes))
            else:
                if result.body_bytes <= <uint64_t>COPY_LIMIT:
                    body = PyBytes_FromStringAndSize(data + result.body_from, result.body_bytes)
                else:
                    body = memoryview(segment.lease(block, result.body_from, result.body_bytes))
                    kept = True
                outcome = self.words.result(body, result.status, meta)
        cbh_slot_free(d, index, state, kept, now)
        return outcome

    def take_chunks(self, uint64_t request_id):
        cdef cbh_dict *d = &self.entries.d
        cdef object known = self.streams.get(request_id)
        if known is None:
            return self.words.taken([])
        cdef uint32_t index = known
        cdef uint64_t cursor = 0
        # SYNC(result-done): before the ring, so that an end that we see has all its chunks in it.
        cdef uint64_t state = load_acquire(&d.slots[index].state)
        cdef cbh_frame frame
        cdef list chunks = []
        cdef object head = None, end = None
        cdef bytes chunk
        cdef char *into
        while cbh_stream_next(d, index, state, &cursor, &frame) == CBH_OK:
            chunk = PyBytes_FromStringAndSize(NULL, frame.first_bytes + frame.second_bytes)
            into = PyBytes_AS_STRING(chunk)
            memcpy(into, frame.first, frame.first_bytes)
            if frame.second_bytes:
                memcpy(into + frame.first_bytes, frame.second, frame.second_bytes)
            if frame.kind == CBH_FRAME_HEAD:
                head = (frame.status, chunk)
                continue
            if frame.block:
                cbh_drop(&self.entries.segment.c, frame.block, cbh_bit(self.place))
            chunks.append(chunk)
        cbh_stream_taken(d, index, state, cursor)
        if cbh_phase_of(state) >= CBH_DONE and not cbh_flags_of(state) & CBH_WITHDRAWN:  # else `collect` tells
            del self.streams[request_id]
            end = self.final(index, state, cbh_now_ns())
        return self.words.taken(chunks, head, end)

    def cancel(self, uint64_t request_id):
        self.streams.pop(request_id, None)
        return cbh_cancel(&self.entries.d, request_id, False) == CBH_OK

    def expire(self, uint64_t request_id):
        self.streams.pop(request_id, None)
        return cbh_cancel(&self.entries.d, request_id, True) == CBH_OK

    def fileno(self):
        return self.entries.d.bells[self.place]

    @property
    def free_slots(self):
        return self.entries.d.free_count

    def close(self):
        self.entries.close(self.place)


cdef class Claimed:
    """A claimed entry: see `core.entries.ClaimedEntry`."""
    cdef readonly uint64_t id, deadline_ns, received_ns
    cdef readonly uint32_t attempt
    cdef readonly object body
    cdef readonly bytes meta
    cdef uint32_t slot
    cdef uint64_t state
    cdef uint64_t ring             # of its stream; 0: none
    cdef Entries entries

    @property
    def cancelled(self):
        return bool(cbh_is_cancelled(&self.entries.d, self.slot, self.state))

    def __dealloc__(self):
        if self.ring:  # let go in mid-stream without an outcome
            cbh_stream_close(&self.entries.d, self.slot, self.ring, False)


cdef class WorkerEnd:
    """A worker's port: see `channels.base.WorkerPort`."""
    cdef readonly Entries entries
    cdef uint32_t place, endpoint
    cdef uint64_t spin_ns
    cdef object words
    cdef bint listening

    def __init__(self, Entries entries, int place, uint32_t endpoint, uint64_t spin_ns=0):
        self.entries = entries
        self.words = entries.words
        self.endpoint = endpoint
        self.spin_ns = spin_ns
        self.place = entries.take_place(place)

    def claim(self, uint32_t max_entries, double wait_s):
        cdef cbh_claimed claims[MAX_CLAIM]
        cdef Claimed entry
        cdef cbh_dict *d = &self.entries.d
        cdef uint64_t now, until, pause
        cdef int bell = d.bells[self.place], i
        cdef bint rung
        if max_entries > MAX_CLAIM:
            max_entries = MAX_CLAIM
        if self.listening:
            self.listening = False
            cbh_stop_listening(d, self.endpoint)
            cbh_bell_quiet(bell)
        cdef int got = cbh_claim(d, self.endpoint, max_entries, claims)
        if got == 0 and wait_s > 0:
            now = cbh_now_ns()
            until = now + (<uint64_t>(wait_s * 1e9) if wait_s < 1e9 else <uint64_t>1000000000000000000)
            if self.spin_ns:
                with nogil:
                    while got == 0 and cbh_now_ns() < now + self.spin_ns:
                        for i in range(64):
                            relax()
                        got = cbh_claim(d, self.endpoint, max_entries, claims)
            while got == 0 and now < until:
                cbh_bell_quiet(bell)
                rung = not cbh_listen(d, self.endpoint)
                if not rung:
                    pause = until - now if until - now < CBH_RECHECK_NS else CBH_RECHECK_NS
                    with nogil:
                        rung = cbh_bell_wait(bell, pause)
                    cbh_stop_listening(d, self.endpoint)
                got = cbh_claim(d, self.endpoint, max_entries, claims)
                now = cbh_now_ns()
                if got == 0 and not rung:
                    PyErr_CheckSignals()
                    if now + 1000000 < until and pause > CBH_RECHECK_NS - 1:
                        continue
                    break   # time is over, or a signal came: whoever waits may want to look at something else
        if got < 0:
            raise self.words.refuse(got, 0, self.entries)
        cdef list taken = []
        for i in range(got):
            entry = self.claimed(&claims[i])
            # Its front died since and the slot is another one's: what we read may be of both, and nobody waits for it.
            if cbh_claim_stands(d, &claims[i]):
                taken.append(entry)
        return taken

    cdef Claimed claimed(self, const cbh_claimed *claim):
        cdef cbh_slot *slot = &self.entries.d.slots[claim.slot]
        cdef Segment segment = self.entries.segment
        cdef Claimed entry = Claimed.__new__(Claimed)
        cdef uint64_t inlined = 0
        entry.entries = self.entries
        entry.slot = claim.slot
        entry.state = claim.state
        entry.id = slot.id
        entry.deadline_ns = slot.deadline_ns
        entry.received_ns = slot.received_ns
        entry.attempt = slot.attempt
        # As take_slot() read and checked them: our bit is in these blocks, whatever the slot says by now.
        cdef uint64_t body_at = claim.body_at, body_bytes = claim.body_bytes
        cdef uint64_t meta_at = claim.meta_at, meta_bytes = claim.meta_bytes
        if meta_at:
            entry.meta = PyBytes_FromStringAndSize(segment.c.base + meta_at, meta_bytes)
            cbh_drop(&segment.c, meta_at, cbh_bit(self.place))
        elif meta_bytes:
            inlined = meta_bytes if meta_bytes <= 384 else 384
            entry.meta = PyBytes_FromStringAndSize(slot.data, inlined)
        else:
            entry.meta = b""
        if body_at:
            entry.body = memoryview(segment.lease(body_at, 0, body_bytes))
        else:
            entry.body = PyBytes_FromStringAndSize(
                slot.data + inlined, body_bytes if body_bytes <= 384 - inlined else 384 - inlined)
        return entry

    def publish(self, Claimed entry, outcome, double wait_s=0.0):
        cdef object kind = type(outcome)
        if kind is self.words.result:
            self.put_result(entry, outcome.body, outcome.status, outcome.meta, CBH_DONE)
            return True
        if kind is self.words.chunk:
            return self.put_chunk(entry, outcome, wait_s)
        self.put_result(entry, self.words.encode_failure(outcome), outcome.status, b"", CBH_FAILED)
        return True

    cdef int put_result(self, Claimed entry, object data, uint32_t status, bytes meta, uint32_t phase) except -1:
        cdef cbh_dict *d = &self.entries.d
        cdef Segment segment = self.entries.segment
        cdef Py_buffer view
        cdef Reservation reserved
        cdef uint64_t size
        cdef int64_t block
        cdef int code
        cdef char *into
        if type(data) is Reservation:
            reserved = <Reservation>data
            if reserved.segment is not segment or reserved.data_at != CBH_RESULT_HEADER:
                raise ValueError("a reservation can be handed over by the port that made it, and only there")
            size = reserved.size_bytes
            block = cbh_result_make(d, entry.slot, entry.state, reserved.block, size, meta, len(meta), status)
            if block < 0:
                raise self.words.refuse(<int>block, size, self.entries)
            reserved.hand_over()
            code = cbh_publish(d, entry.slot, entry.state, phase, <uint64_t>block)
            segment.end_hold(<uint64_t>block)
        else:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            size = view.len
            block = cbh_result_make(d, entry.slot, entry.state, 0, size, meta, len(meta), status)
            if block >= 0:
                into = segment.c.base + block + CBH_RESULT_HEADER
                if size > GIL_BYTES:
                    with nogil:
                        memcpy(into, view.buf, size)
                else:
                    memcpy(into, view.buf, size)
            PyBuffer_Release(&view)
            if block < 0:
                raise self.words.refuse(<int>block, size, self.entries)
            count_copied(&segment.c, size)
            code = cbh_publish(d, entry.slot, entry.state, phase, <uint64_t>block)
            cbh_drop(&segment.c, <uint64_t>block, cbh_bit(self.place))
        self.end_stream(entry, code < 0)
        if code < 0:
            raise self.words.refuse(code, size, self.entries)
        return 0

    cdef int end_stream(self, Claimed entry, bint refused) except -1:
        if entry.ring:
            cbh_stream_close(&self.entries.d, entry.slot, entry.ring, refused)
            entry.ring = 0
        return 0

    cdef bint put_chunk(self, Claimed entry, object chunk, double wait_s) except -1:
        cdef cbh_dict *d = &self.entries.d
        cdef Py_buffer view
        cdef bytes meta = chunk.meta
        cdef uint32_t status = chunk.status
        cdef uint64_t until = 0, now, pause, size
        cdef int code
        PyObject_GetBuffer(chunk.body, &view, PyBUF_SIMPLE)
        size = view.len
        try:
            while True:
                code = cbh_stream_put(d, entry.slot, entry.state, &entry.ring, <const char *>view.buf, view.len, status,
                                      meta, len(meta))
                if code != CBH_AGAIN or cbh_is_cancelled(d, entry.slot, entry.state):
                    break
                if not cbh_stream_wants_credit(d, entry.slot, entry.state, entry.ring):
                    continue  # the front took something between the two looks
                now = cbh_now_ns()
                if until == 0:
                    until = now + (<uint64_t>(wait_s * 1e9) if wait_s < 1e9 else <uint64_t>1000000000000000000)
                if now >= until:
                    return False
                pause = until - now if until - now < CBH_RECHECK_NS else CBH_RECHECK_NS
                with nogil:
                    cbh_bell_wait(d.bells[self.place], pause)
                cbh_bell_quiet(d.bells[self.place])
                PyErr_CheckSignals()
        finally:
            PyBuffer_Release(&view)
        if code == CBH_STALE:
            self.end_stream(entry, True)
        if code < 0 and code != CBH_AGAIN:
            raise self.words.refuse(code, size, self.entries)
        return True

    def reserve(self, uint64_t size_bytes):
        try:
            return self.entries.segment.reserve(size_bytes, CBH_RESULT_HEADER, CBH_RESULT_BACK)
        except self.words.core_error as error:
            raise self.words.refuse(error.code, size_bytes, self.entries) from error

    def count_batch(self, uint32_t size, double wait_s):
        cbh_count_batch(&self.entries.d, self.endpoint, size, <uint64_t>(wait_s * 1e9) if 0 < wait_s < 1e9 else 0)

    def listen(self):
        if self.listening:
            cbh_bell_quiet(self.entries.d.bells[self.place])
        self.listening = cbh_listen(&self.entries.d, self.endpoint)
        return self.listening

    def fileno(self):
        return self.entries.d.bells[self.place]

    def close(self):
        self.entries.close(self.place)
