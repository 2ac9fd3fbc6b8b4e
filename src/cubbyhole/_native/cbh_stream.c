// SPDX-License-Identifier: Apache-2.0
//
// A stream: chunks on their way from one worker to one front, in a ring inside one block of the worker's heap.
//
// The ring's free room is the credit: a front takes chunks only when its client took the former ones, so a slow client
// stops its own worker's generator and nobody else. Frames are 8-byte aligned: kind and length, then bytes, wrapping.
#include <string.h>

#include "cbh_bell.h"
#include "cbh_dict.h"

typedef struct {
  _Atomic uint64_t tag;
  uint64_t capacity;
  _Alignas(64) _Atomic uint64_t written;       // bytes put so far, by the worker
  _Alignas(64) _Atomic uint64_t taken;         // bytes taken so far, by the front
  _Atomic uint32_t writer_waits;
  uint32_t entered;                            // the writer's: its entry is STREAMING, so its front reads this ring
  _Atomic uint64_t pending;                    // a block that is being handed over: for cbh_stream_forget()
} ring_t;
#define RING_BYTES (CBH_STREAM_BLOCK - CBH_STREAM_HEADER)  // never read from the ring: that may change under our hands
_Static_assert(sizeof(ring_t) <= CBH_STREAM_HEADER, "the ring's header has its room");
_Static_assert(RING_BYTES % 8 == 0, "the head of a frame does not wrap");

static uint64_t padded(uint64_t n) { return (n + 7) & ~7ull; }
static char *ring_data(ring_t *ring) { return (char *)ring + CBH_STREAM_HEADER; }

static ring_t *ring_at(const cbh_dict *dict, uint32_t slot, uint64_t state, uint64_t at) {
  uint64_t capacity;
  if (!at || !cbh_holders(dict->segment, at, &capacity) || capacity < CBH_STREAM_BLOCK) return NULL;
  ring_t *ring = (ring_t *)(dict->segment->base + at);
  if (CBH_GET(ring->tag) != ((uint64_t)cbh_generation_of(state) << 32 | slot)) return NULL;
  if (ring->capacity != RING_BYTES) return NULL;
  return ring;
}

static ring_t *ring_of(const cbh_dict *dict, uint32_t slot, uint64_t state) {
  uint64_t word = atomic_load_explicit(&dict->slots[slot].stream, memory_order_acquire);
  return ring_at(dict, slot, state, cbh_untag(word, state));
}

// ------------------------------------------------------------------ worker
static int64_t open_ring(cbh_dict *dict, uint32_t slot, uint64_t state) {
  cbh_segment *s = dict->segment;
  int64_t at = cbh_alloc(s, CBH_STREAM_BLOCK);
  if (at < 0) return at;
  ring_t *ring = (ring_t *)(s->base + at);
  memset((void *)ring, 0, sizeof *ring);
  ring->capacity = RING_BYTES;
  CBH_SET(ring->tag, (uint64_t)cbh_generation_of(state) << 32 | slot);
  uint64_t before = CBH_GET(dict->slots[slot].stream);  // as with results: the word first, then the front's bit
  if (!cbh_tags(before, state) ||
      !atomic_compare_exchange_strong(&dict->slots[slot].stream, &before, cbh_tagged(state, (uint64_t)at))) {
    cbh_drop(s, (uint64_t)at, cbh_bit(s->place));
    return CBH_STALE;
  }
  cbh_crash_here(10);
  if (cbh_lend(dict, slot, state, (uint64_t)at)) return at;
  cbh_drop(s, (uint64_t)at, cbh_bit(s->place));
  return CBH_STALE;
}

static void copy_in(ring_t *ring, uint64_t at, const char *data, uint64_t bytes) {
  uint64_t from = at % RING_BYTES, first = RING_BYTES - from < bytes ? RING_BYTES - from : bytes;
  memcpy(ring_data(ring) + from, data, first);
  memcpy(ring_data(ring), data + first, bytes - first);
}

static uint64_t put_frame(ring_t *ring, uint64_t at, uint32_t kind, const char *data, uint64_t bytes) {
  uint32_t head[2] = {kind, (uint32_t)bytes};
  copy_in(ring, at, (const char *)head, 8);
  if (bytes) copy_in(ring, at + 8, data, bytes);
  return at + 8 + padded(bytes);
}

