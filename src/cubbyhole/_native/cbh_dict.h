// SPDX-License-Identifier: Apache-2.0
//
// The dictionary of entries: one slot for each request, keyed by its id. No lock is held anywhere.
//
// Every fact that two processes change lives in one 64-bit word:
//   slot.state   generation 28 | epoch 12 | place 8 | attempt 2, flags 6 | phase 8    the truth about an entry
//   ready        bitmap of each endpoint                                    a hint: "look at this slot"
//   attention    bitmap over all slots                                      a hint to the slot's front
//   result       generation 28 | attempt 2 | block 32; stream likewise      what the claimer made
// A hint too many does no harm, a lost one is set again by cbh_reclaim(). A rank is one word beside the slots, so that the
// smallest of hundreds is found by reading a few cache lines; so do the ids, for whoever looks an entry up from outside.
//
// Body of the segment: endpoints | ready bitmaps | attention bitmap | ranks | arrivals | ids | slots | history.
#ifndef CBH_DICT_H
#define CBH_DICT_H

#include "cbh_segment.h"

enum cbh_phase { CBH_FREE, CBH_WRITING, CBH_READY, CBH_CLAIMED, CBH_STREAMING, CBH_DONE, CBH_FAILED };
#define CBH_MOST_DEATHS 3  // workers that may die of one entry; as POISON_AFTER in core/entries.py; counted in two bits
// OVERDUE: it was cancelled because its time was over, and not because its client left. WITHDRAWN: by an operator.
enum cbh_flag { CBH_CANCELLED = 1, CBH_RETRY = 2, CBH_EXPIRED = 4, CBH_DIED = 8, CBH_OVERDUE = 16, CBH_WITHDRAWN = 32 };

#define CBH_SLOT_BYTES 512u
#define CBH_MAX_CLAIM 512u
#define CBH_INLINE_BYTES 384u     // a small JSON request with its meta never touches the arena
#define CBH_RESULT_HEADER 64u     // before the body in a result's block
#define CBH_RESULT_BACK 512u      // room for meta behind the body of a reserved result
#define CBH_RESULTS_PART 8u        // one eighth of the arena is for answers only; none of one below 8 MiB
#define CBH_STREAM_BLOCK (1u << 16)
#define CBH_STREAM_HEADER 192u
#define CBH_RECHECK_NS 500000000ull  // a lost ring costs at most half a second; two wake-ups a second cost nothing

typedef struct {
  _Alignas(64) _Atomic uint64_t state;
  _Atomic uint64_t id;
  _Atomic uint64_t result, stream;           // tagged blocks
  _Atomic uint64_t body_at, body_bytes;      // body_at 0: inline, behind the meta
  _Atomic uint64_t meta_at;                  // 0: inline
  _Atomic uint32_t meta_bytes;
  _Atomic uint16_t endpoint;
  _Atomic uint8_t front, attempt;
  _Atomic uint64_t deadline_ns, received_ns, ready_ns, claimed_ns, first_chunk_ns, done_ns;
  _Atomic uint32_t chunks, result_status;
  _Atomic uint64_t result_bytes;
  char data[CBH_INLINE_BYTES];
} cbh_slot;
_Static_assert(sizeof(cbh_slot) == CBH_SLOT_BYTES, "a slot is eight cache lines");

typedef struct {
  _Alignas(64) _Atomic uint64_t asleep;      // workers of this endpoint that wait for their bell
  _Atomic uint32_t woken;                    // 1: a bell was rung and its worker has not looked yet
} cbh_endpoint;

typedef struct {                             // at the start of a result's block
  _Atomic uint64_t tag;                      // generation and slot it was made for
  uint64_t body_bytes;
  uint32_t meta_at, meta_bytes;              // meta_at: from the start of the block
  uint32_t status, body_from;
} cbh_result;

typedef struct {                             // private: the dictionary as this process sees it
  cbh_segment *segment;
  uint32_t fronts, workers, endpoints, per_front, slot_count, words;
  cbh_endpoint *endpoint;
  _Atomic uint64_t *ready, *attention, *ranks, *arrivals, *ids;
  cbh_slot *slots;
  char *history;                               // cbh_history.h
  int bells[CBH_PLACES];
  uint32_t *free_slots, free_count, reserved;  // of a front: a stack, the hottest slot first
} cbh_dict;

typedef struct {                             // a claim: its words were read between two looks at the state, so they are of one entry
  uint64_t state, body_at, body_bytes, meta_at;  // the claimer's bit is in both blocks
  uint32_t slot, meta_bytes;
} cbh_claimed;

