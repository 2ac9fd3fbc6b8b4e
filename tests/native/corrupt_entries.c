// SPDX-License-Identifier: Apache-2.0
//
// Words of a segment are written over while it is used: whatever the core answers, it may not crash, hang, or point outside.
// usage: corrupt_entries FIRST_SEED CASES    prints "ok CASES"; exits 1 and names the first case that went wrong
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cbh_dict.h"

enum { FRONTS = 2, WORKERS = 2, SLOTS = 64, ARENA = 4 << 20, LIMIT_S = 20 };

static uint64_t seed;
static uint64_t chance(uint64_t below) {
  seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
  return seed % below;
}

typedef struct {
  cbh_segment segment;
  cbh_dict dict;
} party;

static party fronts[FRONTS], workers[WORKERS];
static uint64_t next_id = 1;
static char *bytes;

static void inside(const cbh_segment *s, const char *at, uint64_t size) {
  bool in = at >= s->base && at <= s->base + s->bytes && size <= (uint64_t)(s->base + s->bytes - at);
  if (size && !in) abort();
  for (uint64_t i = 0; i < size; i += 512) (void)*(volatile const char *)(at + i);
}

static bool sit(party *p, int fd, uint32_t place) {
  if (cbh_segment_map(&p->segment, fd, CBH_KIND_ENTRIES) != CBH_OK) return false;
  if (cbh_dict_open(&p->dict, &p->segment) != CBH_OK) return false;
  return cbh_place_take(&p->segment, place) == CBH_OK && (place >= FRONTS || cbh_front_open(&p->dict) == CBH_OK);
}

static void submit(party *p) {
  static const uint64_t sizes[] = {0, 10, 384, 5000, 70000, 300000, 1500000};
  uint64_t size = sizes[chance(7)], meta = chance(3) ? chance(300) : 2000;
  cbh_submit(&p->dict, next_id++, (uint32_t)chance(2), (cbh_bytes){bytes, size, 0}, (cbh_bytes){bytes, meta, 0}, chance(3),
             chance(9) ? INT64_MAX : 0, chance(2) ? CBH_RETRY : 0, 0);
}

static void collect(party *p) {
  uint32_t news[FRONTS * SLOTS + 64], count = cbh_drain(&p->dict, news, FRONTS * SLOTS + 64);
  for (uint32_t i = 0; i < count; i++) {
    uint64_t state = atomic_load(&p->dict.slots[news[i]].state), cursor = 0, block;
    uint32_t phase = cbh_phase_of(state);
    cbh_frame frame;
    cbh_result result;
    if (phase != CBH_STREAMING && phase != CBH_DONE && phase != CBH_FAILED) continue;
    for (int most = 0; cbh_stream_next(&p->dict, news[i], state, &cursor, &frame) == CBH_OK; most++) {
      if (most > 1 << 20) abort();
      inside(&p->segment, frame.first, frame.first_bytes);
      inside(&p->segment, frame.second, frame.second_bytes);
      if (frame.block) cbh_drop(&p->segment, frame.block, cbh_bit(p->segment.place));
    }
    cbh_stream_taken(&p->dict, news[i], state, cursor);
    if (phase == CBH_STREAMING) continue;
    if (cbh_result_of(&p->dict, news[i], state, &block, &result)) {
      inside(&p->segment, p->segment.base + block + result.body_from, result.body_bytes);
      inside(&p->segment, p->segment.base + block + result.meta_at, result.meta_bytes);
    }
    cbh_slot_free(&p->dict, news[i], state, false, cbh_now_ns());
  }
}