static int enter_streaming(cbh_dict *dict, uint32_t index, uint64_t state) {
  cbh_slot *slot = &dict->slots[index];
  uint64_t now = CBH_GET(slot->state);
  CBH_SET(slot->first_chunk_ns, cbh_now_ns());
  do {
    if (now >> 16 != state >> 16 || cbh_phase_of(now) != CBH_CLAIMED) return CBH_STALE;
  } while (!atomic_compare_exchange_weak(&slot->state, &now, (now & ~0xffull) | CBH_STREAMING));
  return CBH_OK;
}

// A large chunk travels in a block of its own, one at a time. `pending` names it while its holds change hands.
static int put_outside(cbh_dict *dict, uint32_t slot, uint64_t state, ring_t *ring, cbh_bytes data, uint64_t block[2]) {
  cbh_segment *s = dict->segment;
  uint64_t bytes = data.bytes;
  int64_t at = cbh_alloc(s, bytes);
  if (at < 0) return (int)at;
  block[0] = (uint64_t)at, block[1] = bytes;
  memcpy(s->base + at, data.data, bytes);
  CBH_SET(ring->pending, block[0]);
  cbh_crash_here(80);
  if (!cbh_lend(dict, slot, state, block[0])) {
    CBH_SET(ring->pending, 0);
    cbh_drop(s, block[0], cbh_bit(s->place));
    return CBH_STALE;
  }
  cbh_crash_here(11);
  return CBH_OK;
}

static bool same_request(const cbh_dict *dict, uint32_t index, uint64_t state) {
  return cbh_generation_of(atomic_load(&dict->slots[index].state)) == cbh_generation_of(state);
}

static uint64_t put_head(ring_t *ring, uint64_t at, uint32_t status, const char *meta, uint64_t meta_bytes) {
  char head[4 + CBH_STREAM_BLOCK / 4];
  memcpy(head, &status, 4);
  if (meta_bytes) memcpy(head + 4, meta, meta_bytes);
  return put_frame(ring, at, CBH_FRAME_HEAD, head, 4 + meta_bytes);
}

static void count_chunk(cbh_dict *dict, cbh_slot *slot, uint64_t bytes) {
  CBH_SET(slot->chunks, CBH_GET(slot->chunks) + 1);
  CBH_SET(slot->result_bytes, CBH_GET(slot->result_bytes) + bytes);
  cbh_count(dict->segment, CBH_N_CHUNKS, 1);
  cbh_count(dict->segment, CBH_N_RESULT_BYTES, bytes);
  cbh_count(dict->segment, CBH_N_COPIED_BYTES, bytes);
}

