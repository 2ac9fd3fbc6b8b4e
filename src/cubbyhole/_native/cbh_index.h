// SPDX-License-Identifier: Apache-2.0
//
// The index of `SharedDict`: string keys -> blocks of the arena.
//
// The body of the segment is an array of buckets; a bucket is the head of a chain of nodes; a node is the block that also
// holds the value. A linked node never changes but for its `next`: to replace is to link another node in its place.
//
//   read      takes no lock: look at the bucket's version, walk, set our bit in the block's holders if the index still links
//             it, look at the version again. A reader that is stopped or killed in the middle hinders nobody.
//   write     takes the bucket's lock (owner place and epoch in one word), notes its intent at its place, changes one
//             link by one store, clears the intent, gives the lock back.
//   death     whoever finds the lock of a dead owner takes it over and brings its intent to an end; cbh_place_reap() calls
//             cbh_index_mend() before it drops what the dead one held, so that no block of an intent is reused before.
//
// One place must not be inside two of these functions at once; the binding keeps the GIL. None of them blocks but the
// three that say so; where a lock is taken they answer CBH_AGAIN, to be called again with `turn` raised by one after
// cbh_index_pause().
#ifndef CBH_INDEX_H
#define CBH_INDEX_H

#include "cbh_segment.h"

#define CBH_BUCKET_BYTES 64u
#define CBH_NODE_BYTES 64u           // header of a node; then key, typed head, padding to 64, value
#define CBH_MOST_BUCKETS (1u << 24)
#define CBH_LONGEST_KEY 65535u       // bytes: a chain stays quick to walk, and a snapshot bounded

enum { CBH_PARAMETER_BUCKETS, CBH_PARAMETER_SEED };
enum { CBH_KEEP_OLD = 1 };           // cbh_index_link: leave a value that is there already

enum cbh_index_counter {             // of each place, in its counters[]; they go on counting for who sits there next
  CBH_I_KEYS, CBH_I_GETS, CBH_I_HITS, CBH_I_SETS, CBH_I_DELETES, CBH_I_RETRIES, CBH_I_LOCK_WAITS, CBH_I_STEALS, CBH_I_MENDED,
  CBH_I_WAKES, CBH_I_COUNTERS
};

typedef struct {
  _Alignas(64) _Atomic uint32_t lock;  // 0, or owner: epoch 23 | somebody sleeps 1 | place + 1, 8
  _Atomic uint32_t version;            // odd while a writer changes the chain; futex of who waits for a key
  _Atomic uint64_t head;               // block of the first node; 0: none
  _Atomic uint32_t waiting;            // 1: somebody sleeps on `version`; 2: somebody waits for the header's counter
} cbh_bucket;
_Static_assert(sizeof(cbh_bucket) == CBH_BUCKET_BYTES, "buckets do not share cache lines");

typedef struct {
  _Atomic uint64_t next;
  uint64_t hash;
  uint32_t key_bytes, head_bytes;
  uint32_t kind;                       // of the value: dictionary/values.py
  int32_t pid;                         // of the writer
  uint64_t value_bytes;
  uint64_t made_ns;                    // monotonic
  uint64_t spare[2];
} cbh_node;
_Static_assert(sizeof(cbh_node) == CBH_NODE_BYTES, "the header of a node is one cache line");

typedef struct {                       // private to a process: checked once, so that later scribbles cannot move it
  cbh_segment *segment;
  cbh_bucket *buckets;
  uint64_t mask, seed, most_nodes;
} cbh_index;

typedef struct {                       // a value that we hold, or that was seen
  uint64_t block, head_at, value_at, value_bytes, made_ns, holders;
  uint32_t key_bytes, head_bytes, kind;
  int32_t pid;
} cbh_found;

uint64_t cbh_index_body_bytes(uint64_t buckets);
// Checks the parameters, and makes cbh_place_reap() mend what a dead writer began. `index` must outlive the segment.
int cbh_index_open(cbh_index *index, cbh_segment *segment);
void cbh_index_close(cbh_index *index);
uint64_t cbh_index_hash(const cbh_index *index, const char *key, uint32_t key_bytes);

// Bytes of a block for such a node; 0: too large to say.
uint64_t cbh_node_bytes(uint64_t key_bytes, uint64_t head_bytes, uint64_t value_bytes);
uint64_t cbh_node_value_at(uint64_t key_bytes, uint64_t head_bytes);
// Writes all of a node but its value into a block of ours.
void cbh_node_write(cbh_index *index, uint64_t block, uint64_t hash, const char *key, uint32_t key_bytes, const char *head,
                    uint32_t head_bytes, uint32_t kind, uint64_t value_bytes);

// Finds a key. With `found` its block is held (our bit is set; the caller drops it). CBH_OK, NOT_FOUND, AGAIN, CORRUPT.
int cbh_index_get(cbh_index *index, const char *key, uint32_t key_bytes, uint64_t hash, unsigned turn, cbh_found *found);
// Links a node that we wrote and hold, and unlinks the one with the same key: `other`, held by us like the new one.
// CBH_OK: nothing was there; 1: `other` was there. With CBH_KEEP_OLD and 1 nothing changed.
int cbh_index_link(cbh_index *index, uint64_t block, unsigned flags, unsigned turn, cbh_found *other);
// Unlinks a key: `found` is held by us.
int cbh_index_unlink(cbh_index *index, const char *key, uint32_t key_bytes, uint64_t hash, unsigned turn, cbh_found *found);

// Copies what is in a bucket without any lock: records in `seen`, their keys one after another in `keys`.
// The number of nodes; CBH_AGAIN: a writer is in it; CBH_FULL: more nodes or longer keys than there is room for.
int cbh_index_observe(const cbh_index *index, uint64_t bucket, cbh_found *seen, uint32_t most, char *keys, uint64_t keys_room);
// Takes and gives back a bucket's lock: whoever died in it is out of it now.
int cbh_index_visit(cbh_index *index, uint64_t bucket, unsigned turn);
// Brings what the process at `place` began to an end. Called by cbh_place_reap(). Blocks.
void cbh_index_mend(void *index, uint32_t place);

uint64_t cbh_index_length(const cbh_index *index);
uint64_t cbh_index_counted(const cbh_index *index, uint32_t counter);

uint32_t cbh_index_version(const cbh_index *index, uint64_t hash);
uint32_t cbh_index_changes(const cbh_index *index);
void cbh_index_arm(cbh_index *index, uint64_t hash);   // the next change of this bucket also rings the header's counter
void cbh_index_ring(cbh_index *index);
// These sleep, at most `wait_ns`, and touch nothing that is private to the process.
void cbh_index_pause(cbh_index *index, uint64_t hash, unsigned turn);
void cbh_index_wait(cbh_index *index, uint64_t hash, uint32_t seen_version, uint64_t wait_ns);
void cbh_index_wait_any(cbh_index *index, uint32_t seen_changes, uint64_t wait_ns);

// In a forked child: a place of its own, and a bit of its own on a block that its parent held (false: it does not any more).
int cbh_index_after_fork(cbh_index *index);
bool cbh_index_adopt(cbh_index *index, uint64_t block, uint32_t parent_place);

#endif
