// SPDX-License-Identifier: Apache-2.0
#include "cbh_dict.h"

#include <stdlib.h>
#include <string.h>

#include "cbh_bell.h"
#include "cbh_history.h"

typedef _Atomic uint64_t word_t;

// ------------------------------------------------------------------ layout
static uint64_t lay_out(uint32_t fronts, uint32_t endpoints, uint32_t per_front, uint64_t at[8]) {
  uint64_t slots = (uint64_t)fronts * per_front, words = slots / 64, next = 0;
  at[0] = next, next += endpoints * sizeof(cbh_endpoint);
  at[1] = next, next += (endpoints * words * 8 + 63) & ~63ull;
  at[2] = next, next += (words * 8 + 63) & ~63ull;
  at[3] = next, next += slots * 8;
  at[4] = next, next += slots * 8;
  at[5] = next, next += slots * 8;
  at[6] = next = (next + 4095) & ~4095ull;
  at[7] = next += slots * CBH_SLOT_BYTES;
  return next + cbh_history_bytes(fronts, endpoints);
}

uint64_t cbh_dict_body_bytes(uint32_t fronts, uint32_t endpoints, uint32_t per_front) {
  uint64_t at[8];
  return lay_out(fronts, endpoints, per_front, at);
}

int cbh_dict_open(cbh_dict *dict, cbh_segment *segment) {
  const uint64_t *p = segment->header->parameters;
  uint64_t at[8];
  memset(dict, 0, sizeof *dict);
  for (uint32_t i = 0; i < CBH_PLACES; i++) dict->bells[i] = -1;
  if (p[0] == 0 || p[0] > CBH_PLACES || p[1] > CBH_PLACES - p[0] || p[2] == 0 || p[2] > 4096 || p[3] == 0 || p[3] % 64 || p[3] > 1 << 20)
    return CBH_WRONG_LAYOUT;
  dict->fronts = (uint32_t)p[0], dict->workers = (uint32_t)p[1], dict->endpoints = (uint32_t)p[2];
  dict->per_front = (uint32_t)p[3];
  if (lay_out(dict->fronts, dict->endpoints, dict->per_front, at) != segment->header->body_bytes) return CBH_WRONG_LAYOUT;
  char *body = segment->base + segment->header->body_at;
  dict->segment = segment;
  dict->slot_count = dict->fronts * dict->per_front;
  dict->words = dict->slot_count / 64;
  dict->endpoint = (cbh_endpoint *)(body + at[0]);
  dict->ready = (word_t *)(body + at[1]);
  dict->attention = (word_t *)(body + at[2]);
  dict->ranks = (word_t *)(body + at[3]);
  dict->arrivals = (word_t *)(body + at[4]);
  dict->ids = (word_t *)(body + at[5]);
  dict->slots = (cbh_slot *)(body + at[6]);
  dict->history = body + at[7];
  return CBH_OK;
}

void cbh_dict_close(cbh_dict *dict) {
  free(dict->free_slots);
  dict->free_slots = NULL;
}

int cbh_front_open(cbh_dict *dict) {
  uint32_t first = dict->segment->place * dict->per_front;
  if (dict->segment->place >= dict->fronts) return CBH_CORRUPT;
  dict->free_slots = malloc(4ull * dict->per_front);
  if (!dict->free_slots) return CBH_SYSTEM;
  dict->free_count = 0;
  // However many requests are let in, their answers find room: without it a full arena would stand still.
  dict->segment->left_to_others = dict->segment->header->extent_count / CBH_RESULTS_PART;
  for (uint32_t i = dict->per_front; i-- > 0;)  // slots that a worker still works on come back when it is done
    if (cbh_phase_of(atomic_load(&dict->slots[first + i].state)) == CBH_FREE)
      dict->free_slots[dict->free_count++] = first + i;
  return CBH_OK;
}

// ------------------------------------------------------------------ hints and bells
static void ring(cbh_dict *dict, uint32_t place) {
  if (place >= CBH_PLACES) return;
  cbh_count(dict->segment, CBH_N_RINGS, 1);
  cbh_bell_ring(dict->bells[place]);
}

