# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
# SPDX-License-Identifier: Apache-2.0
"""Binding of the look back: histograms of the entries that are over, and the last of them one by one.

For observers only: it maps, sums and copies, takes no place and changes nothing. `channels/past.py` gives the numbers their names.
"""
from libc.stdint cimport uint32_t, uint64_t

from cubbyhole._native._dict cimport *
from cubbyhole._native._segment cimport CBH_PLACES, Segment

cdef extern from *:
    """
    #include "cbh_history.h"
    #define word_at(words, i) atomic_load_explicit((_Atomic uint64_t *)(words) + (i), memory_order_relaxed)
    """
    uint64_t word_at(const void *words, uint32_t i) nogil


TIME_BOUNDS_NS = tuple(cbh_time_bounds[i] for i in range(CBH_TIME_BUCKETS - 1))
SIZE_BOUNDS = tuple(cbh_size_bound(i) for i in range(CBH_SIZE_BUCKETS - 1))
BATCH_BOUNDS = tuple(cbh_batch_bound(i) for i in range(CBH_BATCH_BUCKETS - 1))
RECORDS = CBH_RECORDS


cdef int add(list sums, const void *words, uint32_t count) except -1:
    cdef uint32_t i
    for i in range(count):
        sums[i] += word_at(words, i)
    return 0


cdef class History:
    """What a segment knows of the entries that are over."""
    cdef readonly Segment segment
    cdef cbh_dict d

    def __init__(self, Segment segment):
        self.segment = segment
        segment.check(cbh_dict_open(&self.d, &segment.c), "open history")

    def __dealloc__(self):
        cbh_dict_close(&self.d)

    def tally(self, uint32_t endpoint):
        """(outcomes, [(sum, buckets) of each timer], [(sum, buckets) of each sizer]) of an endpoint, over all fronts."""
        cdef const cbh_tally *tally
        cdef uint32_t front, i
        cdef list outcomes = [0] * CBH_OUTCOMES
        cdef list times = [[0] * (CBH_TIME_BUCKETS + 1) for i in range(CBH_TIMERS)]
        cdef list sizes = [[0] * (CBH_SIZE_BUCKETS + 1) for i in range(CBH_SIZERS)]
        for front in range(self.d.fronts):
            tally = cbh_tally_of(&self.d, front, endpoint)
            if tally == NULL:
                break
            add(outcomes, tally.outcomes, CBH_OUTCOMES)
            for i in range(CBH_TIMERS):  # the sum and its buckets lie one after the other
                add(times[i], &tally.times[i].sum, CBH_TIME_BUCKETS + 1)
            for i in range(CBH_SIZERS):
                add(sizes[i], &tally.sizes[i].sum, CBH_SIZE_BUCKETS + 1)
        return outcomes, [(words[0], words[1:]) for words in times], [(words[0], words[1:]) for words in sizes]

    def batches(self, uint32_t endpoint):
        """((sum, buckets) of sizes, (sum, buckets) of waits) of an endpoint, over all workers."""
        cdef const cbh_batches *batches
        cdef uint32_t place
        cdef list sizes = [0] * (CBH_BATCH_BUCKETS + 1), waits = [0] * (CBH_TIME_BUCKETS + 1)
        for place in range(CBH_PLACES):
            batches = cbh_batches_of(&self.d, place)
            if word_at(&batches.endpoint, 0) == endpoint + 1:
                add(sizes, &batches.sum, CBH_BATCH_BUCKETS + 1)
                add(waits, &batches.waits.sum, CBH_TIME_BUCKETS + 1)
        return (sizes[0], sizes[1:]), (waits[0], waits[1:])

    def past(self):
        """The last entries that are over, as tuples, in no order."""
        cdef cbh_past p
        cdef uint32_t front, ring, number
        found = []
        for front in range(self.d.fronts):
            for ring in range(CBH_RINGS):
                for number in range(CBH_RECORDS):
                    if cbh_past_read(&self.d, front, ring, number, &p):
                        found.append((p.id, p.endpoint, p.front, <int>p.place, p.attempt, p.flags, p.outcome, p.status, p.chunks,
                                      p.request_bytes, p.result_bytes, p.rank, p.deadline_ns, p.received_ns, p.ready_ns,
                                      p.claimed_ns, p.first_chunk_ns, p.done_ns, p.over_ns))
        return found