static void work(party *p) {
  cbh_claimed claims[4];
  int got = cbh_claim(&p->dict, (uint32_t)chance(2), (uint32_t)chance(4) + 1, claims);
  for (int i = 0; i < got; i++) {
    uint32_t slot = claims[i].slot;
    uint64_t state = claims[i].state, ring = 0;
    if (claims[i].body_at) inside(&p->segment, p->segment.base + claims[i].body_at, claims[i].body_bytes);
    if (claims[i].meta_at) inside(&p->segment, p->segment.base + claims[i].meta_at, claims[i].meta_bytes);
    if (chance(2))
      for (uint64_t n = chance(4); n > 0; n--) {
        cbh_stream_put(&p->dict, slot, state, &ring, bytes, chance(2) ? chance(9000) : 60000, 200, bytes, chance(50));
        cbh_stream_wants_credit(&p->dict, slot, state, ring);
      }
    if (!chance(5)) continue;  // kept for ever
    int64_t block = cbh_result_make(&p->dict, slot, state, 0, chance(2) ? 100 : 100000, bytes, chance(60), 200);
    int code = block < 0 ? CBH_FULL : cbh_publish(&p->dict, slot, state, CBH_DONE, (uint64_t)block);
    if (block >= 0) cbh_drop(&p->segment, (uint64_t)block, cbh_bit(p->segment.place));
    cbh_stream_close(&p->dict, slot, ring, code < 0);
  }
}

static void look(int fd) {
  party p;
  cbh_view view;
  uint64_t used, blocks;
  memset(&p, 0, sizeof p);
  if (cbh_segment_map(&p.segment, fd, CBH_KIND_ENTRIES) == CBH_OK) {
    if (cbh_dict_open(&p.dict, &p.segment) == CBH_OK)
      for (uint32_t i = 0; i < p.dict.slot_count; i++) {
        cbh_peek(&p.dict, i, &view);
        cbh_find(&p.dict, chance(20), 0);
      }
    cbh_usage(&p.segment, &used, &blocks);
  }
  cbh_segment_unmap(&p.segment);
}

// One to four words, anywhere but in the payloads; or within a block that the core reads a header from.
static void scribble(char *base, const cbh_header *h) {
  for (uint64_t n = chance(4) + 1; n > 0; n--) {
    uint64_t at;
    switch (chance(8)) {
      case 0: at = chance(sizeof *h); break;
      case 1: at = h->places_at + chance((FRONTS + WORKERS + 1) * sizeof(cbh_place)); break;
      case 2: at = h->extents_at + chance(16 * h->extent_count); break;
      case 3: at = h->holders_at + chance(8 * h->extent_count * CBH_EXTENT_BLOCKS); break;
      case 4: at = h->body_at + chance(h->body_bytes - FRONTS * SLOTS * CBH_SLOT_BYTES); break;
      case 5: at = h->arena_at + (chance(ARENA / 256) << 8) + chance(64); break;
      case 6: at = h->arena_at + (chance(ARENA / 65536) << 16) + chance(CBH_STREAM_HEADER + 64); break;
      default: at = h->body_at + h->body_bytes - (chance(FRONTS * SLOTS) + 1) * CBH_SLOT_BYTES + chance(128);
    }
    if (chance(2)) at &= ~7ull;
    uint64_t word;
    memcpy(&word, base + at, 8);
    switch (chance(6)) {
      case 0: word = chance(UINT64_MAX); break;
      case 1: word ^= 1ull << chance(64); break;
      case 2: word = 0; break;
      case 3: word = UINT64_MAX; break;
      case 4: word += chance(17) - 8; break;
      default: memcpy(&word, base + h->body_at + h->body_bytes - (chance(FRONTS * SLOTS) + 1) * CBH_SLOT_BYTES + 8 * chance(8), 8);
    }
    memcpy(base + at, &word, 8);
  }
}

static int begin(void) {
  uint64_t parameters[8] = {FRONTS, WORKERS, 2, SLOTS};
  int fd = cbh_segment_create(CBH_KIND_ENTRIES, cbh_dict_body_bytes(FRONTS, 2, SLOTS), ARENA, parameters);
  for (uint32_t i = 0; i < FRONTS; i++)
    if (!sit(&fronts[i], fd, i)) exit(3);
  for (uint32_t i = 0; i < WORKERS; i++)
    if (!sit(&workers[i], fd, FRONTS + i)) exit(3);
  return fd;
}

// Words that chance hardly ever writes, and each of which one check is there for.
enum { OFFSET_BEYOND_32_BITS, FREED_WHILE_FREE, PLACE_WITHOUT_BELL, DIRECTED };