int cbh_stream_put(cbh_dict *dict, uint32_t index, uint64_t state, uint64_t *at, const char *data, uint64_t bytes,
                   uint32_t status, const char *meta, uint64_t meta_bytes) {
  cbh_segment *s = dict->segment;
  uint64_t front = cbh_bit(index / dict->per_front), block[2] = {0, 0};
  bool first = *at == 0, outside = bytes > (CBH_STREAM_BLOCK - CBH_STREAM_HEADER) / 2;
  if (cbh_still_mine(dict, index, state) < 0 || !cbh_place_mine(s)) return CBH_STALE;
  if (meta_bytes > CBH_STREAM_BLOCK / 4) return CBH_TOO_LARGE;
  if (first) {
    int64_t made = open_ring(dict, index, state);
    if (made < 0) return (int)made;
    *at = (uint64_t)made;
  }
  ring_t *ring = ring_at(dict, index, state, *at);
  if (!ring) return CBH_CORRUPT;
  uint64_t written = CBH_GET(ring->written);
  if (written % 8) return CBH_CORRUPT;
  // SYNC(chunk-taken): acquire, so that the room we write into was really read; pairs with cbh_stream_taken().
  uint64_t used = written - atomic_load_explicit(&ring->taken, memory_order_acquire);
  bool heads = written == 0;
  uint64_t need = 8 + padded(outside ? 16 : bytes) + (heads ? 8 + padded(4 + meta_bytes) : 0);
  if (used > RING_BYTES) return CBH_CORRUPT;
  if (need > RING_BYTES - used || (outside && used)) return CBH_AGAIN;
  int code = outside ? put_outside(dict, index, state, ring, (cbh_bytes){data, bytes, 0}, block) : CBH_OK;
  if (code < 0) return code;
  if (heads) written = put_head(ring, written, status, meta, meta_bytes);
  written = outside ? put_frame(ring, written, CBH_FRAME_BLOCK, (char *)block, 16)
                    : put_frame(ring, written, CBH_FRAME_CHUNK, data, bytes);
  // SYNC(chunk-written): release; pairs with the acquire load in cbh_stream_next().
  atomic_store_explicit(&ring->written, written, memory_order_release);
  cbh_crash_here(12);
  code = heads ? enter_streaming(dict, index, state) : cbh_still_mine(dict, index, state);
  if (heads) ring->entered = code == CBH_OK;
  cbh_crash_here(81);
  if (outside) {
    CBH_SET(ring->pending, 0);
    // Reclaimed under our hands, the block is taken back: cbh_reclaim() may have looked before the front's bit was in. Not if
    // the front is still there to read it.
    bool read = code == CBH_OK || (ring->entered && same_request(dict, index, state));
    cbh_drop(s, block[0], cbh_bit(s->place) | (read ? 0 : front));
  }
  if (code < 0) return code;
  count_chunk(dict, &dict->slots[index], bytes);
  cbh_announce(dict, index);
  return CBH_OK;
}

// The worker is through with its stream. `refused`: the entry was reclaimed, so the front's bit may be ours to drop.
void cbh_stream_close(cbh_dict *dict, uint32_t slot, uint64_t at, bool refused) {
  uint64_t front = cbh_bit(slot / dict->per_front);
  if (!at || !cbh_holders(dict->segment, at, NULL)) return;
  cbh_crash_here(82);
  bool read = ((ring_t *)(dict->segment->base + at))->entered;  // the front has it, and drops its bit itself
  cbh_drop(dict->segment, at, cbh_bit(dict->segment->place) | (refused && !read ? front : 0));
}

bool cbh_stream_wants_credit(cbh_dict *dict, uint32_t index, uint64_t state, uint64_t at) {
  ring_t *ring = ring_at(dict, index, state, at);
  if (!ring) return false;
  atomic_store_explicit(&ring->writer_waits, 1, memory_order_relaxed);
  // SYNC(writer-waits): pairs with the fence in cbh_stream_taken(): say that I wait, fence, look | take, fence, look who waits.
  atomic_thread_fence(memory_order_seq_cst);
  uint64_t used = CBH_GET(ring->written) - CBH_GET(ring->taken);
  return used > 0 && !cbh_is_cancelled(dict, index, state);
}

// ------------------------------------------------------------------ front
static void point_at(ring_t *ring, uint64_t at, uint64_t bytes, cbh_frame *frame) {
  uint64_t from = at % RING_BYTES, first = RING_BYTES - from < bytes ? RING_BYTES - from : bytes;
  frame->first = ring_data(ring) + from, frame->first_bytes = first;
  frame->second = ring_data(ring), frame->second_bytes = bytes - first;
}