void cbh_announce(cbh_dict *dict, uint32_t slot) {
  uint32_t front = slot / dict->per_front;
  uint64_t bit = 1ull << (slot & 63);
  // A bit that is set already has not been looked at, and whoever set it has rung.
  if (atomic_fetch_or(&dict->attention[slot / 64], bit) & bit) return;
  cbh_crash_here(17);
  // SYNC(front-rung): pairs with the exchange in cbh_drain(); both are read-modify-writes of one word.
  if (atomic_exchange(&dict->segment->places[front].rung, 1) != 0) return;
  cbh_crash_here(18);
  ring(dict, front);
}

// One bell for a burst: the worker that comes wakes the next one itself if there is more (cbh_claim). Ringing for every
// entry woke four workers on two cores for work that the first would have done, and halved the throughput.
void cbh_wake_worker(cbh_dict *dict, uint32_t endpoint) {
  cbh_endpoint *e = &dict->endpoint[endpoint];
  // SYNC(worker-asleep): pairs with the fence in cbh_listen(). Publish, fence, look who sleeps | say that I sleep, fence,
  // look for work: without both fences each side may miss the other.
  atomic_thread_fence(memory_order_seq_cst);
  uint64_t sleepers = atomic_load_explicit(&e->asleep, memory_order_relaxed);
  if (!sleepers || atomic_exchange(&e->woken, 1)) return;
  cbh_crash_here(19);
  for (; sleepers; sleepers &= sleepers - 1) {
    uint32_t place = (uint32_t)__builtin_ctzll(sleepers);
    uint64_t bit = 1ull << place;
    if (place < CBH_PLACES && atomic_fetch_and(&e->asleep, ~bit) & bit) {
      ring(dict, place);
      return;
    }
  }
  atomic_store(&e->woken, 0);
}

void cbh_offer(cbh_dict *dict, uint32_t index) {
  uint32_t endpoint = CBH_GET(dict->slots[index].endpoint) % dict->endpoints;
  atomic_fetch_or(&cbh_ready_words(dict, endpoint)[index / 64], 1ull << (index & 63));
  cbh_wake_worker(dict, endpoint);
}

bool cbh_any_ready(const cbh_dict *dict, uint32_t endpoint) {
  word_t *words = cbh_ready_words(dict, endpoint);
  for (uint32_t w = 0; w < dict->words; w++)
    if (atomic_load_explicit(&words[w], memory_order_relaxed)) return true;
  return false;
}

bool cbh_listen(cbh_dict *dict, uint32_t endpoint) {
  cbh_endpoint *e = &dict->endpoint[endpoint];
  uint64_t bit = cbh_bit(dict->segment->place);
  atomic_fetch_or(&e->asleep, bit);
  // SYNC(worker-asleep): pairs with the fence in cbh_wake_worker().
  atomic_thread_fence(memory_order_seq_cst);
  if (!cbh_any_ready(dict, endpoint)) return true;
  atomic_fetch_and(&e->asleep, ~bit);
  return false;
}

void cbh_stop_listening(cbh_dict *dict, uint32_t endpoint) {
  atomic_fetch_and(&dict->endpoint[endpoint].asleep, ~cbh_bit(dict->segment->place));
}

// ------------------------------------------------------------------ front
static int put_bytes(cbh_dict *dict, cbh_slot *slot, cbh_bytes body, cbh_bytes meta) {
  cbh_segment *s = dict->segment;
  uint64_t inlined = 0, meta_at = 0, body_at = 0;
  if (meta.bytes > UINT32_MAX) return CBH_TOO_LARGE;
  if (meta.bytes <= CBH_INLINE_BYTES) {
    if (meta.bytes) memcpy(slot->data, meta.data, meta.bytes);
    inlined = meta.bytes;
  } else {
    int64_t at = cbh_alloc(s, meta.bytes);
    if (at < 0) return (int)at;
    meta_at = (uint64_t)at;
    memcpy(s->base + meta_at, meta.data, meta.bytes);
  }
  if (body.block) {
    body_at = body.block;
  } else if (body.bytes <= CBH_INLINE_BYTES - inlined) {
    if (body.bytes) memcpy(slot->data + inlined, body.data, body.bytes);
  } else {
    int64_t at = cbh_alloc(s, body.bytes);
    if (at < 0) {
      if (meta_at) cbh_drop(s, meta_at, cbh_bit(s->place));
      return (int)at;
    }
    body_at = (uint64_t)at;
    memcpy(s->base + body_at, body.data, body.bytes);
  }
  CBH_SET(slot->meta_at, meta_at);
  CBH_SET(slot->meta_bytes, (uint32_t)meta.bytes);
  CBH_SET(slot->body_at, body_at);
  CBH_SET(slot->body_bytes, body.bytes);
  cbh_count(s, CBH_N_REQUEST_BYTES, body.bytes);
  cbh_count(s, CBH_N_COPIED_BYTES, body.block ? meta.bytes : meta.bytes + body.bytes);
  return CBH_OK;
}

