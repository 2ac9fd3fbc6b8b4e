# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True, auto_pickle=False, autotestdict=False
# SPDX-License-Identifier: Apache-2.0
"""Binding of the index: keys and typed values in, leases and copies out.

A bucket's lock is only ever held while the GIL is: whoever has to wait for one gives the GIL up, sleeps, and tries again.
So the threads of a process, which share one place, are never inside the index at once, and a fork never copies a held lock.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from cubbyhole._native._segment cimport (
    CBH_AGAIN, CBH_CORRUPT, CBH_FULL, CBH_KIND_DICTIONARY, CBH_NOT_FOUND, CBH_OBSERVER, CBH_OK, CBH_PLACES, CBH_STALE,
    CBH_TOO_LARGE, Lease, Reservation, Segment, cbh_alloc, cbh_bit, cbh_drop, cbh_place_mine, cbh_place_pid, cbh_segment,
)
from cubbyhole._native._segment import CoreError


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef extern from *:
    """
    #ifdef CBH_CRASH_POINTS
    extern int cbh_crash_armed;
    static void arm_crash(int point) { cbh_crash_armed = point; }
    static const int crash_points = 1;
    #else
    static void arm_crash(int point) { (void)point; }
    static const int crash_points = 0;
    #endif
    """
    void arm_crash(int point)
    const int crash_points

cdef extern from "cbh_index.h" nogil:
    ctypedef struct cbh_index:
        cbh_segment *segment
        uint64_t mask
    ctypedef struct cbh_found:
        uint64_t block, head_at, value_at, value_bytes, made_ns, holders
        uint32_t key_bytes, head_bytes, kind
        int32_t pid
    const uint32_t CBH_LONGEST_KEY, CBH_KEEP_OLD, CBH_MOST_BUCKETS
    const uint32_t CBH_I_GETS, CBH_I_HITS, CBH_I_SETS, CBH_I_DELETES, CBH_I_RETRIES, CBH_I_LOCK_WAITS
    const uint32_t CBH_I_STEALS, CBH_I_MENDED, CBH_I_WAKES
    uint64_t cbh_index_body_bytes(uint64_t buckets)
    int cbh_index_open(cbh_index *index, cbh_segment *segment)
    void cbh_index_close(cbh_index *index)
    uint64_t cbh_index_hash(const cbh_index *index, const char *key, uint32_t key_bytes)
    uint64_t cbh_node_bytes(uint64_t key_bytes, uint64_t head_bytes, uint64_t value_bytes)
    uint64_t cbh_node_value_at(uint64_t key_bytes, uint64_t head_bytes)
    void cbh_node_write(cbh_index *index, uint64_t block, uint64_t hash, const char *key, uint32_t key_bytes,
                        const char *head, uint32_t head_bytes, uint32_t kind, uint64_t value_bytes)
    int cbh_index_get(cbh_index *index, const char *key, uint32_t key_bytes, uint64_t hash, unsigned turn, cbh_found *found)
    int cbh_index_link(cbh_index *index, uint64_t block, unsigned flags, unsigned turn, cbh_found *other)
    int cbh_index_unlink(cbh_index *index, const char *key, uint32_t key_bytes, uint64_t hash, unsigned turn, cbh_found *found)
    int cbh_index_observe(const cbh_index *index, uint64_t bucket, cbh_found *seen, uint32_t most, char *keys, uint64_t keys_room)
    int cbh_index_visit(cbh_index *index, uint64_t bucket, unsigned turn)
    uint64_t cbh_index_length(const cbh_index *index)
    uint64_t cbh_index_counted(const cbh_index *index, uint32_t counter)
    uint32_t cbh_index_version(const cbh_index *index, uint64_t hash)
    uint32_t cbh_index_changes(const cbh_index *index)
    void cbh_index_arm(cbh_index *index, uint64_t hash)
    void cbh_index_ring(cbh_index *index)
    void cbh_index_pause(cbh_index *index, uint64_t hash, unsigned turn)
    void cbh_index_wait(cbh_index *index, uint64_t hash, uint32_t seen_version, uint64_t wait_ns)
    void cbh_index_wait_any(cbh_index *index, uint32_t seen_changes, uint64_t wait_ns)
    int cbh_index_after_fork(cbh_index *index)
    bint cbh_index_adopt(cbh_index *index, uint64_t block, uint32_t parent_place)


LONGEST_KEY_BYTES = CBH_LONGEST_KEY
MOST_BUCKETS = CBH_MOST_BUCKETS
CRASH_POINTS = bool(crash_points)

cdef enum:
    COPY_WITHOUT_GIL = 1 << 20  # below, giving the GIL up costs more than it gives others


def body_bytes(uint64_t buckets):
    """Bytes of the segment's body for so many buckets."""
    return cbh_index_body_bytes(buckets)


