// SPDX-License-Identifier: Apache-2.0
//
// Threads stand for processes, each at a place of its own, over one mapping, so that the thread sanitizer sees every hand-over.
// usage: stress_entries SECONDS.  Prints what was done; exits 1 at the first torn byte, lost entry or lost block.
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cbh_history.h"

enum { FRONTS = 2, WORKERS = 3, SLOTS = 64, ARENA = 48 << 20 };
static cbh_segment shared;
static _Atomic bool over, fronts_done;
static _Atomic uint64_t answered, streamed, cancelled, refused, records;

static void die(const char *what, uint64_t number) {
  fprintf(stderr, "%s: %llu\n", what, (unsigned long long)number);
  exit(1);
}
static uint64_t next_random(uint64_t *seed) {
  *seed ^= *seed << 13, *seed ^= *seed >> 7, *seed ^= *seed << 17;
  return *seed;
}
static uint64_t size_of(uint64_t id) {
  static const uint64_t sizes[] = {0, 10, 383, 385, 4000, 40000, 300000, 1200000};
  return sizes[id % 8] + (id % 8 ? id % 7 : 0);
}
static void fill(char *data, uint64_t bytes, uint64_t id) {
  for (uint64_t i = 0; i < bytes; i++) data[i] = (char)(id * 31 + i * 7);
}
static void verify(const char *data, uint64_t bytes, uint64_t from, uint64_t id) {
  for (uint64_t i = 0; i < bytes; i++)
    if (data[i] != (char)(id * 31 + (from + i) * 7)) die("torn byte in entry", id);
}
static void sit(cbh_segment *segment, cbh_dict *dict, uint32_t place) {
  *segment = shared;
  memset(&segment->heap, 0, sizeof segment->heap);
  if (cbh_place_take(segment, place) != CBH_OK || cbh_dict_open(dict, segment) != CBH_OK) die("no place", place);
}

static void *work(void *argument) {
  cbh_segment segment;
  cbh_dict dict;
  sit(&segment, &dict, FRONTS + (uint32_t)(uintptr_t)argument);
  cbh_claimed claims[8];
  uint64_t me = cbh_bit(segment.place);
  while (!fronts_done) {
    int got = cbh_claim(&dict, 0, 1 + (segment.place & 3), claims);
    if (got < 0) die("claim", (uint64_t)-got);
    if (!got) sched_yield();
    for (int i = 0; i < got; i++) {
      uint32_t index = claims[i].slot;
      cbh_slot *slot = &dict.slots[index];
      uint64_t id = CBH_GET(slot->id), bytes = claims[i].body_bytes, at = claims[i].body_at, state = claims[i].state;
      const char *body = at ? segment.base + at : slot->data + claims[i].meta_bytes;
      if (bytes != size_of(id)) die("wrong size of entry", id);
      verify(body, bytes, 0, id);
      uint64_t ring = 0;
      if (id % 5 == 0 && bytes) {  // as a stream: chunks of a third
        for (uint64_t from = 0; from < bytes;) {
          uint64_t part = bytes / 3 + 1 < bytes - from ? bytes / 3 + 1 : bytes - from;
          int code = cbh_stream_put(&dict, index, state, &ring, body + from, part, 200, "meta", 4);
          if (code == CBH_OK) from += part;
          else if (code != CBH_AGAIN && code != CBH_FULL) die("stream", (uint64_t)-code);
          else if (cbh_is_cancelled(&dict, index, state)) break;
          else sched_yield();
        }
      }
      bool stream = id % 5 == 0 && bytes;
      int64_t block;
      while ((block = cbh_result_make(&dict, index, state, 0, stream ? 0 : bytes, "m", 1, 200)) == CBH_FULL)
        atomic_fetch_add(&refused, 1), sched_yield();
      if (block < 0) die("result", (uint64_t)-block);
      if (!stream && bytes) memcpy(segment.base + block + CBH_RESULT_HEADER, body, bytes);
      if (cbh_publish(&dict, index, state, CBH_DONE, (uint64_t)block) != CBH_OK) die("publish", id);
      cbh_drop(&segment, (uint64_t)block, me);
      cbh_stream_close(&dict, index, ring, false);
      if (at) cbh_drop(&segment, at, me);
    }
  }
  cbh_place_leave(&segment);
  cbh_heap_forget(&segment.heap);
  return NULL;
}