int cbh_submit(cbh_dict *dict, uint64_t id, uint32_t endpoint, cbh_bytes body, cbh_bytes meta, uint64_t rank,
               uint64_t deadline_ns, uint32_t flags, uint64_t received_ns) {
  cbh_segment *s = dict->segment;
  if (endpoint >= dict->endpoints) return CBH_CORRUPT;
  if (!cbh_place_mine(s)) return CBH_STALE;
  // Another phase than FREE: somebody wrote over it. The slot is left alone; its front's next process finds it if it is free.
  while (dict->free_count && cbh_phase_of(CBH_GET(dict->slots[dict->free_slots[dict->free_count - 1]].state)) != CBH_FREE)
    dict->free_count--;
  if (!dict->free_count) return CBH_FULL;
  uint32_t index = dict->free_slots[--dict->free_count];
  cbh_slot *slot = &dict->slots[index];
  uint64_t generation = cbh_generation_of(CBH_GET(slot->state));
  CBH_SET(slot->state, cbh_make_state(generation, s->epoch, s->place, 0, CBH_WRITING));
  // SYNC(entry-writing): pairs with the second look in cbh_peek(): who sees one of our bytes also sees WRITING.
  atomic_thread_fence(memory_order_release);
  int code = put_bytes(dict, slot, body, meta);
  if (code < 0) {
    CBH_SET(slot->id, 0), CBH_SET(dict->ids[index], 0);  // its bytes are no longer those of the last entry
    // SYNC(entry-writing): release, so that who sees FREE again also sees that the id is gone; cbh_contents_hold().
    atomic_store_explicit(&slot->state, cbh_make_state(generation, s->epoch, s->place, 0, CBH_FREE), memory_order_release);
    dict->free_slots[dict->free_count++] = index;
    return code;
  }
  cbh_crash_here(1);
  uint64_t now = cbh_now_ns();
  CBH_SET(slot->id, id);
  CBH_SET(dict->ids[index], id);
  CBH_SET(slot->result, generation << 36);  // no block, but whose: see cbh_publish()
  CBH_SET(slot->stream, generation << 36);
  CBH_SET(slot->endpoint, (uint16_t)endpoint);
  CBH_SET(slot->front, (uint8_t)s->place);
  CBH_SET(slot->attempt, 0);
  CBH_SET(slot->deadline_ns, deadline_ns);
  CBH_SET(slot->received_ns, received_ns ? received_ns : now);
  CBH_SET(slot->ready_ns, now);
  CBH_SET(slot->claimed_ns, 0);
  CBH_SET(slot->first_chunk_ns, 0);
  CBH_SET(slot->done_ns, 0);
  CBH_SET(slot->chunks, 0);
  CBH_SET(slot->result_status, 0);
  CBH_SET(slot->result_bytes, 0);
  CBH_SET(dict->ranks[index], rank);
  CBH_SET(dict->arrivals[index], now);
  cbh_count(s, CBH_N_SUBMITTED, 1);
  // SYNC(request-ready): release, so that a worker which reads READY also reads all that is written above; pairs with the
  // acquiring compare-and-swap in take_slot().
  atomic_store_explicit(&slot->state, cbh_make_state(generation, s->epoch, s->place, flags & CBH_RETRY, CBH_READY),
                        memory_order_release);
  cbh_crash_here(2);
  atomic_fetch_or(&cbh_ready_words(dict, endpoint)[index / 64], 1ull << (index & 63));
  cbh_crash_here(3);
  cbh_wake_worker(dict, endpoint);
  return CBH_OK;
}

