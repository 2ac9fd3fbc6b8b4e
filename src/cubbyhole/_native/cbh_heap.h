// SPDX-License-Identifier: Apache-2.0
//
// The arena: who may look at which block, and who may hand out which.
//
// The arena is an array of extents of 1 MiB. An extent belongs to one process, which alone hands out its blocks (all of
// one size class), or is part of a run (one large block). Each block has one word, `holders`: a bit for each process that
// may still look at it. Zero is free. There is nothing else to repair after a death than those bits, and no lock.
//
//   give a block to another process:  set its bit, then clear ours
//   hand out a block:                 CAS holders 0 -> our bit, then look whether the extent is still ours
//   take over an empty extent:        CAS every holders word 0 -> STEALING + our bit; if all were free, CAS the extent word
//
// The second look and the STEALING bits exclude each other: once our bit is in, no thief gets all words. A thief that
// dies half way is known by its own bit, and reaped like any holder.
#ifndef CBH_HEAP_H
#define CBH_HEAP_H

#include "cbh_layout.h"

struct cbh_segment;

#define CBH_RECENT 32u   // blocks handed out last, looked at first: the warmest memory there is
#define CBH_RUNS 64u     // runs that this process keeps for itself

typedef struct {
  uint32_t *items, count, capacity;
} cbh_stack;

typedef struct {         // private to the process; losing it loses nothing
  cbh_stack free[CBH_CLASSES];                       // block numbers: extent << 12 | index; a hint, checked when used
  uint32_t recent[CBH_CLASSES][CBH_RECENT], recent_head[CBH_CLASSES], recent_count[CBH_CLASSES];
  uint32_t dropped[CBH_CLASSES][CBH_RECENT], dropped_count[CBH_CLASSES];  // by ourselves, last in first out
  uint32_t scan_at[CBH_CLASSES];
  struct { uint32_t extent, length; } runs[CBH_RUNS];
  uint32_t run_count;
} cbh_heap;

// A block of at least `bytes`, held by the caller's place. Its offset, or a negative cbh_code.
int64_t cbh_alloc(struct cbh_segment *segment, uint64_t bytes);
// The holders word and the size of the block that starts at `offset`; NULL if no block starts there.
_Atomic uint64_t *cbh_holders(const struct cbh_segment *segment, uint64_t offset, uint64_t *capacity_bytes);
int cbh_hold(struct cbh_segment *segment, uint64_t offset, uint64_t bits);
int cbh_drop(struct cbh_segment *segment, uint64_t offset, uint64_t bits);
// Drops the bit of `place` from every block: its process is dead. From every word that ever stood for a block, in fact: it may
// have died with its hand on a block of an extent that others had lifted meanwhile.
void cbh_drop_everywhere(struct cbh_segment *segment, uint32_t place);
// Gives free memory back to the system; returns the bytes.
uint64_t cbh_trim(struct cbh_segment *segment);
// Faults the first `bytes` of our first extent of the class in, so that the first requests find warm memory.
void cbh_warm(struct cbh_segment *segment, uint64_t block_bytes, uint64_t bytes);
// Bytes in blocks that somebody holds, and their number.
void cbh_usage(const struct cbh_segment *segment, uint64_t *bytes, uint64_t *blocks);
uint64_t cbh_largest(const struct cbh_segment *segment);  // largest block that an empty arena could give
void cbh_heap_forget(cbh_heap *heap);                     // frees the private lists

static inline uint64_t cbh_bit(uint32_t place) { return place < CBH_PLACES ? 1ull << place : 0; }

#endif