static bool take_news(cbh_dict *dict, uint32_t index, uint64_t *taken) {  // true: the entry is over
  cbh_slot *slot = &dict->slots[index];
  uint64_t state = atomic_load_explicit(&slot->state, memory_order_acquire), cursor = 0, block, id = CBH_GET(slot->id);
  uint32_t phase = cbh_phase_of(state);
  cbh_result result;
  cbh_frame frame;
  if (phase < CBH_STREAMING) return false;
  if (cbh_flags_of(state) & CBH_CANCELLED) {
    if (phase < CBH_DONE) return false;
    cbh_slot_free(dict, index, state, false, cbh_now_ns());
    return true;
  }
  while (cbh_stream_next(dict, index, state, &cursor, &frame) == CBH_OK) {
    if (frame.kind == CBH_FRAME_HEAD) continue;
    verify(frame.first, frame.first_bytes, *taken, id);
    verify(frame.second, frame.second_bytes, *taken + frame.first_bytes, id);
    *taken += frame.first_bytes + frame.second_bytes;
    if (frame.block) cbh_drop(dict->segment, frame.block, cbh_bit(dict->segment->place));
  }
  cbh_stream_taken(dict, index, state, cursor);
  if (phase < CBH_DONE) return false;
  if (!cbh_result_of(dict, index, state, &block, &result)) die("lost result of", id);
  verify(dict->segment->base + block + result.body_from, result.body_bytes, *taken, id);
  if (*taken + result.body_bytes != size_of(id)) die("short answer of", id);
  if (*taken) streamed++;
  answered++;
  cbh_slot_free(dict, index, state, false, cbh_now_ns());
  return true;
}

static void *serve(void *argument) {
  cbh_segment segment;
  cbh_dict dict;
  uint32_t place = (uint32_t)(uintptr_t)argument, news[SLOTS + 64];
  uint64_t seed = 88172645463325252ull + place, id = 1 + place, open = 0, taken[FRONTS * SLOTS] = {0};
  char *data = malloc(2 << 20);
  sit(&segment, &dict, place);
  if (cbh_front_open(&dict) != CBH_OK) die("front", place);
  while (!over || open) {
    if (!over && dict.free_count && next_random(&seed) % 4) {
      uint64_t bytes = size_of(id);
      fill(data, bytes, id);
      uint32_t slot = dict.free_slots[dict.free_count - 1];
      taken[slot] = 0;
      int code = cbh_submit(&dict, id, 0, (cbh_bytes){data, bytes, 0}, (cbh_bytes){"meta", 4, 0}, 0, INT64_MAX, 0, 0);
      if (code == CBH_OK) {
        open++;
        if (next_random(&seed) % 16 == 0) {
          if (cbh_cancel(&dict, id, false) == CBH_OK) open--;
          cancelled++;
        }
        id += FRONTS;
      } else if (code != CBH_FULL) die("submit", (uint64_t)-code);
    }
    uint32_t count = cbh_drain(&dict, news, SLOTS + 64);
    for (uint32_t i = 0; i < count; i++)
      if (take_news(&dict, news[i], &taken[news[i]])) open--;
    if (!count) sched_yield();
  }
  free(data);
  cbh_place_leave(&segment);
  cbh_dict_close(&dict);
  cbh_heap_forget(&segment.heap);
  return NULL;
}