uint32_t cbh_drain(cbh_dict *dict, uint32_t *slots, uint32_t max) {
  uint32_t front = dict->segment->place, count = 0;
  cbh_bell_quiet(dict->bells[front]);
  // SYNC(front-rung): cleared before the look, so that news after the look rings again; pairs with cbh_announce().
  atomic_exchange(&dict->segment->places[front].rung, 0);
  uint32_t first = front * dict->per_front / 64, last = first + dict->per_front / 64;
  for (uint32_t w = first; w < last && count + 64 <= max; w++) {
    if (!atomic_load_explicit(&dict->attention[w], memory_order_relaxed)) continue;
    for (uint64_t bits = atomic_exchange(&dict->attention[w], 0); bits; bits &= bits - 1)
      slots[count++] = w * 64 + (uint32_t)__builtin_ctzll(bits);
  }
  if (count) cbh_crash_here(70);
  return count;
}

bool cbh_result_of(const cbh_dict *dict, uint32_t slot, uint64_t state, uint64_t *block, cbh_result *result) {
  uint64_t capacity, at = cbh_untag(atomic_load_explicit(&dict->slots[slot].result, memory_order_acquire), state);
  if (!at || !cbh_holders(dict->segment, at, &capacity) || capacity < CBH_RESULT_HEADER) return false;
  memcpy((void *)result, dict->segment->base + at, sizeof *result);
  if (result->tag != ((uint64_t)cbh_generation_of(state) << 32 | slot)) return false;
  if (result->body_from < CBH_RESULT_HEADER || result->body_from > capacity) return false;
  if (result->body_bytes > capacity - result->body_from) return false;
  if (result->meta_at > capacity || result->meta_bytes > capacity - result->meta_at) return false;
  *block = at;
  return true;
}

void cbh_slot_free(cbh_dict *dict, uint32_t index, uint64_t state, bool kept, uint64_t now) {
  cbh_slot *slot = &dict->slots[index];
  cbh_remember(dict, index, state, now);
  cbh_segment *s = dict->segment;
  uint64_t mine = cbh_bit(s->place), body = CBH_GET(slot->body_at), meta = CBH_GET(slot->meta_at);
  uint64_t result = kept ? 0 : cbh_untag(CBH_GET(slot->result), state);
  cbh_crash_here(71);
  // FREE before the blocks are given up, so that an observer that copied a block's next content notices.
  CBH_SET(slot->state, cbh_make_state(cbh_generation_of(state) + 1, s->epoch, s->place, 0, CBH_FREE));
  atomic_thread_fence(memory_order_release);
  cbh_crash_here(72);
  if (body) cbh_drop(s, body, mine);
  if (meta) cbh_drop(s, meta, mine);
  if (result) cbh_drop(s, result, mine);
  cbh_stream_drop(dict, index, state);
  if (dict->free_count < dict->per_front) dict->free_slots[dict->free_count++] = index;  // full: it was free already
}

int cbh_cancel(cbh_dict *dict, uint64_t id, bool overdue) {
  uint64_t flags = (uint64_t)(overdue ? CBH_CANCELLED | CBH_OVERDUE : CBH_CANCELLED) << 8;
  int64_t first = (int64_t)dict->segment->place * dict->per_front;
  for (int64_t i = first; (i = cbh_find(dict, id, (uint64_t)i)) >= 0 && i < first + dict->per_front; i++) {
    cbh_slot *slot = &dict->slots[i];
    uint64_t state = atomic_load(&slot->state);
    // Ours and WRITING: it is given another rank, for a few instructions of the supervisor's (cbh_rerank). Should that be
    // stopped just there, the entry is not taken back, and answered to nobody: better than a front that waits.
    for (int look = 0; CBH_GET(slot->id) == id && cbh_phase_of(state) == CBH_WRITING && look < 10000; look++)
      state = atomic_load(&slot->state);
    if (CBH_GET(slot->id) != id || cbh_phase_of(state) < CBH_READY) continue;
    while (cbh_phase_of(state) >= CBH_READY) {
      if (cbh_phase_of(state) == CBH_READY) {
        // SYNC(request-ready): the same word that a worker claims by; one of the two compare-and-swaps wins.
        if (!atomic_compare_exchange_strong(&slot->state, &state, cbh_with_phase(state, CBH_WRITING))) continue;
        cbh_crash_here(73);
        atomic_fetch_and(&cbh_ready_words(dict, CBH_GET(slot->endpoint) % dict->endpoints)[i / 64], ~(1ull << (i & 63)));
        cbh_count(dict->segment, CBH_N_CANCELLED, 1);
        cbh_slot_free(dict, (uint32_t)i, state | flags, false, cbh_now_ns());
        return CBH_OK;
      }
      if (!atomic_compare_exchange_strong(&slot->state, &state, state | flags)) continue;
      cbh_crash_here(74);
      cbh_count(dict->segment, CBH_N_CANCELLED, 1);
      if (cbh_phase_of(state) >= CBH_DONE) cbh_announce(dict, (uint32_t)i);  // the next drain frees it
      else if (cbh_phase_of(state) == CBH_STREAMING) ring(dict, cbh_place_of(state));  // it may wait for credit
      return CBH_AGAIN;
    }
  }
  return CBH_NOT_FOUND;
}

