// SPDX-License-Identifier: Apache-2.0
//
// After a death: what the dead one had under way is given to others or answered, what it held is dropped. Every step may be
// repeated, as whoever reclaims may die as well. tests/model/entry.pml is the model of it.
#include "cbh_bell.h"
#include "cbh_dict.h"

// What a dead worker made and did not get to announce: nobody will collect it. Before its bits are dropped, as until then
// its block cannot become somebody else's.
static void forget_result(cbh_dict *dict, uint32_t index, uint64_t state) {
  uint64_t block = cbh_untag(CBH_GET(dict->slots[index].result), state);
  if (block) cbh_drop(dict->segment, block, cbh_bit(index / dict->per_front));
  cbh_close_attempt(&dict->slots[index].result, state);
}

// The front is dead: nobody waits, whatever the phase. A worker that still has the entry finds another generation, sees
// it as cancelled, and is refused when it publishes.
static int reclaim_of_front(cbh_dict *dict, uint32_t index) {
  cbh_slot *slot = &dict->slots[index];
  uint64_t state = atomic_load(&slot->state), bit = 1ull << (index & 63);
  do {
    if (cbh_phase_of(state) == CBH_FREE) return 0;
  } while (!atomic_compare_exchange_weak(&slot->state, &state, cbh_make_state(cbh_generation_of(state) + 1, 0, 0, 0, CBH_FREE)));
  atomic_fetch_and(&cbh_ready_words(dict, CBH_GET(slot->endpoint) % dict->endpoints)[index / 64], ~bit);
  atomic_fetch_and(&dict->attention[index / 64], ~bit);
  if (cbh_phase_of(state) == CBH_STREAMING && cbh_place_of(state) < CBH_PLACES)
    cbh_bell_ring(dict->bells[cbh_place_of(state)]);  // it may wait for credit
  return 1;
}

static void set_hint(cbh_dict *dict, uint32_t index) {
  uint32_t endpoint = CBH_GET(dict->slots[index].endpoint) % dict->endpoints;
  atomic_fetch_or(&cbh_ready_words(dict, endpoint)[index / 64], 1ull << (index & 63));
}

// The entry that a dead worker had is ours: another one gets it, or it fails. False: it changed, as its front cancelled it.
static bool settle(cbh_dict *dict, uint32_t index, uint64_t state, uint32_t place) {
  cbh_slot *slot = &dict->slots[index];
  uint32_t front = index / dict->per_front, phase = cbh_phase_of(state), deaths = cbh_attempt_of(state) + 1;
  forget_result(dict, index, state);
  cbh_stream_forget(dict, index, state, phase == CBH_CLAIMED);
  cbh_crash_here(14);
  bool again_wanted = cbh_flags_of(state) & CBH_RETRY && !(cbh_flags_of(state) & (CBH_CANCELLED | CBH_WITHDRAWN));
  if (phase != CBH_CLAIMED || !again_wanted || deaths >= CBH_MOST_DEATHS) return cbh_fail(dict, index, state, CBH_DIED, place);
  CBH_SET(slot->attempt, (uint8_t)deaths);
  uint64_t again = cbh_make_state(cbh_generation_of(state), 0, front, CBH_RETRY | deaths << 6, CBH_READY);
  if (!atomic_compare_exchange_strong(&slot->state, &state, again)) return false;
  cbh_crash_here(15);
  set_hint(dict, index);
  atomic_fetch_add_explicit(&dict->segment->places[place].counters[CBH_N_RETRIED], 1, memory_order_relaxed);
  return true;
}

static int reclaim_slot(cbh_dict *dict, uint32_t index, uint32_t place) {
  cbh_slot *slot = &dict->slots[index];
  uint32_t front = index / dict->per_front;
  if (front == place) return reclaim_of_front(dict, index);
  uint64_t epoch = cbh_place_epoch(dict->segment, place) & 0xfff, state = atomic_load(&slot->state);
  for (bool taken = false;; state = atomic_load(&slot->state)) {  // once more if its front cancels it meanwhile
    uint32_t phase = cbh_phase_of(state);
    if (phase == CBH_READY) {  // its hint may have died with whoever was about to claim it
      set_hint(dict, index);
      return 0;
    }
    if (phase == CBH_DONE || phase == CBH_FAILED) {  // it may have died before it could announce; an expired one names no worker
      cbh_announce(dict, index);
      return 0;
    }
    if (cbh_place_of(state) != place || (!taken && cbh_epoch_of(state) == epoch)) return 0;
    if (phase != CBH_CLAIMED && phase != CBH_STREAMING) return 0;
    // Taken first, by an epoch that nobody sits with: who was declared dead and runs can neither publish nor give back now.
    uint64_t ours = (state & ~(0xfffull << 24)) | epoch << 24;
    if (state != ours && !atomic_compare_exchange_strong(&slot->state, &state, ours)) continue;
    taken = true;
    cbh_crash_here(13);
    if (settle(dict, index, ours, place)) return 1;
  }
}

// The front's bit in a block that the dead worker was about to give it (cbh_lend): set after the sweep of a front that died
// first, it is nobody's. The worker's own bit is there until cbh_place_free(), so it is the same block still; and the entry was
// not published, so that this front has no other right to it, nor has its successor.
static void take_back(cbh_dict *dict, uint32_t place) {
  cbh_segment *s = dict->segment;
  uint64_t lent = CBH_GET(s->places[place].intent[0]), block = lent & ~0xffull, front = lent & 0xff;
  _Atomic uint64_t *holders = block ? cbh_holders(s, block, NULL) : NULL;
  if (!holders || front == 0 || front > dict->fronts || !(CBH_GET(*holders) & cbh_bit(place))) return;
  cbh_drop(s, block, cbh_bit((uint32_t)front - 1));
  cbh_crash_here(92);
  atomic_store_explicit(&s->places[place].intent[0], 0, memory_order_release);
}

int cbh_reclaim(cbh_dict *dict, uint32_t place) {
  if (place >= dict->fronts + dict->workers) return CBH_CORRUPT;
  int changed = 0;
  int fenced = cbh_place_fence(dict->segment, place);  // from here on a late publish is refused
  if (fenced == CBH_AGAIN) return 0;                    // another process is at it
  for (uint32_t e = 0; e < dict->endpoints; e++) {
    atomic_fetch_and(&dict->endpoint[e].asleep, ~cbh_bit(place));
    atomic_store(&dict->endpoint[e].woken, 0);
  }
  for (uint32_t i = 0; i < dict->slot_count; i++) changed += reclaim_slot(dict, i, place);
  cbh_crash_here(16);
  // Declared dead while it runs: what it holds is its own until it has ended, as it may be writing there.
  if (fenced == CBH_OK && !cbh_place_lingers(dict->segment, place)) {
    take_back(dict, place);
    cbh_place_free(dict->segment, place);
  }
  _Atomic uint64_t *reclaimed = &dict->segment->places[place].counters[CBH_N_RECLAIMED];
  atomic_fetch_add_explicit(reclaimed, (uint64_t)changed, memory_order_relaxed);
  // The dead one may have said "rung" without ringing.
  for (uint32_t f = 0; f < dict->fronts; f++) {
    atomic_store(&dict->segment->places[f].rung, 1);
    cbh_bell_ring(dict->bells[f]);
  }
  for (uint32_t e = 0; e < dict->endpoints; e++)
    if (cbh_any_ready(dict, e)) cbh_wake_worker(dict, e);
  return changed;
}