typedef struct {                             // a body or meta to be copied in, or a block that holds the body already
  const char *data;
  uint64_t bytes;
  uint64_t block;                            // 0: copy `data`
} cbh_bytes;

uint64_t cbh_dict_body_bytes(uint32_t fronts, uint32_t endpoints, uint32_t per_front);
int cbh_dict_open(cbh_dict *dict, cbh_segment *segment);
void cbh_dict_close(cbh_dict *dict);
int cbh_front_open(cbh_dict *dict);          // after cbh_place_take(): finds the free slots of its partition

static inline uint32_t cbh_phase_of(uint64_t state) { return (uint32_t)(state & 0xff); }
static inline uint32_t cbh_flags_of(uint64_t state) { return (uint32_t)(state >> 8 & 0x3f); }
static inline uint32_t cbh_attempt_of(uint64_t state) { return (uint32_t)(state >> 14 & 3); }
static inline uint32_t cbh_place_of(uint64_t state) { return (uint32_t)(state >> 16 & 0xff); }
static inline uint32_t cbh_epoch_of(uint64_t state) { return (uint32_t)(state >> 24 & 0xfff); }
static inline uint32_t cbh_generation_of(uint64_t state) { return (uint32_t)(state >> 36); }

// ---- front
int cbh_submit(cbh_dict *dict, uint64_t id, uint32_t endpoint, cbh_bytes body, cbh_bytes meta, uint64_t rank,
               uint64_t deadline_ns, uint32_t flags, uint64_t received_ns);
uint32_t cbh_drain(cbh_dict *dict, uint32_t *slots, uint32_t max);  // slots that have news; quiets the bell
bool cbh_result_of(const cbh_dict *dict, uint32_t slot, uint64_t state, uint64_t *block, cbh_result *result);
// Drops request and stream with it, and the result too unless `kept`: then its block is a lease of ours from now on.
// The entry is over at `now`, and is counted (cbh_history.h).
void cbh_slot_free(cbh_dict *dict, uint32_t slot, uint64_t state, bool kept, uint64_t now);
// CBH_OK: taken back; CBH_AGAIN: its worker will see it; CBH_NOT_FOUND. `overdue`: because its time is over.
int cbh_cancel(cbh_dict *dict, uint64_t id, bool overdue);

// ---- worker
int cbh_claim(cbh_dict *dict, uint32_t endpoint, uint32_t max, cbh_claimed *claimed);
// Whether what was read of the slot since the claim is this entry's: its front may be reclaimed and the slot used again.
bool cbh_claim_stands(const cbh_dict *dict, const cbh_claimed *claimed);
bool cbh_listen(cbh_dict *dict, uint32_t endpoint);   // false: something is ready
void cbh_stop_listening(cbh_dict *dict, uint32_t endpoint);
int64_t cbh_result_make(cbh_dict *dict, uint32_t slot, uint64_t state, uint64_t block, uint64_t body_bytes,
                        const char *meta, uint64_t meta_bytes, uint32_t status);
int cbh_publish(cbh_dict *dict, uint32_t slot, uint64_t state, uint32_t phase, uint64_t block);
bool cbh_is_cancelled(const cbh_dict *dict, uint32_t slot, uint64_t state);
int cbh_still_mine(const cbh_dict *dict, uint32_t slot, uint64_t state);

// ---- streams (cbh_stream.c): a ring of chunks with credit, in a block of the worker's
// `ring`: 0 before the first chunk, then where the ring is; the worker's to keep until cbh_stream_close().
int cbh_stream_put(cbh_dict *dict, uint32_t slot, uint64_t state, uint64_t *ring, const char *data, uint64_t bytes,
                   uint32_t status, const char *meta, uint64_t meta_bytes);
bool cbh_stream_wants_credit(cbh_dict *dict, uint32_t slot, uint64_t state, uint64_t ring);  // asks to be rung at room
void cbh_stream_close(cbh_dict *dict, uint32_t slot, uint64_t ring, bool refused);
typedef struct { const char *first, *second; uint64_t first_bytes, second_bytes, block; uint32_t kind, status; } cbh_frame;
enum { CBH_FRAME_CHUNK = 0, CBH_FRAME_HEAD = 1, CBH_FRAME_BLOCK = 2 };
int cbh_stream_next(cbh_dict *dict, uint32_t slot, uint64_t state, uint64_t *cursor, cbh_frame *frame);
void cbh_stream_taken(cbh_dict *dict, uint32_t slot, uint64_t state, uint64_t cursor);
void cbh_stream_drop(cbh_dict *dict, uint32_t slot, uint64_t state);
void cbh_stream_forget(cbh_dict *dict, uint32_t slot, uint64_t state, bool again);  // in reclaim: the worker is dead

