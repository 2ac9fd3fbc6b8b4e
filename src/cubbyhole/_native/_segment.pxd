# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "cbh_layout.h" nogil:
    const uint32_t CBH_PLACES, CBH_OBSERVER, CBH_KIND_ENTRIES, CBH_KIND_DICTIONARY
    const uint64_t CBH_LINKED
    const int CBH_OK, CBH_FULL, CBH_TOO_LARGE, CBH_STALE, CBH_NO_PLACE, CBH_WRONG_LAYOUT, CBH_CORRUPT, CBH_SYSTEM
    const int CBH_NOT_FOUND, CBH_AGAIN
    ctypedef struct cbh_header:
        uint64_t segment_bytes, body_at, arena_at, body_bytes
        uint32_t extent_count
        uint64_t parameters[8]

cdef extern from "cbh_segment.h" nogil:
    ctypedef struct cbh_segment:
        char *base
        uint64_t bytes
        const cbh_header *header
        uint32_t place, epoch
    int cbh_segment_create(uint32_t kind, uint64_t body_bytes, uint64_t arena_bytes, const uint64_t *parameters)
    int cbh_segment_map(cbh_segment *segment, int fd, uint32_t kind)
    void cbh_segment_unmap(cbh_segment *segment)
    int cbh_place_take(cbh_segment *segment, uint32_t place)
    void cbh_place_leave(cbh_segment *segment)
    bint cbh_place_alive(const cbh_segment *segment, uint32_t place)
    bint cbh_place_mine(const cbh_segment *segment)
    int32_t cbh_place_pid(const cbh_segment *segment, uint32_t place)
    int cbh_place_reap(cbh_segment *segment, uint32_t place)
    int64_t cbh_alloc(cbh_segment *segment, uint64_t bytes)
    void *cbh_holders(const cbh_segment *segment, uint64_t offset, uint64_t *capacity)
    int cbh_hold(cbh_segment *segment, uint64_t offset, uint64_t bits)
    int cbh_drop(cbh_segment *segment, uint64_t offset, uint64_t bits)
    uint64_t cbh_trim(cbh_segment *segment)
    void cbh_warm(cbh_segment *segment, uint64_t block_bytes, uint64_t bytes)
    void cbh_usage(const cbh_segment *segment, uint64_t *bytes, uint64_t *blocks)
    uint64_t cbh_largest(const cbh_segment *segment)
    uint64_t cbh_bit(uint32_t place)


cdef class Segment:
    cdef cbh_segment c
    cdef readonly int fd
    cdef readonly bint closed
    cdef dict holds            # block offset -> how many objects of this process look at it: one bit stands for all
    cdef int check(self, int64_t code, str what) except -1
    cdef int add_hold(self, uint64_t offset) except -1          # the bit is set already
    cdef int end_hold(self, uint64_t offset) except -1
    cdef Lease lease(self, uint64_t block, uint64_t start, uint64_t length)

cdef class Lease:
    cdef Segment segment
    cdef uint64_t block                # offset of the block that is held
    cdef char *data
    cdef Py_ssize_t length
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]

cdef class Reservation:
    cdef Segment segment
    cdef uint64_t block                # 0: handed over or given back
    cdef uint64_t data_at              # within the block
    cdef uint64_t capacity             # of the block, behind data_at
    cdef readonly Py_ssize_t size_bytes
    cdef int exports
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]
    cdef uint64_t hand_over(self) except 0