// The frame at `cursor` (0: where we stopped last time). CBH_AGAIN: no more.
int cbh_stream_next(cbh_dict *dict, uint32_t index, uint64_t state, uint64_t *cursor, cbh_frame *frame) {
  ring_t *ring = ring_of(dict, index, state);
  if (!ring) return CBH_NOT_FOUND;
  uint64_t taken = CBH_GET(ring->taken), at = *cursor ? *cursor : taken;
  // SYNC(chunk-written): acquire; pairs with the release store in cbh_stream_put().
  uint64_t written = atomic_load_explicit(&ring->written, memory_order_acquire);
  if (written - taken > RING_BYTES || written - at > written - taken) return CBH_CORRUPT;
  if (written == at) return CBH_AGAIN;
  uint32_t head[2];
  cbh_frame raw;
  if (written - at < 8 || at % 8) return CBH_CORRUPT;
  point_at(ring, at, 8, &raw);
  memcpy(head, raw.first, raw.first_bytes);
  memcpy((char *)head + raw.first_bytes, raw.second, raw.second_bytes);
  if (8 + padded(head[1]) > written - at || head[0] > CBH_FRAME_BLOCK) return CBH_CORRUPT;
  point_at(ring, at + 8, head[1], frame);
  frame->kind = head[0], frame->block = 0, frame->status = 0;
  if (head[0] == CBH_FRAME_HEAD) {
    if (head[1] < 4) return CBH_CORRUPT;
    point_at(ring, at + 8, 4, &raw);
    memcpy(&frame->status, raw.first, 4);  // frames are 8-byte aligned and so is the ring: four bytes never wrap
    point_at(ring, at + 12, head[1] - 4, frame);
  }
  if (head[0] == CBH_FRAME_BLOCK) {
    uint64_t block[2], capacity;
    if (head[1] != 16) return CBH_CORRUPT;
    memcpy(block, frame->first, frame->first_bytes);
    memcpy((char *)block + frame->first_bytes, frame->second, frame->second_bytes);
    if (!cbh_holders(dict->segment, block[0], &capacity) || block[1] > capacity) return CBH_CORRUPT;
    frame->block = block[0];
    frame->first = dict->segment->base + block[0], frame->first_bytes = block[1], frame->second_bytes = 0;
  }
  *cursor = at + 8 + padded(head[1]);
  return CBH_OK;
}

void cbh_stream_taken(cbh_dict *dict, uint32_t index, uint64_t state, uint64_t cursor) {
  ring_t *ring = ring_of(dict, index, state);
  if (!ring || !cursor) return;
  cbh_crash_here(83);
  // SYNC(chunk-taken): release; pairs with the acquire load in cbh_stream_put().
  atomic_store_explicit(&ring->taken, cursor, memory_order_release);
  // SYNC(writer-waits): pairs with the fence in cbh_stream_wants_credit().
  atomic_thread_fence(memory_order_seq_cst);
  if (CBH_GET(ring->writer_waits) && atomic_exchange(&ring->writer_waits, 0)) {
    cbh_crash_here(84);
    uint32_t worker = cbh_place_of(CBH_GET(dict->slots[index].state));
    if (worker < CBH_PLACES) cbh_bell_ring(dict->bells[worker]);
  }
}

void cbh_stream_drop(cbh_dict *dict, uint32_t index, uint64_t state) {
  cbh_frame frame;
  uint64_t cursor = 0, at = cbh_untag(CBH_GET(dict->slots[index].stream), state), mine = cbh_bit(dict->segment->place);
  if (!at) return;
  while (cbh_stream_next(dict, index, state, &cursor, &frame) == CBH_OK)
    if (frame.block) cbh_drop(dict->segment, frame.block, mine);
  cbh_crash_here(85);
  cbh_drop(dict->segment, at, mine);
}

// In reclaim, before the dead worker's bits are dropped. `again`: the stream was never seen by its front, and a later
// claimer may start another one.
void cbh_stream_forget(cbh_dict *dict, uint32_t index, uint64_t state, bool again) {
  ring_t *ring = ring_of(dict, index, state);
  if (!ring) {
    if (again) cbh_close_attempt(&dict->slots[index].stream, state);
    return;
  }
  uint64_t at = cbh_untag(CBH_GET(dict->slots[index].stream), state), front = cbh_bit(index / dict->per_front);
  uint64_t pending = CBH_GET(ring->pending), cursor = 0;
  // A block outside goes out only into an empty ring: empty still (or again) means that the front does not need it.
  bool put = CBH_GET(ring->written) != CBH_GET(ring->taken);
  if (pending && !put) cbh_drop(dict->segment, pending, front);
  if (!again) return;
  for (cbh_frame frame; cbh_stream_next(dict, index, state, &cursor, &frame) == CBH_OK;)
    if (frame.block) cbh_drop(dict->segment, frame.block, front);
  cbh_drop(dict->segment, at, front);
  cbh_close_attempt(&dict->slots[index].stream, state);
}
