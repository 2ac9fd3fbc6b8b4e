# SPDX-License-Identifier: Apache-2.0
"""What the binding uses of the dictionary of entries: declarations only, those of the C headers."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from cubbyhole._native._segment cimport cbh_segment

cdef extern from "cbh_bell.h" nogil:
    void cbh_bell_ring(int fd)
    void cbh_bell_quiet(int fd)
    bint cbh_bell_wait(int fd, uint64_t wait_ns)

cdef extern from "cbh_segment.h" nogil:
    uint64_t cbh_now_ns()

cdef extern from "cbh_dict.h" nogil:
    const uint32_t CBH_RESULT_HEADER, CBH_RESULT_BACK, CBH_CANCELLED, CBH_RETRY, CBH_EXPIRED, CBH_DIED, CBH_WITHDRAWN
    const uint32_t CBH_STREAMING, CBH_CLAIMED, CBH_DONE, CBH_FAILED, CBH_FREE, CBH_FRAME_HEAD
    const uint64_t CBH_RECHECK_NS
    ctypedef struct cbh_slot:
        uint64_t state, id, deadline_ns, received_ns, ready_ns, claimed_ns
        uint64_t first_chunk_ns, done_ns, stream
        unsigned char attempt
        char *data
    ctypedef struct cbh_result:
        uint64_t body_bytes
        uint32_t meta_at, meta_bytes, status, body_from
    ctypedef struct cbh_dict:
        uint32_t fronts, workers, endpoints, per_front, slot_count, free_count
        cbh_slot *slots
        int *bells
    ctypedef struct cbh_bytes:
        const char *data
        uint64_t bytes
        uint64_t block
    ctypedef struct cbh_frame:
        const char *first
        const char *second
        uint64_t first_bytes, second_bytes, block
        uint32_t kind, status
    ctypedef struct cbh_view:
        uint64_t id, state, rank, deadline_ns, received_ns, ready_ns, claimed_ns, first_chunk_ns, done_ns
        uint64_t request_bytes, result_bytes
        uint32_t endpoint, front, attempt, chunks, status
    uint64_t cbh_dict_body_bytes(uint32_t fronts, uint32_t endpoints, uint32_t per_front)
    int cbh_dict_open(cbh_dict *d, cbh_segment *segment)
    void cbh_dict_close(cbh_dict *d)
    int cbh_front_open(cbh_dict *d)
    uint32_t cbh_phase_of(uint64_t state)
    uint32_t cbh_flags_of(uint64_t state)
    uint32_t cbh_place_of(uint64_t state)
    int cbh_submit(cbh_dict *d, uint64_t id, uint32_t endpoint, cbh_bytes body, cbh_bytes meta, uint64_t rank,
                   uint64_t deadline_ns, uint32_t flags, uint64_t received_ns)
    uint32_t cbh_drain(cbh_dict *d, uint32_t *slots, uint32_t max)
    bint cbh_result_of(const cbh_dict *d, uint32_t slot, uint64_t state, uint64_t *block, cbh_result *result)
    void cbh_slot_free(cbh_dict *d, uint32_t slot, uint64_t state, bint kept, uint64_t now)
    int cbh_cancel(cbh_dict *d, uint64_t id, bint overdue)
    ctypedef struct cbh_claimed:
        uint64_t state, body_at, body_bytes, meta_at
        uint32_t slot, meta_bytes
    int cbh_claim(cbh_dict *d, uint32_t endpoint, uint32_t max, cbh_claimed *claimed)
    bint cbh_claim_stands(const cbh_dict *d, const cbh_claimed *claimed)
    bint cbh_listen(cbh_dict *d, uint32_t endpoint)
    void cbh_stop_listening(cbh_dict *d, uint32_t endpoint)
    int64_t cbh_result_make(cbh_dict *d, uint32_t slot, uint64_t state, uint64_t block, uint64_t body_bytes,
                            const char *meta, uint64_t meta_bytes, uint32_t status)
    int cbh_publish(cbh_dict *d, uint32_t slot, uint64_t state, uint32_t phase, uint64_t block)
    bint cbh_is_cancelled(const cbh_dict *d, uint32_t slot, uint64_t state)
    int cbh_still_mine(const cbh_dict *d, uint32_t slot, uint64_t state)
    int cbh_stream_put(cbh_dict *d, uint32_t slot, uint64_t state, uint64_t *ring, const char *data, uint64_t bytes,
                       uint32_t status, const char *meta, uint64_t meta_bytes)
    bint cbh_stream_wants_credit(cbh_dict *d, uint32_t slot, uint64_t state, uint64_t ring)
    void cbh_stream_close(cbh_dict *d, uint32_t slot, uint64_t ring, bint refused)
    int cbh_stream_next(cbh_dict *d, uint32_t slot, uint64_t state, uint64_t *cursor, cbh_frame *frame)
    void cbh_stream_taken(cbh_dict *d, uint32_t slot, uint64_t state, uint64_t cursor)
    int cbh_reclaim(cbh_dict *d, uint32_t place)
    int cbh_withdraw(cbh_dict *d, uint64_t id)
    int cbh_rerank(cbh_dict *d, uint64_t id, uint64_t rank)
    int64_t cbh_find(const cbh_dict *d, uint64_t id, uint64_t start)
    bint cbh_peek(const cbh_dict *d, uint32_t slot, cbh_view *view)
    ctypedef struct cbh_range:
        uint64_t at, bytes
    ctypedef struct cbh_contents:
        cbh_range body, meta, result, result_meta
        uint32_t status
    bint cbh_contents_find(const cbh_dict *d, uint32_t slot, uint64_t id, cbh_contents *found)
    bint cbh_contents_hold(const cbh_dict *d, uint32_t slot, uint64_t id, const cbh_contents *found)
    uint64_t cbh_untag(uint64_t word, uint64_t state)

cdef extern from "cbh_history.h" nogil:
    const uint32_t CBH_TIME_BUCKETS, CBH_SIZE_BUCKETS, CBH_BATCH_BUCKETS, CBH_RECORDS, CBH_RINGS, CBH_OUTCOMES
    const uint32_t CBH_TIMERS, CBH_SIZERS
    ctypedef struct cbh_times:
        uint64_t sum
        uint64_t *buckets
    ctypedef struct cbh_sizes:
        uint64_t sum
        uint64_t *buckets
    ctypedef struct cbh_tally:
        uint64_t *outcomes
        cbh_times *times
        cbh_sizes *sizes
    ctypedef struct cbh_batches:
        uint64_t endpoint, sum
        uint64_t *buckets
        cbh_times waits
    ctypedef struct cbh_past:
        uint64_t id, request_bytes, result_bytes, rank, deadline_ns
        uint64_t received_ns, ready_ns, claimed_ns, first_chunk_ns, done_ns, over_ns
        uint32_t endpoint, front, place, attempt, flags, outcome, status, chunks
    const uint64_t *cbh_time_bounds
    uint64_t cbh_size_bound(uint32_t bucket)
    uint64_t cbh_batch_bound(uint32_t bucket)
    void cbh_count_batch(cbh_dict *d, uint32_t endpoint, uint32_t size, uint64_t wait_ns)
    const cbh_tally *cbh_tally_of(const cbh_dict *d, uint32_t front, uint32_t endpoint)
    const cbh_batches *cbh_batches_of(const cbh_dict *d, uint32_t place)
    bint cbh_past_read(const cbh_dict *d, uint32_t front, uint32_t ring, uint32_t number, cbh_past *past)

cdef extern from *:
    """
    #include "cbh_segment.h"
    static inline uint64_t counter_sum(cbh_segment *s, int which) {
      uint64_t sum = 0;
      for (uint32_t i = 0; i < CBH_PLACES; i++)
        sum += atomic_load_explicit(&s->places[i].counters[which], memory_order_relaxed);
      return sum;
    }
    static inline void count_copied(cbh_segment *s, uint64_t n) { cbh_count(s, CBH_N_COPIED_BYTES, n); }
    """
    uint64_t counter_sum(cbh_segment *s, int which)
    void count_copied(cbh_segment *s, uint64_t n)