static void count_again(const cbh_dict *dict) {  // what the fronts counted, against what they saw
  uint64_t outcomes[CBH_OUTCOMES] = {0}, times = 0;
  for (uint32_t front = 0; front < FRONTS; front++) {
    const cbh_tally *tally = cbh_tally_of(dict, front, 0);
    for (int i = 0; i < CBH_OUTCOMES; i++) outcomes[i] += CBH_GET(((cbh_tally *)tally)->outcomes[i]);
    for (uint32_t i = 0; i < CBH_TIME_BUCKETS; i++) times += CBH_GET(((cbh_tally *)tally)->times[CBH_T_REQUEST].buckets[i]);
  }
  if (outcomes[CBH_ANSWERED] != answered || times != answered) die("answers not counted", answered - outcomes[CBH_ANSWERED]);
  if (outcomes[CBH_TAKEN_BACK] != cancelled) die("cancellations not counted", cancelled - outcomes[CBH_TAKEN_BACK]);
}

static void *look(void *argument) {  // an observer: never in the way, never torn
  cbh_segment segment = shared;
  cbh_dict dict;
  cbh_view view;
  (void)argument;
  if (cbh_dict_open(&dict, &segment) != CBH_OK) die("observer", 0);
  for (uint32_t i = 0; !fronts_done; i = (i + 1) % dict.slot_count) {
    if (cbh_peek(&dict, i, &view) && cbh_phase_of(view.state) > CBH_WRITING && view.request_bytes != size_of(view.id))
      die("torn look at entry", view.id);
    for (uint32_t front = 0; front < FRONTS; front++) {
      cbh_past past;
      if (!cbh_past_read(&dict, front, CBH_RING_LAST, i % CBH_RECORDS, &past)) continue;
      bool whole = past.outcome == CBH_ANSWERED ? past.result_bytes == size_of(past.id) : past.outcome == CBH_TAKEN_BACK;
      if (past.request_bytes != size_of(past.id) || (past.id - 1) % FRONTS != front || !whole) die("torn record of", past.id);
      records++;
    }
    if (i == 0) sched_yield();
  }
  return NULL;
}

int main(int argc, char **argv) {
  double seconds = argc > 1 ? atof(argv[1]) : 1;
  uint64_t parameters[8] = {FRONTS, WORKERS, 1, SLOTS}, bytes, blocks;
  int fd = cbh_segment_create(CBH_KIND_ENTRIES, cbh_dict_body_bytes(FRONTS, 1, SLOTS), ARENA, parameters);
  if (fd < 0 || cbh_segment_map(&shared, fd, CBH_KIND_ENTRIES) != CBH_OK) die("segment", 0);
  pthread_t threads[FRONTS + WORKERS + 1];
  for (uintptr_t i = 0; i < FRONTS; i++) pthread_create(&threads[i], NULL, serve, (void *)i);
  for (uintptr_t i = 0; i < WORKERS; i++) pthread_create(&threads[FRONTS + i], NULL, work, (void *)i);
  pthread_create(&threads[FRONTS + WORKERS], NULL, look, NULL);
  uint64_t until = cbh_now_ns() + (uint64_t)(seconds * 1e9);
  while (cbh_now_ns() < until) sched_yield();
  over = true;
  for (int i = 0; i < FRONTS; i++) pthread_join(threads[i], NULL);
  fronts_done = true;
  for (int i = FRONTS; i <= FRONTS + WORKERS; i++) pthread_join(threads[i], NULL);
  cbh_dict dict;
  if (cbh_dict_open(&dict, &shared) != CBH_OK) die("dictionary", 0);
  count_again(&dict);
  cbh_usage(&shared, &bytes, &blocks);
  printf("answered %llu, streamed %llu, cancelled %llu, records read %llu, waited for room %llu, blocks left %llu\n",
         (unsigned long long)answered, (unsigned long long)streamed, (unsigned long long)cancelled, (unsigned long long)records,
         (unsigned long long)refused, (unsigned long long)blocks);
  cbh_segment_unmap(&shared);
  return blocks ? 1 : 0;
}