// ------------------------------------------------------------------ worker
// Answers an entry without a worker's result: `flag` says why. Only who finds exactly `state` may do it.
bool cbh_fail(cbh_dict *dict, uint32_t index, uint64_t state, uint32_t flag, uint32_t by) {
  cbh_slot *slot = &dict->slots[index];
  uint64_t failed = cbh_with_phase(state | (uint64_t)flag << 8, CBH_FAILED);
  if (!atomic_compare_exchange_strong(&slot->state, &state, failed)) return false;
  cbh_crash_here(75);
  CBH_SET(slot->done_ns, cbh_now_ns());
  atomic_fetch_add_explicit(&dict->segment->places[by].counters[CBH_N_FAILED], 1, memory_order_relaxed);
  cbh_announce(dict, index);
  return true;
}

// Declared dead between two steps of take_slot(): cbh_reclaim() has seen our claim, or it saw the entry READY, and then it is
// for us to let go of it.
static void give_back(cbh_dict *dict, uint32_t index, uint64_t mine) {
  cbh_slot *slot = &dict->slots[index];
  uint64_t now = atomic_load(&slot->state);
  while (now >> 16 == mine >> 16 && cbh_phase_of(now) == CBH_CLAIMED) {
    uint64_t flags = cbh_flags_of(now) | cbh_attempt_of(now) << 6;
    uint64_t ready = cbh_make_state(cbh_generation_of(now), 0, index / dict->per_front, flags, CBH_READY);
    if (flags & CBH_CANCELLED) {
      if (cbh_fail(dict, index, now, CBH_DIED, dict->segment->place)) return;
      now = atomic_load(&slot->state);
    } else if (atomic_compare_exchange_strong(&slot->state, &now, ready)) {
      cbh_crash_here(76);
      uint32_t endpoint = CBH_GET(slot->endpoint) % dict->endpoints;
      atomic_fetch_or(&cbh_ready_words(dict, endpoint)[index / 64], 1ull << (index & 63));
      cbh_wake_worker(dict, endpoint);
      return;
    }
  }
}