// ---- supervisor and observers
int cbh_reclaim(cbh_dict *dict, uint32_t place);
// An operator's (cbh_operate.c). CBH_OK: no worker will see it; CBH_AGAIN: its worker will see that it is cancelled. Its
// front answers it at once, either way. CBH_NOT_FOUND: it is over, or never was.
int cbh_withdraw(cbh_dict *dict, uint64_t id);
int cbh_rerank(cbh_dict *dict, uint64_t id, uint64_t rank);  // CBH_STALE: it does not wait any more
void cbh_offer(cbh_dict *dict, uint32_t slot);               // says that a ready slot is there, and wakes a worker
typedef struct {
  uint64_t id, state, rank, deadline_ns, received_ns, ready_ns, claimed_ns, first_chunk_ns, done_ns;
  uint64_t request_bytes, result_bytes;
  uint32_t endpoint, front, attempt, chunks, status;
} cbh_view;
int64_t cbh_find(const cbh_dict *dict, uint64_t id, uint64_t from);  // slot of an entry, looking from slot `from`
bool cbh_peek(const cbh_dict *dict, uint32_t slot, cbh_view *view);  // false: it changed under the look, several times
typedef struct { uint64_t at, bytes; } cbh_range;  // from the segment's start, within its block; at 0: there is none
typedef struct { uint64_t state; cbh_range body, meta, result, result_meta; uint32_t status; } cbh_contents;
bool cbh_contents_find(const cbh_dict *dict, uint32_t slot, uint64_t id, cbh_contents *found);  // cbh_look.c
bool cbh_contents_hold(const cbh_dict *dict, uint32_t slot, uint64_t id, const cbh_contents *found);  // after the copy

// ---- shared by cbh_dict.c, cbh_stream.c and cbh_reclaim.c
#define CBH_GET(x) atomic_load_explicit(&(x), memory_order_relaxed)
#define CBH_SET(x, v) atomic_store_explicit(&(x), (v), memory_order_relaxed)
static inline uint64_t cbh_make_state(uint64_t generation, uint64_t epoch, uint64_t place, uint64_t flags, uint64_t phase) {
  return (generation & 0xfffffff) << 36 | (epoch & 0xfff) << 24 | place << 16 | flags << 8 | phase;
}
static inline uint64_t cbh_with_phase(uint64_t state, uint32_t phase) { return (state & ~0xffull) | phase; }
// The attempt is in it so that a worker which was declared dead while it ran cannot replace the next one's result.
static inline uint64_t cbh_tagged(uint64_t state, uint64_t block) {
  return (uint64_t)cbh_generation_of(state) << 36 | (uint64_t)cbh_attempt_of(state) << 32 | block >> CBH_BLOCK_SHIFT;
}
static inline bool cbh_tags(uint64_t word, uint64_t state) { return word >> 32 == cbh_tagged(state, 0) >> 32; }
static inline uint64_t cbh_untag(uint64_t word, uint64_t state) {  // 0: made for another request, or by a former claimer
  return cbh_tags(word, state) ? (word & 0xffffffffull) << CBH_BLOCK_SHIFT : 0;
}
// Takes what a dead claimer made out of `word`, and lets nothing else of this attempt in.
static inline void cbh_close_attempt(_Atomic uint64_t *word, uint64_t state) {
  uint64_t now = CBH_GET(*word), closed = cbh_tagged(state + (1ull << 14), 0);
  while (cbh_tags(now, state) && !atomic_compare_exchange_strong(word, &now, closed)) {}
}
static inline _Atomic uint64_t *cbh_ready_words(const cbh_dict *dict, uint32_t endpoint) {
  return dict->ready + (uint64_t)endpoint * dict->words;
}
bool cbh_any_ready(const cbh_dict *dict, uint32_t endpoint);
void cbh_wake_worker(cbh_dict *dict, uint32_t endpoint);
bool cbh_fail(cbh_dict *dict, uint32_t slot, uint64_t state, uint32_t flag, uint32_t by);
// Gives the front its bit in a block of ours, before the entry's state says so. False: the entry is not ours any more.
bool cbh_lend(cbh_dict *dict, uint32_t slot, uint64_t state, uint64_t block);
void cbh_announce(cbh_dict *dict, uint32_t slot);  // sets the front's attention bit and rings it if it does not look

#endif
