// SPDX-License-Identifier: Apache-2.0
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cbh_index.h"

#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// Reads of blocks that may be recycled under the reader: what they give is thrown away unless the version of the bucket
// stood still. A race by design, and by the C standard; every load in these functions is atomic or checked.
#define RACY __attribute__((no_sanitize("thread"), noinline))

#if defined(__SANITIZE_THREAD__)
#define settle_loads() ((void)0)  // the tool does not know fences; it only runs where loads are not reordered
#else
#define settle_loads() atomic_thread_fence(memory_order_acquire)
#endif

#define TRIES 32u         // looks at a bucket without its lock before a reader asks for it
#define SPINS 200u        // about 1 us: a writer holds the lock for 0.1 us
#define SLEEPER 0x100u    // in the lock word: wake somebody when you give it back
#define EPOCH_SHIFT 9
#define EPOCH_MASK 0x7fffffu
#define INTENT (1ull << 63)  // intent[0]: valid 1 | bucket 31 | low half of the place's key count before; [1] new, [2] old block

typedef _Atomic uint64_t word_t;

static inline void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#endif
}

static long futex(_Atomic uint32_t *word, int what, uint32_t value, const struct timespec *most) {
  return syscall(SYS_futex, word, what, value, most, NULL, 0);
}

static void sleep_on(_Atomic uint32_t *word, uint32_t value, uint64_t wait_ns) {
  struct timespec most = {(time_t)(wait_ns / 1000000000ull), (long)(wait_ns % 1000000000ull)};
  futex(word, FUTEX_WAIT, value, &most);
}

static uint64_t me(const cbh_index *x) { return cbh_bit(x->segment->place); }
static cbh_node *node_at(const cbh_index *x, uint64_t block) { return (cbh_node *)(x->segment->base + block); }
static uint64_t up64(uint64_t n) { return (n + 63) & ~63ull; }