static void directed_case(int which) {
  begin();
  cbh_dict *front = &fronts[0].dict, *worker = &workers[0].dict;
  cbh_claimed claim;
  if (which == FREED_WHILE_FREE) {
    cbh_slot *slot = &front->slots[0];
    uint64_t state = atomic_load(&slot->state);
    atomic_store(&slot->state, cbh_with_phase(state, CBH_DONE));
    atomic_fetch_or(&front->attention[0], 1);
    collect(&fronts[0]);
    return;
  }
  uint64_t id = next_id++;
  cbh_submit(front, id, 0, (cbh_bytes){bytes, 5000, 0}, (cbh_bytes){bytes, 0, 0}, 0, INT64_MAX, 0, 0);
  cbh_slot *slot = NULL;
  for (uint32_t i = 0; i < front->slot_count && !slot; i++)
    if (cbh_phase_of(atomic_load(&front->slots[i].state)) == CBH_READY) slot = &front->slots[i];
  if (!slot) exit(3);
  if (which == OFFSET_BEYOND_32_BITS) {
    CBH_SET(slot->body_at, CBH_GET(slot->body_at) + (1ull << (32 + CBH_EXTENT_SHIFT)));  // its extent is right in its lowest 32 bits
    if (cbh_claim(worker, 0, 1, &claim) > 0)
      inside(&workers[0].segment, workers[0].segment.base + claim.body_at, claim.body_bytes);
    return;
  }
  if (cbh_claim(worker, 0, 1, &claim) != 1) exit(3);
  uint64_t state = atomic_load(&slot->state) | 0xffull << 16;
  atomic_store(&slot->state, cbh_with_phase(state, CBH_STREAMING));
  cbh_cancel(front, id, false);
}

static void one_case(void) {
  int fd = begin();
  cbh_header plan = fronts[0].segment.checked;
  for (uint64_t step = 0; step < 60; step++) {
    if (step > 12 && !chance(3)) scribble(fronts[0].segment.base, &plan);
    party *front = &fronts[chance(FRONTS)], *worker = &workers[chance(WORKERS)];
    switch (chance(9)) {
      case 0: case 1: case 2: submit(front); break;
      case 3: collect(front); break;
      case 4: case 5: work(worker); break;
      case 6: cbh_cancel(&front->dict, chance(next_id), 0); break;
      case 7: look(fd); break;
      default:
        if (chance(2)) cbh_trim(&worker->segment);
        else if (!chance(4)) cbh_reclaim(&front->dict, (uint32_t)chance(FRONTS + WORKERS));
    }
  }
  for (uint32_t i = 0; i < FRONTS; i++) collect(&fronts[i]), cbh_dict_close(&fronts[i].dict);
  for (uint32_t i = 0; i < FRONTS + WORKERS; i++) cbh_reclaim(&fronts[0].dict, i);
  for (uint32_t i = 0; i < FRONTS; i++) cbh_segment_unmap(&fronts[i].segment);
  for (uint32_t i = 0; i < WORKERS; i++) cbh_segment_unmap(&workers[i].segment);
  close(fd);
}

static int in_a_process(int directed, uint64_t number) {
  int status;
  pid_t pid = fork();
  if (pid == 0) {
    seed = number * 0x9e3779b97f4a7c15ull | 1;
    alarm(LIMIT_S);
    if (directed < DIRECTED) directed_case(directed);
    else one_case();
    exit(0);
  }
  waitpid(pid, &status, 0);
  return status;
}

int main(int argc, char **argv) {
  uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, cases = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000;
  bytes = calloc(1, 2 << 20);
  for (int which = 0; which < DIRECTED; which++) {
    int status = in_a_process(which, 1);
    if (status) return fprintf(stderr, "directed %d: status %x\n", which, status), 1;
  }
  for (uint64_t i = first; i < first + cases; i++) {
    int status = in_a_process(DIRECTED, i);
    if (status) return fprintf(stderr, "seed %llu: status %x\n", (unsigned long long)i, status), 1;
  }
  printf("ok %llu\n", (unsigned long long)cases);
  return 0;
}