// Makes a ready slot ours. Our bit goes into the request's block before the claim: after it, the front may be reaped.
static int take_slot(cbh_dict *dict, uint32_t endpoint, uint32_t index, uint64_t now, cbh_claimed *claimed) {
  cbh_slot *slot = &dict->slots[index];
  cbh_segment *s = dict->segment;
  word_t *hint = &cbh_ready_words(dict, endpoint)[index / 64];
  uint64_t bit = 1ull << (index & 63), me = cbh_bit(s->place), body_room = 0, meta_room = 0;
  if (!(atomic_fetch_and(hint, ~bit) & bit)) return CBH_AGAIN;  // another worker was faster
  uint64_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
  if (cbh_phase_of(state) != CBH_READY) return CBH_AGAIN;
  if (CBH_GET(slot->endpoint) != endpoint) return CBH_AGAIN;
  if (CBH_GET(slot->deadline_ns) <= now) {
    if (cbh_fail(dict, index, state, CBH_EXPIRED, s->place)) cbh_count(s, CBH_N_EXPIRED, 1);
    return CBH_AGAIN;
  }
  uint64_t body = CBH_GET(slot->body_at), meta = CBH_GET(slot->meta_at);
  cbh_crash_here(77);
  *claimed = (cbh_claimed){0, body, CBH_GET(slot->body_bytes), meta, index, CBH_GET(slot->meta_bytes)};
  word_t *holds_body = body ? cbh_holders(s, body, &body_room) : NULL;
  word_t *holds_meta = meta ? cbh_holders(s, meta, &meta_room) : NULL;
  if ((body && claimed->body_bytes > body_room) || (meta && claimed->meta_bytes > meta_room)) {
    // Its front cancelled it or was reclaimed meanwhile: these words are of two entries, or the block is another one's by now.
    // SYNC(entry-writing): the second look of a seqlock; pairs with the release fence in cbh_submit().
    atomic_thread_fence(memory_order_acquire);
    return CBH_GET(slot->state) == state ? CBH_CORRUPT : CBH_AGAIN;
  }
  cbh_crash_here(78);
  if (holds_body) atomic_fetch_or(holds_body, me);
  if (holds_meta) atomic_fetch_or(holds_meta, me);
  cbh_crash_here(4);
  uint64_t flags = cbh_flags_of(state) | cbh_attempt_of(state) << 6;
  uint64_t mine = cbh_make_state(cbh_generation_of(state), s->epoch, s->place, flags, CBH_CLAIMED);
  // SYNC(request-ready): acquire; pairs with the release store in cbh_submit().
  if (!atomic_compare_exchange_strong(&slot->state, &state, mine)) {
    if (holds_body) atomic_fetch_and(holds_body, ~me);
    if (holds_meta) atomic_fetch_and(holds_meta, ~me);
    return CBH_AGAIN;
  }
  cbh_crash_here(5);
  if (!cbh_place_mine(s)) {
    give_back(dict, index, mine);
    if (holds_body) atomic_fetch_and(holds_body, ~me);
    if (holds_meta) atomic_fetch_and(holds_meta, ~me);
    return CBH_STALE;
  }
  CBH_SET(slot->claimed_ns, now);
  claimed->state = mine;
  return CBH_OK;
}

static bool before(const cbh_dict *dict, uint32_t a, uint32_t b) {
  uint64_t x = CBH_GET(dict->ranks[a]), y = CBH_GET(dict->ranks[b]);
  return x != y ? x < y : CBH_GET(dict->arrivals[a]) < CBH_GET(dict->arrivals[b]);
}

// The `max` smallest ranks among the hints, in order, equal ones by arrival. `more`: whether there are others.
static uint32_t choose(const cbh_dict *dict, uint32_t endpoint, uint32_t max, uint32_t *slots, bool *more) {
  uint32_t count = 0;
  word_t *words = cbh_ready_words(dict, endpoint);
  *more = false;
  for (uint32_t w = 0; w < dict->words; w++) {
    for (uint64_t bits = atomic_load_explicit(&words[w], memory_order_relaxed); bits; bits &= bits - 1) {
      uint32_t index = w * 64 + (uint32_t)__builtin_ctzll(bits);
      if (count == max) {
        *more = true;
        if (!before(dict, index, slots[max - 1])) continue;
        count--;
      }
      uint32_t at = count++;
      for (; at > 0 && before(dict, index, slots[at - 1]); at--) slots[at] = slots[at - 1];
      slots[at] = index;
    }
  }
  return count;
}

int cbh_claim(cbh_dict *dict, uint32_t endpoint, uint32_t max, cbh_claimed *claimed) {
  cbh_segment *s = dict->segment;
  if (endpoint >= dict->endpoints) return CBH_CORRUPT;
  if (!cbh_place_mine(s)) return CBH_STALE;
  if (max > CBH_MAX_CLAIM) max = CBH_MAX_CLAIM;
  cbh_endpoint *e = &dict->endpoint[endpoint];
  if (atomic_load_explicit(&e->woken, memory_order_relaxed)) atomic_store(&e->woken, 0);
  uint32_t got = 0;
  bool more = true;
  uint64_t now = 0;
  while (got < max && more) {
    uint32_t wanted[CBH_MAX_CLAIM], count = choose(dict, endpoint, max - got, wanted, &more);
    if (!count) break;
    if (!now) now = cbh_now_ns();
    for (uint32_t i = 0; i < count; i++) {
      int code = take_slot(dict, endpoint, wanted[i], now, &claimed[got]);
      if (code == CBH_OK) got++;
      else if (code == CBH_AGAIN) more = true;
      else if (!got) return code;
    }
  }
  cbh_count(s, CBH_N_CLAIMED, got);
  if (got && more && cbh_any_ready(dict, endpoint)) cbh_wake_worker(dict, endpoint);
  return (int)got;
}

