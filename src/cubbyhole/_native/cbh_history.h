// SPDX-License-Identifier: Apache-2.0
//
// What is known of entries that are over: how long they were in each phase, and the last of them one by one.
//
// Room behind the slots: rings of each front | batches of each place | tallies of each front and endpoint.
// Each word has one writer, the process at that place, so that counting is a load and a store, without a lock and without
// another's cache line. What a dead process counted stays; who sits down there next goes on adding.
#ifndef CBH_HISTORY_H
#define CBH_HISTORY_H

#include "cbh_dict.h"

// Ten bounds to a decade, 10 us to 100 s: a quantile read from them is off by 13 % at most. The last bucket has no bound.
#define CBH_TIME_BUCKETS 72u
// Powers of two, 64 B to 1 GiB.
#define CBH_SIZE_BUCKETS 26u
// Powers of two, 1 to 1024 requests.
#define CBH_BATCH_BUCKETS 12u
#define CBH_RECORDS 256u  // of each ring: 32 KiB, touched only as far as it is used

enum cbh_timer { CBH_T_INTAKE, CBH_T_QUEUE, CBH_T_EXECUTE, CBH_T_COLLECT, CBH_T_FIRST_CHUNK, CBH_T_REQUEST, CBH_TIMERS };
enum cbh_sizer { CBH_S_REQUEST, CBH_S_RESULT, CBH_SIZERS };
// What the client saw: a result; a failure that its worker reported; its worker's death; 504; nothing, as it left.
enum cbh_outcome { CBH_ANSWERED, CBH_REPORTED, CBH_LOST_WORKER, CBH_TIMED_OUT, CBH_TAKEN_BACK, CBH_OUTCOMES = 8 };
enum { CBH_RING_LAST, CBH_RING_FAILURES, CBH_RINGS };  // failures apart, so that successes do not push them out

typedef struct { _Atomic uint64_t sum, buckets[CBH_TIME_BUCKETS]; } cbh_times;
typedef struct { _Atomic uint64_t sum, buckets[CBH_SIZE_BUCKETS]; } cbh_sizes;
typedef struct {
  _Alignas(64) _Atomic uint64_t outcomes[CBH_OUTCOMES];
  cbh_times times[CBH_TIMERS];
  cbh_sizes sizes[CBH_SIZERS];
} cbh_tally;
typedef struct {
  _Alignas(64) _Atomic uint64_t endpoint;    // of the worker at this place, + 1; 0: none has counted here
  _Atomic uint64_t sum, buckets[CBH_BATCH_BUCKETS];
  cbh_times waits;                           // from the first request of a batch to its start
} cbh_batches;

typedef struct {                             // two cache lines, guarded by `sequence`: odd while it is written, 0: never
  _Alignas(64) _Atomic uint64_t sequence;
  _Atomic uint64_t id, what;                 // endpoint 16 | place 8 | attempt 8 | flags 8 | outcome 8 | front 8
  _Atomic uint64_t status_chunks, request_bytes, result_bytes, rank, deadline_ns;
  _Atomic uint64_t received_ns, ready_ns, claimed_ns, first_chunk_ns, done_ns, over_ns;
} cbh_record;
_Static_assert(sizeof(cbh_record) == 128, "a record is two cache lines");
typedef struct {
  _Alignas(64) _Atomic uint64_t count;       // ever written: says where the next one goes
  cbh_record records[CBH_RECORDS];
} cbh_ring;
typedef struct { cbh_ring of[CBH_RINGS]; } cbh_rings;

typedef struct {                             // a record as it was read, checked
  uint64_t id, request_bytes, result_bytes, rank, deadline_ns;
  uint64_t received_ns, ready_ns, claimed_ns, first_chunk_ns, done_ns, over_ns;
  uint32_t endpoint, front, place, attempt, flags, outcome, status, chunks;
} cbh_past;

extern const uint64_t cbh_time_bounds[CBH_TIME_BUCKETS - 1];  // in ns; a bucket counts what is not above its bound
static inline uint64_t cbh_size_bound(uint32_t bucket) { return 64ull << bucket; }
static inline uint64_t cbh_batch_bound(uint32_t bucket) { return 1ull << bucket; }

uint64_t cbh_history_bytes(uint32_t fronts, uint32_t endpoints);
// Front: counts and records an entry that is over now, before its slot is given back.
void cbh_remember(cbh_dict *dict, uint32_t slot, uint64_t state, uint64_t now);
// Worker: counts a batch that starts now.
void cbh_count_batch(cbh_dict *dict, uint32_t endpoint, uint32_t size, uint64_t wait_ns);

// ---- observers: everything is checked, nothing is held
const cbh_tally *cbh_tally_of(const cbh_dict *dict, uint32_t front, uint32_t endpoint);
const cbh_batches *cbh_batches_of(const cbh_dict *dict, uint32_t place);
// False: never written, being written, or no values that can be true.
bool cbh_past_read(const cbh_dict *dict, uint32_t front, uint32_t ring, uint32_t number, cbh_past *past);

#endif