def arm_crash_point(int point):
    """SIGKILL this process when it comes to that point; only in a build with CUBBYHOLE_CRASH_POINTS=1."""
    arm_crash(point)


cdef struct word_of_key:
    const char *at
    uint32_t size
    uint64_t hash


cdef class Index:
    """The index of one segment in this process."""

    cdef Segment segment
    cdef cbh_index c

    def __cinit__(self, Segment segment not None):
        self.segment = segment
        segment.check(cbh_index_open(&self.c, &segment.c), "open index")

    def __dealloc__(self):
        if self.segment is not None:  # leases may keep the segment for longer
            cbh_index_close(&self.c)

    cdef int key_of(self, str key, word_of_key *word) except -1:
        cdef Py_ssize_t size
        word.at = PyUnicode_AsUTF8AndSize(key, &size)
        if size > CBH_LONGEST_KEY:
            raise CoreError(CBH_TOO_LARGE, f"key of {size} bytes, at most {CBH_LONGEST_KEY}")
        word.size = <uint32_t>size
        word.hash = cbh_index_hash(&self.c, word.at, word.size)
        return 0

    cdef int pause(self, uint64_t hash, unsigned turn) except -1:
        with nogil:
            cbh_index_pause(&self.c, hash, turn)
        PyErr_CheckSignals()
        return self.usable()

    cdef int usable(self) except -1:
        if self.segment.closed:
            raise CoreError(CBH_STALE, "dictionary closed")
        return 0

    cdef int let_go(self, uint64_t block) except -1:
        """Our bit was set for a moment; other leases of this process on the block keep it."""
        if block not in self.segment.holds and cbh_place_mine(&self.segment.c):
            cbh_drop(&self.segment.c, block, cbh_bit(self.segment.c.place))
        return 0

    # ------------------------------------------------------------ read
    cdef tuple value_of(self, cbh_found *found, bint copy):
        """(kind, head, value): the value as bytes, or as a lease. Our bit is on the block and goes to the lease."""
        cdef char *block = self.c.segment.base + found.block
        cdef bytes head, value
        cdef Lease lease
        try:
            head = PyBytes_FromStringAndSize(block + found.head_at, found.head_bytes)
            if copy and found.value_bytes <= COPY_WITHOUT_GIL:
                value = PyBytes_FromStringAndSize(block + found.value_at, <Py_ssize_t>found.value_bytes)
                self.let_go(found.block)
                return found.kind, head, value
            lease = self.segment.lease(found.block, found.value_at, found.value_bytes)
        except BaseException:
            self.let_go(found.block)
            raise
        if not copy:
            return found.kind, head, lease
        value = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>found.value_bytes)
        cdef char *into = PyBytes_AS_STRING(value)
        cdef char *source = block + found.value_at
        cdef uint64_t size = found.value_bytes
        with nogil:
            memcpy(into, source, size)
        return found.kind, head, value

    def get(self, str key not None, uint32_t copied_kinds=0):
        """(kind, head, value) of a key, or None. Kinds whose bit is in `copied_kinds` come as bytes, others as `Lease`."""
        cdef word_of_key word
        cdef cbh_found found
        cdef unsigned turn = 0
        self.usable()
        self.key_of(key, &word)
        cdef int code = cbh_index_get(&self.c, word.at, word.size, word.hash, 0, &found)
        while code == CBH_AGAIN:
            turn += 1
            if turn > 1:
                self.pause(word.hash, turn - 2)
            code = cbh_index_get(&self.c, word.at, word.size, word.hash, turn, &found)
        if code == CBH_NOT_FOUND:
            return None
        self.segment.check(code, "get")
        return self.value_of(&found, found.kind < 32 and copied_kinds >> found.kind & 1)

    def has(self, str key not None):
        cdef word_of_key word
        cdef unsigned turn = 0
        self.usable()
        self.key_of(key, &word)
        cdef int code = cbh_index_get(&self.c, word.at, word.size, word.hash, 0, NULL)
        while code == CBH_AGAIN:
            turn += 1
            if turn > 1:
                self.pause(word.hash, turn - 2)
            code = cbh_index_get(&self.c, word.at, word.size, word.hash, turn, NULL)
        if code == CBH_NOT_FOUND:
            return False
        self.segment.check(code, "has")
        return True

    def length(self):
        self.usable()
        return cbh_index_length(&self.c)

    # ------------------------------------------------------------ write
    cdef int link(self, uint64_t block, uint64_t hash, unsigned flags, cbh_found *other) except -100:
        cdef unsigned turn = 0
        cdef int code = cbh_index_link(&self.c, block, flags, 0, other)
        while code == CBH_AGAIN:
            self.pause(hash, turn)
            turn += 1
            code = cbh_index_link(&self.c, block, flags, turn, other)
        self.segment.check(code, "set")
        return code

    def put(self, str key not None, uint32_t kind, bytes head not None, object value, bint keep_old=False,
            uint32_t copied_kinds=0):
        """Store a value: anything with the buffer protocol, C-contiguous. One copy.

        With `keep_old` a value that is there already stays and is returned, as `get` does; None: the new one is in.
        """
        cdef word_of_key word
        cdef Py_buffer buffer
        cdef cbh_found other
        cdef uint64_t size, at
        cdef int64_t block = -1
        cdef int code
        self.usable()
        self.key_of(key, &word)
        PyObject_GetBuffer(value, &buffer, PyBUF_SIMPLE)
        try:
            size = cbh_node_bytes(word.size, PyBytes_GET_SIZE(head), buffer.len)
            block = cbh_alloc(&self.segment.c, size)
            self.segment.check(block, "set")
            cbh_node_write(&self.c, block, word.hash, word.at, word.size, PyBytes_AS_STRING(head),
                           <uint32_t>PyBytes_GET_SIZE(head), kind, buffer.len)
            at = <uint64_t>block + cbh_node_value_at(word.size, PyBytes_GET_SIZE(head))
            if buffer.len > COPY_WITHOUT_GIL:
                with nogil:
                    memcpy(self.c.segment.base + at, buffer.buf, buffer.len)
            else:
                memcpy(self.c.segment.base + at, buffer.buf, buffer.len)
            code = self.link(<uint64_t>block, word.hash, CBH_KEEP_OLD if keep_old else 0, &other)
        finally:
            PyBuffer_Release(&buffer)
            if block >= 0:
                self.let_go(<uint64_t>block)
        if code == 1:
            if keep_old:
                return self.value_of(&other, other.kind < 32 and copied_kinds >> other.kind & 1)
            self.let_go(other.block)
        return None

    def reserve(self, str key not None, uint32_t kind, bytes head not None, uint64_t value_bytes):
        """A `Reservation` of a node whose value is still to be written; `publish` makes it visible."""
        cdef word_of_key word
        self.usable()
        self.key_of(key, &word)
        cdef uint64_t front = cbh_node_value_at(word.size, PyBytes_GET_SIZE(head))
        if cbh_node_bytes(word.size, PyBytes_GET_SIZE(head), value_bytes) == 0:
            raise CoreError(CBH_TOO_LARGE, "reserve")
        cdef Reservation room = self.segment.reserve(value_bytes, front)
        cbh_node_write(&self.c, room.block, word.hash, word.at, word.size, PyBytes_AS_STRING(head),
                       <uint32_t>PyBytes_GET_SIZE(head), kind, value_bytes)
        return room

    def publish(self, str key not None, Reservation room not None):
        """Link a reserved node. The reservation goes on holding the block, for as long as the writer looks at it."""
        cdef word_of_key word
        cdef cbh_found other
        self.usable()
        self.key_of(key, &word)
        if self.link(room.block, word.hash, 0, &other) == 1:
            self.let_go(other.block)

    def remove(self, str key not None, bint want_value=False, uint32_t copied_kinds=0):
        """Unlink a key: its value as `get` gives it, or True; None: there was none."""
        cdef word_of_key word
        cdef cbh_found found
        cdef unsigned turn = 0
        self.usable()
        self.key_of(key, &word)
        cdef int code = cbh_index_unlink(&self.c, word.at, word.size, word.hash, 0, &found)
        while code == CBH_AGAIN:
            self.pause(word.hash, turn)
            turn += 1
            code = cbh_index_unlink(&self.c, word.at, word.size, word.hash, turn, &found)
        if code == CBH_NOT_FOUND:
            return None
        self.segment.check(code, "delete")
        if want_value:
            return self.value_of(&found, found.kind < 32 and copied_kinds >> found.kind & 1)
        self.let_go(found.block)
        return True

    # ------------------------------------------------------------ look
    @property
    def buckets(self):
        return self.c.mask + 1

    def observe(self, uint64_t bucket):
        """[(key, kind, bytes, made_ns, pid, holders)] of a bucket, without its lock; None: a writer is in it."""
        cdef uint32_t most = 16
        cdef uint64_t room = 4096, at = 0
        cdef cbh_found *seen = NULL
        cdef char *keys = NULL
        cdef int i, code = CBH_FULL
        self.usable()
        try:
            while code == CBH_FULL:
                free(seen)
                free(keys)
                seen = <cbh_found *>malloc(most * sizeof(cbh_found))
                keys = <char *>malloc(room)
                if seen == NULL or keys == NULL:
                    raise MemoryError(f"{most * sizeof(cbh_found) + room} bytes to look at a bucket")
                code = cbh_index_observe(&self.c, bucket, seen, most, keys, room)
                most *= 4
                room *= 8
            if code == CBH_AGAIN:
                return None
            self.segment.check(code, "observe")
            found = []
            for i in range(code):
                found.append((PyUnicode_DecodeUTF8(keys + at, seen[i].key_bytes, "replace"), seen[i].kind,
                              seen[i].value_bytes, seen[i].made_ns, seen[i].pid, seen[i].holders))
                at += seen[i].key_bytes
            return found
        finally:
            free(seen)
            free(keys)

    def visit(self, uint64_t bucket):
        """Take the lock of a bucket and give it back: what a dead writer left in it is mended then."""
        cdef unsigned turn = 0
        cdef int code
        self.usable()
        while (code := cbh_index_visit(&self.c, bucket, turn)) == CBH_AGAIN:
            self.pause(bucket, turn)
            turn += 1
        self.segment.check(code, "visit")

    def counters(self):
        """Sums over all processes since the dictionary was made."""
        names = {"gets": CBH_I_GETS, "hits": CBH_I_HITS, "sets": CBH_I_SETS, "deletes": CBH_I_DELETES,
                 "retries": CBH_I_RETRIES, "lock_waits": CBH_I_LOCK_WAITS, "steals": CBH_I_STEALS,
                 "mended": CBH_I_MENDED, "wakes": CBH_I_WAKES}
        return {name: cbh_index_counted(&self.c, which) for name, which in names.items()}

    # ------------------------------------------------------------ wait
    def version(self, str key not None):
        """A number that changes with every change of the key's bucket."""
        cdef word_of_key word
        self.usable()
        self.key_of(key, &word)
        return cbh_index_version(&self.c, word.hash)

    def wait(self, str key not None, uint32_t version, uint64_t wait_ns):
        """Sleep until the bucket's version is another one, or `wait_ns` is over, or for no reason."""
        cdef word_of_key word
        self.usable()
        self.key_of(key, &word)
        with nogil:
            cbh_index_wait(&self.c, word.hash, version, wait_ns)
        PyErr_CheckSignals()
        self.usable()

    def changes(self):
        """A number that changes with every change of an armed bucket."""
        self.usable()
        return cbh_index_changes(&self.c)

    def arm(self, str key not None):
        """Let the next change of the key's bucket change `changes()` too."""
        cdef word_of_key word
        self.usable()
        self.key_of(key, &word)
        cbh_index_arm(&self.c, word.hash)

    def wait_any(self, uint32_t changes, uint64_t wait_ns):
        """Sleep until `changes()` is another number, or `wait_ns` is over, or for no reason."""
        with nogil:
            cbh_index_wait_any(&self.c, changes, wait_ns)

    def ring(self):
        """Wake all who are in `wait_any`."""
        cbh_index_ring(&self.c)

    # ------------------------------------------------------------ fork
    def after_fork(self):
        """In a forked child: sit down at a place of its own, and hold what the parent's leases hold, from there too."""
        cdef uint32_t parent = self.segment.c.place
        self.segment.check(cbh_index_after_fork(&self.c), "place after fork")
        for block in self.segment.holds:
            cbh_index_adopt(&self.c, block, parent)
        return self.segment.c.place
