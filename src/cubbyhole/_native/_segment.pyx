# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
# SPDX-License-Identifier: Apache-2.0
"""Binding of a segment, and of the two ways to look into it: `Lease` (read) and `Reservation` (fill, then hand over).

Thin on purpose: reference counts and the GIL live here, every decision lives in C.
"""
import os

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from *:
    """
    #ifdef CBH_CRASH_POINTS
    extern int cbh_crash_armed;
    static void arm_crash(int point) { cbh_crash_armed = point; }
    #else
    static void arm_crash(int point) { (void)point; }
    #endif
    """
    void arm_crash(int point)


def arm_crash_point(int point):
    """As that of `_entries`, which has a copy of the core of its own."""
    arm_crash(point)


KIND_ENTRIES = CBH_KIND_ENTRIES
KIND_DICTIONARY = CBH_KIND_DICTIONARY
PLACES = CBH_PLACES
CODES = {
    "full": CBH_FULL, "too_large": CBH_TOO_LARGE, "stale": CBH_STALE, "no_place": CBH_NO_PLACE,
    "wrong_layout": CBH_WRONG_LAYOUT, "corrupt": CBH_CORRUPT, "system": CBH_SYSTEM, "not_found": CBH_NOT_FOUND,
    "again": CBH_AGAIN,
}
_NAMES = {code: name for name, code in CODES.items()}


class CoreError(Exception):
    """The core refused; `code` is one of `CODES`. The rooms above turn it into an error of their own, with numbers."""

    def __init__(self, code, what, number=0):
        super().__init__(f"{what}: {_NAMES.get(code, code)}" + (f" ({os.strerror(number)})" if number else ""))
        self.code = code
        self.name = _NAMES.get(code, "unknown")


from libc.errno cimport errno


cdef char *BYTES_FORMAT = "B"


cdef class Segment:
    """One mapping of a segment in this process."""

    def __cinit__(self):
        self.fd = -1
        self.closed = False
        self.holds = {}
        self.c.place = CBH_OBSERVER

    @classmethod
    def create(cls, uint32_t kind, uint64_t body_bytes, uint64_t arena_bytes, parameters=()):
        """Make a segment; returns the descriptor of its memfd, which is all there is to pass on."""
        cdef uint64_t values[8]
        cdef int i
        for i in range(8):
            values[i] = parameters[i] if i < len(parameters) else 0
        cdef int fd = cbh_segment_create(kind, body_bytes, arena_bytes, values)
        if fd < 0:
            raise CoreError(fd, "segment create", errno if fd == CBH_SYSTEM else 0)
        return fd

    @classmethod
    def attach(cls, int fd, uint32_t kind):
        """Map the segment behind `fd` as an observer. The descriptor stays the caller's."""
        cdef Segment self = cls.__new__(cls)
        cdef int code = cbh_segment_map(&self.c, fd, kind)
        if code < 0:
            raise CoreError(code, "segment map", errno if code == CBH_SYSTEM else 0)
        self.fd = fd
        return self

    cdef int check(self, int64_t code, str what) except -1:
        if code < 0:
            raise CoreError(code, what)
        return 0

    def take_place(self, int place=-1):
        """Sit down at `place`, or at any free one; returns its number."""
        self.check(cbh_place_take(&self.c, CBH_OBSERVER if place < 0 else <uint32_t>place), "take place")
        return self.c.place

    @property
    def place(self):
        return -1 if self.c.place >= CBH_PLACES else <int>self.c.place

    @property
    def mine(self):
        """Whether we still count as alive at our place."""
        return cbh_place_mine(&self.c)

    @property
    def segment_bytes(self):
        return self.c.bytes

    @property
    def arena_bytes(self):
        return cbh_largest(&self.c)

    def parameters(self):
        return tuple(self.c.header.parameters[i] for i in range(8))

    def alive(self, uint32_t place):
        return bool(cbh_place_alive(&self.c, place))

    def pid(self, uint32_t place):
        """The process at `place`; 0: nobody."""
        return cbh_place_pid(&self.c, place)

    def reap(self, uint32_t place):
        """Make the process at `place` count as dead and drop all that it held."""
        cdef int code = cbh_place_reap(&self.c, place)
        if code != CBH_AGAIN:
            self.check(code, "reap")
        return code == CBH_OK

    def usage(self):
        """(bytes, blocks) that somebody holds."""
        cdef uint64_t held, blocks
        cbh_usage(&self.c, &held, &blocks)
        return held, blocks

    def trim(self):
        """Give free memory back to the system; returns the bytes."""
        return cbh_trim(&self.c)

    def warm(self, uint64_t block_bytes, uint64_t size_bytes):
        """Fault the first blocks of a size in, so that the first requests do not pay for it."""
        cbh_warm(&self.c, block_bytes, size_bytes)

    def reserve(self, uint64_t size_bytes, uint64_t front_bytes=0, uint64_t back_bytes=0):
        """A block with room for `size_bytes` of data, and for a header before and a trailer behind it."""
        return new_reservation(self, size_bytes, front_bytes, back_bytes)

    @property
    def held_blocks(self):
        """How many blocks this process looks at."""
        return len(self.holds)

    def close(self):
        """Leave the place. The memory stays mapped until the last view of it is gone."""
        self.closed = True
        if self.c.base != NULL and not self.holds:
            cbh_place_leave(&self.c)

    cdef int add_hold(self, uint64_t offset) except -1:
        self.holds[offset] = self.holds.get(offset, 0) + 1
        return 0

    cdef int end_hold(self, uint64_t offset) except -1:
        cdef object count = self.holds.get(offset, 0) - 1
        if count > 0:
            self.holds[offset] = count
            return 0
        self.holds.pop(offset, None)
        if self.c.base != NULL:
            if cbh_place_mine(&self.c):
                cbh_drop(&self.c, offset, cbh_bit(self.c.place))
            if self.closed and not self.holds:
                cbh_place_leave(&self.c)
        return 0

    cdef Lease lease(self, uint64_t block, uint64_t start, uint64_t length):
        cdef Lease lease = Lease.__new__(Lease)
        lease.segment = self
        lease.block = block
        lease.data = self.c.base + block + start
        lease.length = <Py_ssize_t>length
        self.add_hold(block)
        return lease

    def __dealloc__(self):
        if self.c.base != NULL:
            cbh_place_leave(&self.c)
            cbh_segment_unmap(&self.c)