static void add(cbh_index *x, uint32_t counter, uint64_t n) {
  if (x->segment->place >= CBH_PLACES) return;
  word_t *c = &x->segment->places[x->segment->place].counters[counter];
  atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

// ------------------------------------------------------------------ open
uint64_t cbh_index_body_bytes(uint64_t buckets) { return buckets * CBH_BUCKET_BYTES; }

int cbh_index_open(cbh_index *x, cbh_segment *segment) {
  const cbh_header *h = segment->header;
  uint64_t buckets = h->parameters[CBH_PARAMETER_BUCKETS];
  if (buckets == 0 || buckets > CBH_MOST_BUCKETS || (buckets & (buckets - 1)) != 0) return CBH_WRONG_LAYOUT;
  if (cbh_index_body_bytes(buckets) > h->body_bytes) return CBH_WRONG_LAYOUT;
  x->segment = segment;
  x->buckets = (cbh_bucket *)(segment->base + h->body_at);
  x->mask = buckets - 1;
  x->seed = h->parameters[CBH_PARAMETER_SEED];
  x->most_nodes = (uint64_t)h->extent_count * CBH_EXTENT_BLOCKS;
  segment->mend = cbh_index_mend;
  segment->mend_context = x;
  return CBH_OK;
}

void cbh_index_close(cbh_index *x) {
  if (x->segment && x->segment->mend_context == x) x->segment->mend = NULL, x->segment->mend_context = NULL;
}

// Multiply and fold, eight bytes at a time; seeded for each dictionary, so that nobody can choose keys that collide.
uint64_t cbh_index_hash(const cbh_index *x, const char *key, uint32_t key_bytes) {
  uint64_t hash = x->seed ^ (key_bytes * 0x9e3779b97f4a7c15ull), word;
  for (uint32_t at = 0; at < key_bytes; at += 8) {
    word = 0;
    memcpy(&word, key + at, key_bytes - at < 8 ? key_bytes - at : 8);
    unsigned __int128 wide = (unsigned __int128)(hash ^ word) * (0xd6e8feb86659fd93ull ^ x->seed << 1);
    hash = (uint64_t)wide ^ (uint64_t)(wide >> 64);
  }
  hash ^= hash >> 32;
  hash *= 0xd6e8feb86659fd93ull;
  return hash ^ hash >> 29;
}

// ------------------------------------------------------------------ nodes
uint64_t cbh_node_value_at(uint64_t key_bytes, uint64_t head_bytes) { return up64(CBH_NODE_BYTES + key_bytes + head_bytes); }

uint64_t cbh_node_bytes(uint64_t key_bytes, uint64_t head_bytes, uint64_t value_bytes) {
  if (key_bytes > CBH_LONGEST_KEY || head_bytes > UINT32_MAX || value_bytes > 1ull << 62) return 0;
  return cbh_node_value_at(key_bytes, head_bytes) + value_bytes;
}

void cbh_node_write(cbh_index *x, uint64_t block, uint64_t hash, const char *key, uint32_t key_bytes, const char *head,
                    uint32_t head_bytes, uint32_t kind, uint64_t value_bytes) {
  cbh_node *node = node_at(x, block);
  atomic_store_explicit(&node->next, 0, memory_order_relaxed);
  node->hash = hash;
  node->key_bytes = key_bytes;
  node->head_bytes = head_bytes;
  node->kind = kind;
  node->pid = cbh_place_pid(x->segment, x->segment->place);
  node->value_bytes = value_bytes;
  node->made_ns = cbh_now_ns();
  memcpy((char *)node + CBH_NODE_BYTES, key, key_bytes);
  if (head_bytes) memcpy((char *)node + CBH_NODE_BYTES + key_bytes, head, head_bytes);
}

// Everything that a node says about itself lies within its block, or the segment was written over.
RACY static bool describe(const cbh_index *x, uint64_t block, uint64_t capacity, uint64_t holders, cbh_found *found) {
  const cbh_node *node = node_at(x, block);
  found->block = block;
  found->key_bytes = *(volatile const uint32_t *)&node->key_bytes;
  found->head_bytes = *(volatile const uint32_t *)&node->head_bytes;
  found->kind = *(volatile const uint32_t *)&node->kind;
  found->pid = *(volatile const int32_t *)&node->pid;
  found->value_bytes = *(volatile const uint64_t *)&node->value_bytes;
  found->made_ns = *(volatile const uint64_t *)&node->made_ns;
  found->head_at = CBH_NODE_BYTES + found->key_bytes;
  found->value_at = cbh_node_value_at(found->key_bytes, found->head_bytes);
  found->holders = holders;
  return found->key_bytes <= CBH_LONGEST_KEY && found->value_at <= capacity && found->value_bytes <= capacity - found->value_at;
}

typedef struct {
  uint64_t block, previous, capacity;
  word_t *holders;
} spot;

RACY static bool same_key(const char *theirs, const char *key, uint32_t key_bytes) {
  for (uint32_t i = 0; i < key_bytes; i++)
    if (((volatile const char *)theirs)[i] != key[i]) return false;
  return true;
}

// Walks a chain. Safe on any memory: blocks are looked up in the extent table, keys compared within their block.
RACY static int walk(const cbh_index *x, uint64_t head, uint64_t hash, const char *key, uint32_t key_bytes, spot *found) {
  uint64_t at = head;
  found->previous = 0;
  for (uint64_t left = x->most_nodes; at != 0; left--) {
    if (left == 0) return CBH_CORRUPT;  // a ring
    found->holders = cbh_holders(x->segment, at, &found->capacity);
    if (!found->holders) return CBH_CORRUPT;
    cbh_node *node = node_at(x, at);
    if (*(volatile uint64_t *)&node->hash == hash && *(volatile uint32_t *)&node->key_bytes == key_bytes &&
        CBH_NODE_BYTES + (uint64_t)key_bytes <= found->capacity &&
        same_key((const char *)node + CBH_NODE_BYTES, key, key_bytes)) {
      found->block = at;
      return CBH_OK;
    }
    found->previous = at;
    at = atomic_load_explicit(&node->next, memory_order_acquire);
  }
  return CBH_NOT_FOUND;
}

// The same by block instead of key.
static bool reachable(const cbh_index *x, const cbh_bucket *bucket, uint64_t block) {
  uint64_t at = atomic_load_explicit(&((cbh_bucket *)bucket)->head, memory_order_acquire);
  for (uint64_t left = x->most_nodes; at != 0 && left != 0; left--) {
    if (at == block) return true;
    if (!cbh_holders(x->segment, at, NULL)) return false;
    at = atomic_load_explicit(&node_at(x, at)->next, memory_order_acquire);
  }
  return false;
}

// ------------------------------------------------------------------ lock
static uint32_t lock_word(const cbh_index *x) {
  return (x->segment->epoch & EPOCH_MASK) << EPOCH_SHIFT | (x->segment->place + 1);
}

static bool owner_gone(const cbh_index *x, uint32_t word, bool ask_system) {
  uint32_t place = (word & 0xff) - 1;
  if (place >= CBH_PLACES) return true;  // written over
  if ((cbh_place_epoch(x->segment, place) & EPOCH_MASK) != word >> EPOCH_SHIFT) return true;
  return ask_system && !cbh_place_attended(x->segment, place);
}

// Ends what the writer at `place` began. The caller has the bucket's lock, so that writer is dead and nobody else is at it;
// both blocks still have the writer's own bit, so they are what they were. Killed in here, the next one does it again.
static void settle(cbh_index *x, cbh_bucket *bucket, cbh_place *place, uint64_t intent) {
  uint64_t blocks[2];
  bool linked[2];
  for (int i = 0; i < 2; i++) {
    blocks[i] = atomic_load_explicit(&place->intent[1 + i], memory_order_relaxed);
    linked[i] = blocks[i] && reachable(x, bucket, blocks[i]);
    word_t *holders = blocks[i] && !linked[i] ? cbh_holders(x->segment, blocks[i], NULL) : NULL;
    if (holders) atomic_fetch_and(holders, ~CBH_LINKED);
  }
  cbh_crash_here(41);
  bool done = blocks[0] ? linked[0] : !linked[1];
  uint32_t before = (uint32_t)intent, effect = done ? (uint32_t)(blocks[0] != 0) - (uint32_t)(blocks[1] != 0) : 0;
  uint64_t keys = atomic_load_explicit(&place->counters[CBH_I_KEYS], memory_order_relaxed);
  int32_t missing = (int32_t)(before + effect - (uint32_t)keys);
  atomic_store_explicit(&place->counters[CBH_I_KEYS], keys + (uint64_t)(int64_t)missing, memory_order_relaxed);
  cbh_crash_here(42);
  // SYNC(intent): pairs with the acquire load in cbh_index_mend().
  atomic_store_explicit(&place->intent[0], 0, memory_order_release);
  add(x, CBH_I_MENDED, 1);
}

static void mend_bucket(cbh_index *x, uint64_t i) {
  cbh_bucket *bucket = &x->buckets[i];
  for (uint32_t p = 0; p < CBH_PLACES; p++) {
    cbh_place *place = &x->segment->places[p];
    uint64_t intent = atomic_load_explicit(&place->intent[0], memory_order_acquire);
    if (intent & INTENT && (intent >> 32 & 0x7fffffff) == i) settle(x, bucket, place, intent);
  }
  uint32_t version = atomic_load_explicit(&bucket->version, memory_order_relaxed);
  // SYNC(bucket-version): as in change_end().
  if (version & 1) atomic_store_explicit(&bucket->version, version + 1, memory_order_release);
  cbh_crash_here(43);
}

static int lock(cbh_index *x, uint64_t i, unsigned turn) {
  cbh_bucket *bucket = &x->buckets[i];
  if (!cbh_place_mine(x->segment)) return CBH_STALE;
  uint32_t word, mine = lock_word(x) | (turn ? SLEEPER : 0);  // who slept once does not know who else sleeps
  for (unsigned spin = 0; spin < SPINS; spin++) {
    word = atomic_load_explicit(&bucket->lock, memory_order_relaxed);
    // SYNC(bucket-lock): pairs with the release in unlock().
    if (word == 0 && atomic_compare_exchange_weak_explicit(&bucket->lock, &word, mine, memory_order_acquire, memory_order_relaxed)) {
      cbh_crash_here(20);
      // Odd in a free bucket: somebody wrote over it. Readers would wait for a writer that there is not.
      if (atomic_load_explicit(&bucket->version, memory_order_relaxed) & 1) mend_bucket(x, i);
      return CBH_OK;
    }
    relax();
  }
  if (word != 0 && owner_gone(x, word, turn > 0)) {
    // SYNC(bucket-lock): a dead owner gives nothing back; all it stored is there, as it does not run any more.
    if (atomic_compare_exchange_strong(&bucket->lock, &word, mine | SLEEPER)) {
      cbh_crash_here(40);
      add(x, CBH_I_STEALS, 1);
      mend_bucket(x, i);
      return CBH_OK;
    }
  }
  add(x, CBH_I_LOCK_WAITS, 1);
  return CBH_AGAIN;
}

static void unlock(cbh_index *x, uint64_t i) {
  // SYNC(bucket-lock): pairs with the acquire in lock().
  uint32_t word = atomic_exchange_explicit(&x->buckets[i].lock, 0, memory_order_release);
  cbh_crash_here(31);
  if (word & SLEEPER) futex(&x->buckets[i].lock, FUTEX_WAKE, 1, NULL);
}

void cbh_index_pause(cbh_index *x, uint64_t hash, unsigned turn) {
  cbh_bucket *bucket = &x->buckets[hash & x->mask];
  uint32_t word = atomic_load_explicit(&bucket->lock, memory_order_relaxed);
  while (word && !(word & SLEEPER))
    if (atomic_compare_exchange_weak(&bucket->lock, &word, word | SLEEPER)) word |= SLEEPER;
  // Bounded: the owner may be dead, and only time tells. 1 ms first, 20 ms at most.
  if (word) sleep_on(&bucket->lock, word, turn < 20 ? 1000000ull * (turn + 1) : 20000000ull);
}

int cbh_index_visit(cbh_index *x, uint64_t i, unsigned turn) {
  int code = lock(x, i & x->mask, turn);
  if (code == CBH_OK) unlock(x, i & x->mask);
  return code;
}

void cbh_index_mend(void *index, uint32_t place) {
  cbh_index *x = index;
  for (unsigned turn = 0;; turn++) {
    // SYNC(intent): pairs with the release stores in note_intent() and settle().
    uint64_t intent = atomic_load_explicit(&x->segment->places[place].intent[0], memory_order_acquire);
    if (!(intent & INTENT)) return;
    uint64_t i = intent >> 32 & 0x7fffffff;
    if (i > x->mask) {  // written over
      atomic_store_explicit(&x->segment->places[place].intent[0], 0, memory_order_release);
      return;
    }
    cbh_bucket *bucket = &x->buckets[i];
    // Not lock(): we may have no place of our own. The fence made us the one who answers for the dead one's place, and
    // raised its epoch: the lock that we take in its name is not the one it held. Another process may break that first.
    uint32_t word = atomic_load_explicit(&bucket->lock, memory_order_relaxed);
    uint32_t ours = (cbh_place_epoch(x->segment, place) & EPOCH_MASK) << EPOCH_SHIFT | (place + 1) | SLEEPER;
    bool owner_dead = word == 0 || owner_gone(x, word, turn > 0);
    if (owner_dead && atomic_compare_exchange_strong(&bucket->lock, &word, ours)) {
      mend_bucket(x, i);
      unlock(x, i);
    } else {
      cbh_index_pause(x, i, turn);
    }
  }
}

// ------------------------------------------------------------------ read
static int read_locked(cbh_index *x, uint64_t hash, const char *key, uint32_t key_bytes, unsigned turn, cbh_found *found) {
  uint64_t i = hash & x->mask;
  spot here;
  int code = lock(x, i, turn);
  if (code != CBH_OK) return code;
  code = walk(x, atomic_load_explicit(&x->buckets[i].head, memory_order_acquire), hash, key, key_bytes, &here);
  if (code == CBH_OK && found) {
    uint64_t holders = atomic_fetch_or(here.holders, me(x));
    if (!(holders & CBH_LINKED) || !describe(x, here.block, here.capacity, holders, found)) {
      if (!(holders & me(x))) atomic_fetch_and(here.holders, ~me(x));
      code = CBH_CORRUPT;
    }
  }
  unlock(x, i);
  return code;
}

int cbh_index_get(cbh_index *x, const char *key, uint32_t key_bytes, uint64_t hash, unsigned turn, cbh_found *found) {
  cbh_bucket *bucket = &x->buckets[hash & x->mask];
  if (x->segment->place >= CBH_PLACES) return CBH_STALE;
  if (turn > 0) return read_locked(x, hash, key, key_bytes, turn - 1, found);
  add(x, CBH_I_GETS, 1);
  for (unsigned look = 0; look < TRIES; look++) {
    spot here;
    // SYNC(bucket-version): pairs with the release stores in change_begin() and change_end().
    uint32_t version = atomic_load_explicit(&bucket->version, memory_order_acquire);
    if (version & 1) {
      relax();
      continue;
    }
    int code = walk(x, atomic_load_explicit(&bucket->head, memory_order_acquire), hash, key, key_bytes, &here);
    uint64_t holders = 0;
    if (code == CBH_OK && found) {
      // SYNC(block-linked): pairs with the release in link and unlink. A block that the index does not link any more may
      // be anybody's: its word is left alone. One that was linked anew is held for a moment, and the version tells.
      holders = atomic_load_explicit(here.holders, memory_order_relaxed);
      while (holders & CBH_LINKED && !atomic_compare_exchange_weak_explicit(here.holders, &holders, holders | me(x),
                                                                            memory_order_acq_rel, memory_order_relaxed)) {}
      cbh_crash_here(50);
      if (!(holders & CBH_LINKED)) continue;
    }
    settle_loads();
    if (atomic_load_explicit(&bucket->version, memory_order_acquire) == version) {
      if (code == CBH_OK) add(x, CBH_I_HITS, 1);
      if (code != CBH_OK || !found || describe(x, here.block, here.capacity, holders, found)) return code;
      code = CBH_CORRUPT;
    }
    if (holders && !(holders & me(x))) atomic_fetch_and(here.holders, ~me(x));
    if (code == CBH_CORRUPT && atomic_load(&bucket->version) == version) return code;
    add(x, CBH_I_RETRIES, 1);
  }
  return CBH_AGAIN;
}

RACY int cbh_index_observe(const cbh_index *x, uint64_t i, cbh_found *seen, uint32_t most, char *keys, uint64_t room) {
  const cbh_segment *s = x->segment;
  cbh_bucket *bucket = &x->buckets[i & x->mask];
  for (unsigned look = 0; look < 4 * TRIES; look++) {
    uint32_t version = atomic_load_explicit(&bucket->version, memory_order_acquire), count = 0;
    uint64_t at = atomic_load_explicit(&bucket->head, memory_order_acquire), used = 0, capacity;
    int code = version & 1 ? CBH_AGAIN : CBH_OK;
    for (; code == CBH_OK && at != 0; count++) {
      word_t *holders = cbh_holders(s, at, &capacity);
      if (count > x->most_nodes) code = CBH_CORRUPT;
      else if (!holders) code = CBH_CORRUPT;
      else if (count == most) code = CBH_FULL;
      else if (!describe(x, at, capacity, atomic_load_explicit(holders, memory_order_relaxed), &seen[count])) code = CBH_CORRUPT;
      else if (seen[count].key_bytes > room - used) code = CBH_FULL;
      if (code != CBH_OK) break;
      const volatile char *from = (const volatile char *)s->base + at + CBH_NODE_BYTES;
      for (uint32_t k = 0; k < seen[count].key_bytes; k++) keys[used++] = from[k];
      at = atomic_load_explicit(&node_at(x, at)->next, memory_order_acquire);
    }
    settle_loads();
    if (code != CBH_AGAIN && atomic_load_explicit(&bucket->version, memory_order_acquire) == version)
      return code == CBH_OK ? (int)count : code;
    relax();
  }
  return CBH_AGAIN;
}

// ------------------------------------------------------------------ write
static void change_begin(cbh_bucket *bucket) {
  uint32_t version = atomic_load_explicit(&bucket->version, memory_order_relaxed);
  // SYNC(bucket-version): whoever reads a link of ours (release, acquire) reads this or a later version after it.
  atomic_store_explicit(&bucket->version, version + 1, memory_order_release);
}

static void change_end(cbh_bucket *bucket) {
  uint32_t version = atomic_load_explicit(&bucket->version, memory_order_relaxed);
  // SYNC(bucket-version): pairs with the acquire loads of readers.
  atomic_store_explicit(&bucket->version, version + 1, memory_order_release);
}

static void note_intent(cbh_index *x, uint64_t i, uint64_t fresh, uint64_t old) {
  cbh_place *place = &x->segment->places[x->segment->place];
  uint64_t keys = atomic_load_explicit(&place->counters[CBH_I_KEYS], memory_order_relaxed);
  atomic_store_explicit(&place->intent[1], fresh, memory_order_relaxed);
  atomic_store_explicit(&place->intent[2], old, memory_order_relaxed);
  cbh_crash_here(21);
  // SYNC(intent): pairs with the acquire loads in mend_bucket() and cbh_index_mend().
  atomic_store_explicit(&place->intent[0], INTENT | i << 32 | (keys & 0xffffffff), memory_order_release);
  cbh_crash_here(22);
}

static void forget_intent(cbh_index *x) {
  atomic_store_explicit(&x->segment->places[x->segment->place].intent[0], 0, memory_order_release);
  cbh_crash_here(30);
}

static void wake_waiters(cbh_index *x, cbh_bucket *bucket) {
  // The load must not come before the new version is there: who sets `waiting` looks at the version after it.
  uint32_t who = atomic_fetch_or(&bucket->waiting, 0);
  if (!who) return;
  who = atomic_exchange(&bucket->waiting, 0);
  cbh_crash_here(32);
  add(x, CBH_I_WAKES, 1);
  if (who & 1) futex(&bucket->version, FUTEX_WAKE, INT_MAX, NULL);
  if (who & 2) cbh_index_ring(x);
}

// Puts `fresh` (0: nothing) where `here` says; the old node, if there is one, is out of the chain by the same store.
static void change(cbh_index *x, uint64_t i, const spot *here, uint64_t fresh, word_t *fresh_holders) {
  cbh_bucket *bucket = &x->buckets[i];
  uint64_t old = here->block;
  note_intent(x, i, fresh, old);
  uint64_t rest = old ? atomic_load_explicit(&node_at(x, old)->next, memory_order_relaxed)
                      : atomic_load_explicit(&bucket->head, memory_order_relaxed);
  // A new key goes to the head of the chain, a new value to the place of the old.
  word_t *link = old && here->previous ? &node_at(x, here->previous)->next : &bucket->head;
  if (fresh) {
    atomic_store_explicit(&node_at(x, fresh)->next, rest, memory_order_relaxed);
    // SYNC(block-linked): release, so that who sees the bit sees the whole node; pairs with cbh_index_get().
    atomic_fetch_or_explicit(fresh_holders, CBH_LINKED, memory_order_acq_rel);
    cbh_crash_here(23);
  }
  change_begin(bucket);
  cbh_crash_here(24);
  atomic_store_explicit(link, fresh ? fresh : rest, memory_order_release);  // the one store that counts
  cbh_crash_here(25);
  if (old) {
    atomic_fetch_and_explicit(here->holders, ~CBH_LINKED, memory_order_acq_rel);
    cbh_crash_here(26);
  }
  add(x, CBH_I_KEYS, (uint64_t)(fresh != 0) - (uint64_t)(old != 0));
  cbh_crash_here(27);
  change_end(bucket);
  cbh_crash_here(28);
  forget_intent(x);
}

int cbh_index_link(cbh_index *x, uint64_t block, unsigned flags, unsigned turn, cbh_found *other) {
  cbh_node *node = node_at(x, block);
  uint64_t i = node->hash & x->mask, capacity;
  word_t *fresh_holders = cbh_holders(x->segment, block, &capacity);
  if (!fresh_holders) return CBH_CORRUPT;
  int code = lock(x, i, turn);
  if (code != CBH_OK) return code;
  spot here = {0};
  code = walk(x, atomic_load_explicit(&x->buckets[i].head, memory_order_acquire), node->hash, (const char *)node + CBH_NODE_BYTES,
              node->key_bytes, &here);
  if (code == CBH_OK) {
    // Our bit keeps the old block what it is until the intent is cleared, and longer if the caller wants its value.
    uint64_t holders = atomic_fetch_or(here.holders, me(x));
    if (!(holders & CBH_LINKED) || !describe(x, here.block, here.capacity, holders, other)) {
      if (!(holders & me(x))) atomic_fetch_and(here.holders, ~me(x));
      code = CBH_CORRUPT;
    }
  } else {
    here.block = 0;
  }
  if (code == CBH_CORRUPT || (code == CBH_OK && flags & CBH_KEEP_OLD)) {
    unlock(x, i);
    return code == CBH_OK ? 1 : code;
  }
  change(x, i, &here, block, fresh_holders);
  add(x, CBH_I_SETS, 1);
  unlock(x, i);
  wake_waiters(x, &x->buckets[i]);
  return code == CBH_OK ? 1 : CBH_OK;
}

int cbh_index_unlink(cbh_index *x, const char *key, uint32_t key_bytes, uint64_t hash, unsigned turn, cbh_found *found) {
  uint64_t i = hash & x->mask;
  spot here = {0};
  int code = lock(x, i, turn);
  if (code != CBH_OK) return code;
  code = walk(x, atomic_load_explicit(&x->buckets[i].head, memory_order_acquire), hash, key, key_bytes, &here);
  if (code == CBH_OK) {
    uint64_t holders = atomic_fetch_or(here.holders, me(x));
    if (!(holders & CBH_LINKED) || !describe(x, here.block, here.capacity, holders, found)) {
      if (!(holders & me(x))) atomic_fetch_and(here.holders, ~me(x));
      code = CBH_CORRUPT;
    } else {
      change(x, i, &here, 0, NULL);
      add(x, CBH_I_DELETES, 1);
    }
  }
  unlock(x, i);
  return code;
}

// ------------------------------------------------------------------ count
uint64_t cbh_index_counted(const cbh_index *x, uint32_t counter) {
  uint64_t sum = 0;
  for (uint32_t p = 0; counter < CBH_I_COUNTERS && p < CBH_PLACES; p++)
    sum += atomic_load_explicit(&x->segment->places[p].counters[counter], memory_order_relaxed);
  return sum;
}

uint64_t cbh_index_length(const cbh_index *x) {
  uint64_t keys = cbh_index_counted(x, CBH_I_KEYS);
  return keys > x->most_nodes ? 0 : keys;  // a key may be counted out at one place before it is counted in at another
}

// ------------------------------------------------------------------ wait
uint32_t cbh_index_version(const cbh_index *x, uint64_t hash) { return atomic_load(&x->buckets[hash & x->mask].version); }

static _Atomic uint32_t *changes(const cbh_index *x) {  // the low half: both kinds of machine are little-endian
  return (_Atomic uint32_t *)&x->segment->shared->version_counter;
}

uint32_t cbh_index_changes(const cbh_index *x) { return atomic_load(changes(x)); }

void cbh_index_arm(cbh_index *x, uint64_t hash) { atomic_fetch_or(&x->buckets[hash & x->mask].waiting, 2u); }

void cbh_index_ring(cbh_index *x) {
  atomic_fetch_add(changes(x), 1u);
  futex(changes(x), FUTEX_WAKE, INT_MAX, NULL);
}

void cbh_index_wait(cbh_index *x, uint64_t hash, uint32_t seen_version, uint64_t wait_ns) {
  cbh_bucket *bucket = &x->buckets[hash & x->mask];
  atomic_fetch_or(&bucket->waiting, 1u);  // before the kernel's look at the version: see wake_waiters()
  sleep_on(&bucket->version, seen_version, wait_ns);
}

void cbh_index_wait_any(cbh_index *x, uint32_t seen, uint64_t wait_ns) { sleep_on(changes(x), seen, wait_ns); }

// ------------------------------------------------------------------ fork
int cbh_index_after_fork(cbh_index *x) {
  cbh_heap_forget(&x->segment->heap);  // the parent's blocks are the parent's to hand out
  x->segment->place = CBH_OBSERVER;
  return cbh_place_take(x->segment, CBH_OBSERVER);
}

bool cbh_index_adopt(cbh_index *x, uint64_t block, uint32_t parent_place) {
  word_t *holders = cbh_holders(x->segment, block, NULL);
  uint64_t word = holders ? atomic_load(holders) : 0;
  while (word & cbh_bit(parent_place))
    if (atomic_compare_exchange_weak(holders, &word, word | me(x))) return true;
  return false;
}
