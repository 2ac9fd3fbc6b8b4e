// SPDX-License-Identifier: Apache-2.0
//
// What others do at the very moment at which cbh_rerank() is about to store the new rank: one thread, so each run is the same.
// usage: rerank_between.  Exits 1 at the first thing that is not as it should be.
#include "cbh_dict.h"

static void (*others)(void);  // what they do, once
static void let_others(void) {
  void (*act)(void) = others;
  others = NULL;
  if (act) act();
}
#undef CBH_SET
#define CBH_SET(x, v) (let_others(), atomic_store_explicit(&(x), (v), memory_order_relaxed))
#include "cbh_operate.c"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST = 1, NEXT = 2, RANK = 100, NEW_RANK = 7, SLOTS = 64, ARENA = 4 << 20 };
static cbh_segment shared, front_segment, worker_segment, operator_segment;
static cbh_dict front, worker, operator;

static void expect(bool so, const char *what) {
  if (so) return;
  fprintf(stderr, "not so: %s\n", what);
  exit(1);
}

static void sit(cbh_segment *segment, cbh_dict *dict, uint32_t place) {
  *segment = shared;
  memset(&segment->heap, 0, sizeof segment->heap);
  if (place != CBH_OBSERVER) expect(cbh_place_take(segment, place) == CBH_OK, "there is a place");
  expect(cbh_dict_open(dict, segment) == CBH_OK, "the dictionary opens");
}

static void submit(uint64_t id) {
  int code = cbh_submit(&front, id, 0, (cbh_bytes){"x", 1, 0}, (cbh_bytes){"", 0, 0}, RANK, INT64_MAX, 0, 0);
  expect(code == CBH_OK, "an entry is submitted");
}

static bool serve_one(uint64_t *id) {
  uint32_t news[SLOTS];
  cbh_claimed claim;
  if (cbh_claim(&worker, 0, 1, &claim) != 1) return false;
  uint32_t slot = claim.slot;
  uint64_t state = claim.state;
  *id = atomic_load(&worker.slots[slot].id);
  int64_t block = cbh_result_make(&worker, slot, state, 0, 0, "", 0, 200);
  expect(block > 0 && cbh_publish(&worker, slot, state, CBH_DONE, (uint64_t)block) == CBH_OK, "it is published");
  cbh_drop(&worker_segment, (uint64_t)block, cbh_bit(worker_segment.place));
  expect(cbh_drain(&front, news, SLOTS) == 1, "the front hears of it");
  cbh_slot_free(&front, slot, atomic_load(&front.slots[slot].state), false, cbh_now_ns());
  return true;
}

// Another entry in the same slot, if the first one can be had.
static void answer_and_submit(void) {
  uint64_t id;
  if (serve_one(&id)) submit(NEXT);
}

static bool had_meanwhile;
static void look(void) {
  uint64_t id;
  had_meanwhile = serve_one(&id);
}

int main(void) {
  uint64_t parameters[8] = {1, 1, 1, SLOTS}, id = 0;
  int fd = cbh_segment_create(CBH_KIND_ENTRIES, cbh_dict_body_bytes(1, 1, SLOTS), ARENA, parameters);
  expect(fd >= 0 && cbh_segment_map(&shared, fd, CBH_KIND_ENTRIES) == CBH_OK, "there is a segment");
  sit(&front_segment, &front, 0);
  sit(&worker_segment, &worker, 1);
  sit(&operator_segment, &operator, CBH_OBSERVER);
  expect(cbh_front_open(&front) == CBH_OK, "the front opens");

  submit(FIRST);
  others = answer_and_submit;
  cbh_rerank(&operator, FIRST, NEW_RANK);
  int64_t slot = cbh_find(&operator, NEXT, 0);
  if (slot < 0) expect(serve_one(&id) && id == FIRST, "an entry that could not be had meanwhile can be had afterwards");
  else expect(atomic_load(&operator.ranks[slot]) == RANK, "the next entry in the slot keeps its own rank");

  submit(FIRST);
  others = look;
  expect(cbh_rerank(&operator, FIRST, NEW_RANK) == CBH_OK, "what waits gets a new rank");
  expect(!had_meanwhile, "nobody has it while it gets one");
  expect(serve_one(&id) && id == FIRST, "who looked meanwhile, and in vain, finds it");
  cbh_dict_close(&front);
  return 0;
}
