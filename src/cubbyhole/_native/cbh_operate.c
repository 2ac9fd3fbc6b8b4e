// SPDX-License-Identifier: Apache-2.0
//
// What an operator may do to an entry that is under way: take it back, or give it another rank. Neither is the front that
// submitted it nor the worker that holds it, so both go by the state word alone, and tell the front, which answers.
#include "cbh_dict.h"

// The slot that has `id` under way, and its state as seen after the id: a compare-and-swap from it fails if the slot moved on.
static int64_t slot_of(const cbh_dict *dict, uint64_t id, uint64_t *state) {
  for (int64_t i = 0; (i = cbh_find(dict, id, (uint64_t)i)) >= 0; i++) {
    cbh_slot *slot = &dict->slots[i];
    *state = atomic_load_explicit(&slot->state, memory_order_acquire);
    // A slot is written anew only after its state has left this generation, so id and state belong together.
    if (CBH_GET(slot->id) == id && cbh_phase_of(*state) >= CBH_READY) return i;
  }
  return CBH_NOT_FOUND;
}

int cbh_withdraw(cbh_dict *dict, uint64_t id) {
  uint64_t state;
  int64_t index = slot_of(dict, id, &state);
  if (index < 0) return CBH_NOT_FOUND;
  cbh_slot *slot = &dict->slots[index];
  const uint64_t generation = state >> 36;
  while (state >> 36 == generation && cbh_phase_of(state) >= CBH_READY && cbh_phase_of(state) <= CBH_STREAMING) {
    if (cbh_flags_of(state) & (CBH_CANCELLED | CBH_WITHDRAWN)) return CBH_AGAIN;  // somebody was faster
    bool ready = cbh_phase_of(state) == CBH_READY;
    uint64_t next = state | (uint64_t)CBH_WITHDRAWN << 8;
    if (ready) next = (next & ~0xffull) | CBH_FAILED;
    // SYNC(request-ready): the same word that a worker claims by; one of the two compare-and-swaps wins. The ready hint
    // stays: a hint too many does no harm, and to clear it could take away that of the slot's next entry.
    if (!atomic_compare_exchange_strong(&slot->state, &state, next)) continue;
    cbh_crash_here(88);
    if (ready) {
      CBH_SET(slot->done_ns, cbh_now_ns());
      // The supervisor has no place of its own to count at; workers count no cancelled ones.
      _Atomic uint64_t *counters = dict->segment->places[dict->fronts].counters;
      atomic_fetch_add_explicit(&counters[CBH_N_CANCELLED], 1, memory_order_relaxed);
    }
    cbh_announce(dict, (uint32_t)index);  // the front answers; of a running one, it then cancels it like a client that left
    return ready ? CBH_OK : CBH_AGAIN;
  }
  return CBH_NOT_FOUND;
}

int cbh_rerank(cbh_dict *dict, uint64_t id, uint64_t rank) {
  uint64_t state;
  int64_t index = slot_of(dict, id, &state);
  if (index < 0) return CBH_NOT_FOUND;
  if (cbh_phase_of(state) != CBH_READY) return CBH_STALE;
  cbh_slot *slot = &dict->slots[index];
  uint64_t held = (state & ~0xffull) | CBH_WRITING;
  // Without taking it out of the queue for these few instructions, the slot could be claimed, answered and filled anew
  // between a look at its state and the store, which would then give the next entry this rank.
  if (!atomic_compare_exchange_strong(&slot->state, &state, held)) return CBH_STALE;
  cbh_crash_here(86);
  CBH_SET(dict->ranks[index], rank);
  // SYNC(request-ready): release, as in cbh_submit(). It fails only if the front closed its port meanwhile.
  if (!atomic_compare_exchange_strong(&slot->state, &held, state)) return CBH_NOT_FOUND;
  cbh_crash_here(87);
  cbh_offer(dict, (uint32_t)index);  // a worker that looked in between took the hint away
  return CBH_OK;
}
