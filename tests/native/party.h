// SPDX-License-Identifier: Apache-2.0
//
// What the C tests of the index share: a process's (or a thread's) view of a dictionary, and payloads that prove themselves.
#ifndef PARTY_H
#define PARTY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cbh_index.h"

#define MOST_LEASES 64

typedef struct {
  cbh_segment segment;
  cbh_index index;
  uint64_t leases[MOST_LEASES];  // blocks that we look at, each as often as we do
  int lease_count;
} party;

#define CHECK(condition, ...)                                                     \
  do {                                                                            \
    if (!(condition)) {                                                           \
      fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);             \
      fprintf(stderr, __VA_ARGS__);                                               \
      fputc('\n', stderr);                                                        \
      _Exit(1);                                                                   \
    }                                                                             \
  } while (0)

static inline int make_dictionary(uint64_t arena_bytes, uint64_t buckets) {
  uint64_t parameters[8] = {buckets, 0x1234567};
  int fd = cbh_segment_create(CBH_KIND_DICTIONARY, cbh_index_body_bytes(buckets), arena_bytes, parameters);
  CHECK(fd >= 0, "code %d", fd);
  return fd;
}

static inline void join(party *p, int fd) {
  memset(p, 0, sizeof *p);
  CHECK(cbh_segment_map(&p->segment, fd, CBH_KIND_DICTIONARY) == CBH_OK, "map");
  CHECK(cbh_index_open(&p->index, &p->segment) == CBH_OK, "open");
  CHECK(cbh_place_take(&p->segment, CBH_OBSERVER) == CBH_OK, "place");
}

// Our bit was set on a block for a moment; another lease of ours may still need it.
static inline void let_go(party *p, uint64_t block) {
  for (int i = 0; i < p->lease_count; i++)
    if (p->leases[i] == block) return;
  int code = cbh_drop(&p->segment, block, cbh_bit(p->segment.place));
  CHECK(code == CBH_OK, "drop: %d", code);
}

static inline void end_lease(party *p, int which) {
  uint64_t block = p->leases[which];
  p->leases[which] = p->leases[--p->lease_count];
  let_go(p, block);
}

// A payload: its size, its key, a number, then words that follow from them. A mix of two values cannot look like one.
#define LEAST_PAYLOAD 32u

static inline uint64_t scramble(uint64_t x) {
  x ^= x >> 30, x *= 0xbf58476d1ce4e5b9ull, x ^= x >> 27, x *= 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

static inline void fill_payload(char *at, uint64_t bytes, uint64_t key, uint64_t number) {
  uint64_t head[3] = {bytes, key, number}, word = scramble(key + 31 * number);
  memcpy(at, head, sizeof head);
  for (uint64_t i = sizeof head; i + 8 <= bytes; i += 8, word += 0x9e3779b97f4a7c15ull) memcpy(at + i, &word, 8);
}

static inline bool payload_whole(const char *at, uint64_t bytes, uint64_t key, uint64_t *number) {
  uint64_t head[3], word, found;
  if (bytes < LEAST_PAYLOAD) return false;
  memcpy(head, at, sizeof head);
  if (head[0] != bytes || head[1] != key) return false;
  word = scramble(key + 31 * head[2]);
  for (uint64_t i = sizeof head; i + 8 <= bytes; i += 8, word += 0x9e3779b97f4a7c15ull) {
    memcpy(&found, at + i, 8);
    if (found != word) return false;
  }
  if (number) *number = head[2];
  return true;
}

static inline uint32_t name_key(char *text, uint64_t key) { return (uint32_t)sprintf(text, "key-%llu", (unsigned long long)key); }

#define MOST_TURNS 400  // of at most 20 ms each: a lock that is never given back fails the test instead of hanging it

#define UNTIL_DONE(code, call, party_, hash)                              \
  do {                                                                    \
    for (unsigned turn = 0; (code = (call)) == CBH_AGAIN; turn++) {       \
      CHECK(turn < MOST_TURNS, "stuck in %s", #call);                     \
      cbh_index_pause(&(party_)->index, hash, turn);                      \
    }                                                                     \
  } while (0)

static inline int store(party *p, uint64_t key, uint64_t bytes, uint64_t number) {
  char name[32];
  cbh_found other;
  uint32_t n = name_key(name, key);
  uint64_t hash = cbh_index_hash(&p->index, name, n);
  int64_t block = cbh_alloc(&p->segment, cbh_node_bytes(n, 4, bytes));
  if (block < 0) return (int)block;
  cbh_node_write(&p->index, (uint64_t)block, hash, name, n, "head", 4, 1, bytes);
  fill_payload(p->segment.base + block + cbh_node_value_at(n, 4), bytes, key, number);
  int code;
  UNTIL_DONE(code, cbh_index_link(&p->index, (uint64_t)block, 0, turn, &other), p, hash);
  let_go(p, (uint64_t)block);
  if (code == 1) let_go(p, other.block);
  return code;
}

static inline int look_up(party *p, uint64_t key, cbh_found *found) {
  char name[32];
  uint32_t n = name_key(name, key);
  uint64_t hash = cbh_index_hash(&p->index, name, n);
  int code;
  UNTIL_DONE(code, cbh_index_get(&p->index, name, n, hash, turn, found), p, hash);
  return code;
}

static inline int erase(party *p, uint64_t key) {
  char name[32];
  cbh_found found;
  uint32_t n = name_key(name, key);
  uint64_t hash = cbh_index_hash(&p->index, name, n);
  int code;
  UNTIL_DONE(code, cbh_index_unlink(&p->index, name, n, hash, turn, &found), p, hash);
  if (code == CBH_OK) let_go(p, found.block);
  return code;
}

// All keys are whole and linked, counted right, and nothing else is held: with nobody else at it and no lease of ours.
static inline void check_whole(party *p, uint64_t most_keys, uint64_t expected_numbers[][2]) {
  uint64_t reachable = 0, bytes, blocks;
  for (uint64_t key = 0; key < most_keys; key++) {
    cbh_found found;
    int code = look_up(p, key, &found);
    CHECK(code == CBH_OK || code == CBH_NOT_FOUND, "key %llu: %d", (unsigned long long)key, code);
    uint64_t number = 0;
    if (code == CBH_OK) {
      reachable++;
      CHECK(payload_whole(p->segment.base + found.block + found.value_at, found.value_bytes, key, &number),
            "key %llu is torn", (unsigned long long)key);
      let_go(p, found.block);
    }
    if (expected_numbers)
      CHECK(number == expected_numbers[key][0] || number == expected_numbers[key][1], "key %llu has value %llu",
            (unsigned long long)key, (unsigned long long)number);
  }
  CHECK(cbh_index_length(&p->index) == reachable, "%llu keys counted, %llu there",
        (unsigned long long)cbh_index_length(&p->index), (unsigned long long)reachable);
  cbh_usage(&p->segment, &bytes, &blocks);
  CHECK(blocks == reachable, "%llu blocks used, %llu keys there", (unsigned long long)blocks, (unsigned long long)reachable);
}

#endif