cdef class Lease:
    """A read-only view of a block. The block cannot be reused before the last view of the lease is gone."""

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE == PyBUF_WRITABLE:
            raise BufferError("a lease is read-only: others may look at the same bytes")
        self.shape[0] = self.length
        self.strides[0] = 1
        buffer.buf = self.data
        buffer.obj = self
        buffer.len = self.length
        buffer.itemsize = 1
        buffer.readonly = 1
        buffer.ndim = 1
        buffer.format = BYTES_FORMAT if flags & PyBUF_FORMAT else NULL
        buffer.shape = self.shape if flags & PyBUF_ND else NULL
        buffer.strides = self.strides if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL

    def __len__(self):
        return self.length

    def __dealloc__(self):
        if self.segment is not None and self.block:
            self.segment.end_hold(self.block)


cdef Reservation new_reservation(Segment segment, uint64_t size_bytes, uint64_t front_bytes, uint64_t back_bytes):
    cdef int64_t at = cbh_alloc(&segment.c, front_bytes + size_bytes + back_bytes)
    segment.check(at, "reserve")
    cdef Reservation self = Reservation.__new__(Reservation)
    self.segment = segment
    self.block = <uint64_t>at
    self.data_at = front_bytes
    self.capacity = size_bytes + back_bytes
    self.size_bytes = <Py_ssize_t>size_bytes
    segment.add_hold(self.block)
    return self


cdef class Reservation:
    """Writable room in a block that nobody else sees yet. Hand it over once; dropped without that, it is free again."""

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.block == 0:
            raise BufferError("the reservation was handed over; its bytes belong to the reader now")
        self.shape[0] = self.size_bytes
        self.strides[0] = 1
        buffer.buf = self.segment.c.base + self.block + self.data_at
        buffer.obj = self
        buffer.len = self.size_bytes
        buffer.itemsize = 1
        buffer.readonly = 0
        buffer.ndim = 1
        buffer.format = BYTES_FORMAT if flags & PyBUF_FORMAT else NULL
        buffer.shape = self.shape if flags & PyBUF_ND else NULL
        buffer.strides = self.strides if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1

    def __len__(self):
        return self.size_bytes

    def shrink(self, Py_ssize_t size_bytes):
        """Say that fewer bytes were filled than reserved."""
        if not 0 <= size_bytes <= self.size_bytes:
            raise ValueError(f"cannot shrink a reservation of {self.size_bytes} bytes to {size_bytes}")
        self.size_bytes = size_bytes

    cdef uint64_t hand_over(self) except 0:
        """The block, which is the receiver's to hold from now on; views that the writer kept still see it."""
        if self.block == 0:
            raise BufferError("the reservation was handed over already")
        cdef uint64_t block = self.block
        self.block = 0
        return block

    def __dealloc__(self):
        if self.segment is not None and self.block:
            self.segment.end_hold(self.block)