bool cbh_claim_stands(const cbh_dict *dict, const cbh_claimed *claimed) {
  // SYNC(entry-writing): the second look of a seqlock; pairs with the release fence in cbh_submit().
  atomic_thread_fence(memory_order_acquire);
  return cbh_still_mine(dict, claimed->slot, claimed->state) == CBH_OK;
}

int cbh_still_mine(const cbh_dict *dict, uint32_t index, uint64_t state) {
  uint64_t now = atomic_load_explicit(&dict->slots[index].state, memory_order_acquire);
  uint32_t phase = cbh_phase_of(now);
  // Everything but flags and phase must be as we claimed it: generation, epoch and place.
  if (now >> 16 != state >> 16 || (phase != CBH_CLAIMED && phase != CBH_STREAMING)) return CBH_STALE;
  return CBH_OK;
}

bool cbh_is_cancelled(const cbh_dict *dict, uint32_t index, uint64_t state) {
  uint64_t now = atomic_load_explicit(&dict->slots[index].state, memory_order_relaxed);
  return now >> 16 != state >> 16 || cbh_flags_of(now) & (CBH_CANCELLED | CBH_WITHDRAWN);
}

int64_t cbh_result_make(cbh_dict *dict, uint32_t index, uint64_t state, uint64_t block, uint64_t body_bytes,
                        const char *meta, uint64_t meta_bytes, uint32_t status) {
  cbh_segment *s = dict->segment;
  uint64_t capacity;
  if (!block) {
    int64_t at = cbh_alloc(s, CBH_RESULT_HEADER + body_bytes + meta_bytes);
    if (at < 0) return at;
    block = (uint64_t)at;
  }
  if (!cbh_holders(s, block, &capacity) || CBH_RESULT_HEADER + body_bytes + meta_bytes > capacity) return CBH_TOO_LARGE;
  cbh_result *result = (cbh_result *)(s->base + block);
  CBH_SET(result->tag, (uint64_t)cbh_generation_of(state) << 32 | index);
  result->body_bytes = body_bytes;
  result->body_from = CBH_RESULT_HEADER;
  result->meta_at = (uint32_t)(CBH_RESULT_HEADER + body_bytes);
  if (meta_bytes && CBH_RESULT_HEADER + body_bytes > UINT32_MAX) return CBH_TOO_LARGE;
  result->meta_bytes = (uint32_t)meta_bytes;
  result->status = status;
  if (meta_bytes) memcpy(s->base + block + result->meta_at, meta, meta_bytes);
  return (int64_t)block;
}

// The front may be reclaimed at any time: its slots move on first, then its bits are swept. So the bit, then the look: if the
// entry is ours still, the sweep is yet to come. Between the two the block is noted at our place, as nobody but us knows then
// that the bit has come after the sweep, and is nobody's; cbh_reclaim() takes it back for us.
bool cbh_lend(cbh_dict *dict, uint32_t index, uint64_t state, uint64_t block) {
  cbh_segment *s = dict->segment;
  uint32_t front = index / dict->per_front;
  word_t *note = &s->places[s->place].intent[0];
  CBH_SET(*note, block | (front + 1));  // blocks begin at multiples of 256
  cbh_hold(s, block, cbh_bit(front));
  cbh_crash_here(79);
  // SYNC(front-swept): both read-modify-write and load are sequentially consistent; pairs with the fence in cbh_drop_everywhere().
  uint64_t now = atomic_load(&dict->slots[index].state);
  bool ours = now >> 16 == state >> 16 && (cbh_phase_of(now) == CBH_CLAIMED || cbh_phase_of(now) == CBH_STREAMING);
  if (!ours) cbh_drop(s, block, cbh_bit(front));
  // Release: not before the drop. And before the entry's state says that the front has it, which is a release as well.
  atomic_store_explicit(note, 0, memory_order_release);
  return ours;
}

