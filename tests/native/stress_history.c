// SPDX-License-Identifier: Apache-2.0
//
// Fronts that are done with entries as fast as they can, and an observer who reads the records at the same time.
// usage: stress_history SECONDS.  Exits 1 at the first record of which not every word belongs to the same entry.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cbh_history.h"

enum { FRONTS = 2, SLOTS = 64, ARENA = 1 << 20 };
static cbh_segment shared;
static _Atomic bool over;

static void die(const char *what, uint64_t number) {
  fprintf(stderr, "%s: %llu\n", what, (unsigned long long)number);
  exit(1);
}

static void *serve(void *argument) {
  cbh_segment segment = shared;
  cbh_dict dict;
  memset(&segment.heap, 0, sizeof segment.heap);
  if (cbh_dict_open(&dict, &segment) != CBH_OK) die("open", 0);
  if (cbh_place_take(&segment, (uint32_t)(uintptr_t)argument) != CBH_OK) die("place", 0);
  if (cbh_front_open(&dict) != CBH_OK) die("front", 0);
  for (uint64_t id = 1; !over; id++) {
    cbh_bytes body = {"0123456789abcdef", id % 16, 0}, meta = {NULL, 0, 0};
    if (cbh_submit(&dict, id, 0, body, meta, id * 3, INT64_MAX - id, 0, id) != CBH_OK) die("submit", id);
    if (cbh_cancel(&dict, id, false) != CBH_OK) die("cancel", id);
  }
  cbh_place_leave(&segment);
  cbh_dict_close(&dict);
  cbh_heap_forget(&segment.heap);
  return NULL;
}

int main(int argc, char **argv) {
  uint64_t parameters[8] = {FRONTS, 1, 1, SLOTS}, read = 0;
  int fd = cbh_segment_create(CBH_KIND_ENTRIES, cbh_dict_body_bytes(FRONTS, 1, SLOTS), ARENA, parameters);
  if (fd < 0 || cbh_segment_map(&shared, fd, CBH_KIND_ENTRIES) != CBH_OK) die("segment", 0);
  pthread_t threads[FRONTS];
  for (uintptr_t i = 0; i < FRONTS; i++) pthread_create(&threads[i], NULL, serve, (void *)i);
  cbh_dict dict;
  cbh_past p;
  if (cbh_dict_open(&dict, &shared) != CBH_OK) die("observer", 0);
  uint64_t until = cbh_now_ns() + (uint64_t)((argc > 1 ? atof(argv[1]) : 1) * 1e9);
  while (cbh_now_ns() < until) {
    for (uint32_t i = 0; i < FRONTS * CBH_RECORDS; i++) {
      if (!cbh_past_read(&dict, i % FRONTS, CBH_RING_LAST, i / FRONTS, &p)) continue;
      if (p.rank != p.id * 3 || p.deadline_ns != INT64_MAX - p.id || p.received_ns != p.id || p.request_bytes != p.id % 16)
        die("torn record of", p.id);
      read++;
    }
  }
  over = true;
  for (int i = 0; i < FRONTS; i++) pthread_join(threads[i], NULL);
  printf("records read %llu\n", (unsigned long long)read);
  cbh_segment_unmap(&shared);
  return 0;
}
