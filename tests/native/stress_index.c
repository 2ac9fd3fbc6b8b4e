// SPDX-License-Identifier: Apache-2.0
//
// Threads stand for processes, each at a place of its own in one mapping, so that ThreadSanitizer sees all of them. They
// store, look up, keep, delete and list values that prove themselves, and "die" at random points of the index: the thread
// drops what it was doing on the spot (longjmp), sits down at a new place, and reaps the old one as a successor would.
// usage: stress_index SECONDS THREADS KEYS LARGEST_BYTES SEED DEATH_EVERY    (0: nobody dies)
#include <pthread.h>
#include <setjmp.h>
#include <time.h>
#include <unistd.h>

#include "party.h"

static _Thread_local int armed;
static _Thread_local jmp_buf grave;

void cbh_crash_here(int point);
void cbh_crash_here(int point) {
  if (armed == point) {
    armed = 0;
    longjmp(grave, point);
  }
}

static party base;
static uint64_t keys, largest, seed, end_ns, death_every;
static _Atomic uint64_t numbers, deaths, operations, full, kept_checked;

static uint64_t next(uint64_t *state) { return scramble(*state += 0x9e3779b97f4a7c15ull); }

static void sit_down(party *p) {
  memset(p, 0, sizeof *p);
  p->segment = base.segment;
  memset(&p->segment.heap, 0, sizeof p->segment.heap);
  p->segment.place = CBH_OBSERVER;
  CHECK(cbh_index_open(&p->index, &p->segment) == CBH_OK, "open");
  CHECK(cbh_place_take(&p->segment, CBH_OBSERVER) == CBH_OK, "place");
}

static void check_lease(party *p, int which, const uint64_t *lease_keys, const cbh_found *found) {
  CHECK(payload_whole(p->segment.base + found->block + found->value_at, found->value_bytes, lease_keys[which], NULL),
        "a value that we look at changed");
  atomic_fetch_add(&kept_checked, 1);
}

// Once round: any operation. `lease_keys` and `found` go with p->leases.
static void act(party *p, uint64_t *state, uint64_t *lease_keys, cbh_found *found) {
  uint64_t dice = next(state) % 100, key = next(state) % keys;
  cbh_found one;
  if (dice < 35) {
    uint64_t top = 6 + next(state) % 20, bytes = LEAST_PAYLOAD + next(state) % ((1ull << top) < largest ? 1ull << top : largest);
    int code = store(p, key, bytes & ~7ull, atomic_fetch_add(&numbers, 1) + 1);
    CHECK(code == CBH_OK || code == 1 || code == CBH_FULL, "store: %d", code);
    if (code == CBH_FULL) atomic_fetch_add(&full, 1);
  } else if (dice < 80) {
    int code = look_up(p, key, &one);
    CHECK(code == CBH_OK || code == CBH_NOT_FOUND, "look up: %d", code);
    if (code == CBH_OK) {
      CHECK(payload_whole(p->segment.base + one.block + one.value_at, one.value_bytes, key, NULL), "torn");
      if (dice < 45 && p->lease_count < 8) {
        lease_keys[p->lease_count] = key, found[p->lease_count] = one, p->leases[p->lease_count++] = one.block;
      } else {
        let_go(p, one.block);
      }
    }
  } else if (dice < 90) {
    int code = erase(p, key);
    CHECK(code == CBH_OK || code == CBH_NOT_FOUND, "erase: %d", code);
  } else if (dice < 95) {
    static _Thread_local cbh_found seen[256];
    static _Thread_local char names[256 * 32];
    int code = cbh_index_observe(&p->index, next(state), seen, 256, names, sizeof names);
    CHECK(code >= 0 || code == CBH_AGAIN, "observe: %d", code);
  } else if (p->lease_count) {
    int which = (int)(next(state) % (uint64_t)p->lease_count);
    check_lease(p, which, lease_keys, &found[which]);
    end_lease(p, which);
    found[which] = found[p->lease_count], lease_keys[which] = lease_keys[p->lease_count];
  }
}

static void *run(void *number) {
  static const int points[] = {20, 21, 22, 23, 24, 25, 26, 27, 28, 30, 31, 40, 41, 42, 43, 50};
  uint64_t state = seed ^ scramble((uint64_t)(uintptr_t)number);
  uint64_t lease_keys[MOST_LEASES];
  cbh_found found[MOST_LEASES];
  party lives[2];
  volatile int now = 0;
  sit_down(&lives[0]);
  while (cbh_now_ns() < end_ns) {
    if (setjmp(grave) != 0) {  // we died in `now`
      party *dead = &lives[now], *heir = &lives[1 - now];
      uint32_t place = dead->segment.place;
      sit_down(heir);
      cbh_heap_forget(&dead->segment.heap);
      CHECK(cbh_place_reap(&heir->segment, place) == CBH_OK, "reap");
      now = 1 - now;
      atomic_fetch_add(&deaths, 1);
    }
    party *p = &lives[now];
    for (int i = 0; i < 200; i++) {
      armed = death_every && next(&state) % death_every == 0 ? points[next(&state) % (sizeof points / sizeof *points)] : armed;
      act(p, &state, lease_keys, found);
      atomic_fetch_add_explicit(&operations, 1, memory_order_relaxed);
    }
  }
  armed = 0;
  party *p = &lives[now];
  while (p->lease_count) {
    check_lease(p, p->lease_count - 1, lease_keys, &found[p->lease_count - 1]);
    end_lease(p, p->lease_count - 1);
  }
  cbh_place_leave(&p->segment);
  cbh_heap_forget(&p->segment.heap);
  return NULL;
}

int main(int argc, char **argv) {
  CHECK(argc == 7, "usage: stress_index SECONDS THREADS KEYS LARGEST_BYTES SEED DEATH_EVERY");
  int threads = atoi(argv[2]);
  keys = strtoull(argv[3], NULL, 10), largest = strtoull(argv[4], NULL, 10), seed = strtoull(argv[5], NULL, 10);
  death_every = strtoull(argv[6], NULL, 10);
  end_ns = cbh_now_ns() + (uint64_t)(atof(argv[1]) * 1e9);
  int fd = make_dictionary(128ull << 20, 8);
  join(&base, fd);
  pthread_t running[64];
  for (intptr_t i = 0; i < threads; i++) CHECK(pthread_create(&running[i], NULL, run, (void *)i) == 0, "thread");
  for (int i = 0; i < threads; i++) pthread_join(running[i], NULL);
  check_whole(&base, keys, NULL);
  uint64_t there = cbh_index_length(&base.index), steals = cbh_index_counted(&base.index, CBH_I_STEALS);
  uint64_t mended = cbh_index_counted(&base.index, CBH_I_MENDED), retries = cbh_index_counted(&base.index, CBH_I_RETRIES);
  for (uint64_t key = 0; key < keys; key++) erase(&base, key);
  check_whole(&base, keys, NULL);
  CHECK(store(&base, 0, 100 << 20, 1) == CBH_OK, "the whole arena is not free again");
  printf("operations=%llu keys=%llu deaths=%llu steals=%llu mended=%llu retries=%llu full=%llu leases=%llu\n",
         (unsigned long long)operations, (unsigned long long)there, (unsigned long long)deaths, (unsigned long long)steals,
         (unsigned long long)mended, (unsigned long long)retries, (unsigned long long)full, (unsigned long long)kept_checked);
  cbh_place_leave(&base.segment);
  cbh_segment_unmap(&base.segment);
  close(fd);
  return 0;
}
