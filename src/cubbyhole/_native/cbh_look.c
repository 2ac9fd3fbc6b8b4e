// SPDX-License-Identifier: Apache-2.0
//
// What an observer may copy of an entry's content. Nothing is held and nobody waits: find the ranges, copy, ask again.
#include <string.h>

#include "cbh_dict.h"

static bool in_block(const cbh_dict *dict, uint64_t at, uint64_t bytes, cbh_range *range) {
  uint64_t capacity;
  if (!cbh_holders(dict->segment, at, &capacity) || bytes > capacity) return false;
  range->at = at, range->bytes = bytes;
  return true;
}

// The request: inline it stays in the slot until the slot is used again; a block of the arena is others' once it is over.
static bool find_request(const cbh_dict *dict, const cbh_slot *slot, bool over, cbh_contents *found) {
  uint64_t slot_at = (uint64_t)((const char *)slot->data - dict->segment->base), inlined = 0;
  uint64_t meta_at = CBH_GET(slot->meta_at), meta_bytes = CBH_GET(slot->meta_bytes);
  uint64_t body_at = CBH_GET(slot->body_at), body_bytes = CBH_GET(slot->body_bytes);
  if (meta_at) {
    if (!over && !in_block(dict, meta_at, meta_bytes, &found->meta)) return false;
  } else {
    if (meta_bytes > CBH_INLINE_BYTES) return false;
    found->meta.at = slot_at, found->meta.bytes = inlined = meta_bytes;
  }
  if (body_at) return over || in_block(dict, body_at, body_bytes, &found->body);
  if (body_bytes > CBH_INLINE_BYTES - inlined) return false;
  found->body.at = slot_at + inlined, found->body.bytes = body_bytes;
  return true;
}

bool cbh_contents_find(const cbh_dict *dict, uint32_t index, uint64_t id, cbh_contents *found) {
  const cbh_slot *slot = &dict->slots[index];
  cbh_result result;
  uint64_t block;
  memset(found, 0, sizeof *found);
  // SYNC(request-ready): acquire; pairs with the release store in cbh_submit().
  found->state = atomic_load_explicit(&slot->state, memory_order_acquire);
  uint32_t phase = cbh_phase_of(found->state);
  if (CBH_GET(slot->id) != id || phase == CBH_WRITING || phase > CBH_FAILED) return false;
  if (!find_request(dict, slot, phase == CBH_FREE, found)) return false;
  if (phase < CBH_DONE || !cbh_result_of(dict, index, found->state, &block, &result)) return true;
  found->result.at = block + result.body_from, found->result.bytes = result.body_bytes;
  found->result_meta.at = block + result.meta_at, found->result_meta.bytes = result.meta_bytes;
  found->status = result.status;
  return true;
}

bool cbh_contents_hold(const cbh_dict *dict, uint32_t index, uint64_t id, const cbh_contents *found) {
  const cbh_slot *slot = &dict->slots[index];
  // SYNC(entry-writing): the second look of a seqlock; pairs with the release fence in cbh_submit(), and with FREE before the
  // blocks are given up in cbh_slot_free(): who has copied one byte of the next content sees another state.
  atomic_thread_fence(memory_order_acquire);
  uint64_t now = atomic_load_explicit(&slot->state, memory_order_acquire);
  if (CBH_GET(slot->id) != id) return false;
  if (cbh_phase_of(found->state) == CBH_FREE) return now == found->state;
  return cbh_generation_of(now) == cbh_generation_of(found->state) && cbh_phase_of(now) >= CBH_READY;
}