int cbh_publish(cbh_dict *dict, uint32_t index, uint64_t state, uint32_t phase, uint64_t block) {
  cbh_slot *slot = &dict->slots[index];
  cbh_segment *s = dict->segment;
  int code = cbh_still_mine(dict, index, state);
  if (code < 0) return code;
  if (!cbh_place_mine(s)) return CBH_STALE;
  const cbh_result *result = (const cbh_result *)(s->base + block);
  // The word carries generation and attempt: a late writer, whose slot has moved on, finds another one and is refused.
  // First the word, then the front's bit: cbh_reclaim() finds the block by the word.
  uint64_t before = CBH_GET(slot->result), front = cbh_bit(index / dict->per_front);
  if (!cbh_tags(before, state)) return CBH_STALE;
  if (!atomic_compare_exchange_strong(&slot->result, &before, cbh_tagged(state, block))) return CBH_STALE;
  cbh_crash_here(9);
  if (!cbh_lend(dict, index, state, block)) return CBH_STALE;
  cbh_crash_here(6);
  CBH_SET(slot->done_ns, cbh_now_ns());
  uint64_t streamed = CBH_GET(slot->chunks) && phase == CBH_DONE ? CBH_GET(slot->result_bytes) : 0;
  CBH_SET(slot->result_bytes, streamed + result->body_bytes);
  CBH_SET(slot->result_status, result->status);
  uint64_t now = atomic_load_explicit(&slot->state, memory_order_relaxed);
  do {
    if (now >> 16 != state >> 16 || (cbh_phase_of(now) != CBH_CLAIMED && cbh_phase_of(now) != CBH_STREAMING)) {
      cbh_drop(s, block, front);  // reclaimed under our hands: take back what cbh_reclaim() could not see any more
      return CBH_STALE;
    }
    // SYNC(result-done): release; pairs with the acquire load of the state in FrontEnd.collect() (_entries.pyx).
  } while (!atomic_compare_exchange_weak_explicit(&slot->state, &now, cbh_with_phase(now, phase), memory_order_acq_rel,
                                                  memory_order_relaxed));
  cbh_crash_here(7);
  cbh_count(s, phase == CBH_FAILED ? CBH_N_FAILED : CBH_N_PUBLISHED, 1);
  cbh_count(s, CBH_N_RESULT_BYTES, result->body_bytes);
  cbh_announce(dict, index);
  cbh_crash_here(8);
  return CBH_OK;
}

// ------------------------------------------------------------------ anybody
int64_t cbh_find(const cbh_dict *dict, uint64_t id, uint64_t from) {
  for (uint64_t i = from; i < dict->slot_count; i++)
    if (CBH_GET(dict->ids[i]) == id) return (int64_t)i;
  return CBH_NOT_FOUND;
}

bool cbh_peek(const cbh_dict *dict, uint32_t index, cbh_view *view) {
  cbh_slot *slot = &dict->slots[index];
  for (int turn = 0; turn < 8; turn++) {
    view->state = atomic_load_explicit(&slot->state, memory_order_acquire);
    view->id = CBH_GET(slot->id);
    view->rank = CBH_GET(dict->ranks[index]);
    view->deadline_ns = CBH_GET(slot->deadline_ns);
    view->received_ns = CBH_GET(slot->received_ns), view->ready_ns = CBH_GET(slot->ready_ns);
    view->claimed_ns = CBH_GET(slot->claimed_ns), view->first_chunk_ns = CBH_GET(slot->first_chunk_ns);
    view->done_ns = CBH_GET(slot->done_ns);
    view->request_bytes = CBH_GET(slot->body_bytes), view->result_bytes = CBH_GET(slot->result_bytes);
    view->endpoint = CBH_GET(slot->endpoint), view->front = CBH_GET(slot->front);
    view->attempt = CBH_GET(slot->attempt), view->chunks = CBH_GET(slot->chunks);
    view->status = CBH_GET(slot->result_status);
    // SYNC(entry-writing): the second look of a seqlock; pairs with the release fence in cbh_submit().
    atomic_thread_fence(memory_order_acquire);
    uint64_t again = CBH_GET(slot->state);
    if (cbh_phase_of(again) > CBH_FAILED) return false;  // somebody wrote over it
    if (again >> 36 == view->state >> 36 && (again & 0xff) == (view->state & 0xff)) return true;
  }
  return false;
}
