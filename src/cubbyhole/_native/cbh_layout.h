// SPDX-License-Identifier: Apache-2.0
//
// The byte map of a segment. Everything that two processes share is declared here and nowhere else.
//
//   header | places | extent words, words used | block holders | body (slots or buckets) | arena
//
// Rules: offsets only, no pointer; what is read from the segment is checked before it is used as an offset, a length
// or an index; a fact that several processes change is one atomic word. See docs/design/segment-layout.md.
#ifndef CBH_LAYOUT_H
#define CBH_LAYOUT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CBH_MAGIC 0x454c4f4859424255ull  // "UBBYHOLE"
#define CBH_LAYOUT_VERSION 3u

#define CBH_PLACES 62u               // processes attached at once: one bit each in a block's holders, two bits are spare
#define CBH_OBSERVER 63u             // looks, and holds nothing
#define CBH_LINKED (1ull << 63)      // holder bit of the dictionary itself
#define CBH_STEALING (1ull << 62)    // holder bit of whoever takes an empty extent over

#define CBH_EXTENT_SHIFT 20          // 1 MiB: small enough to give back, large enough to be rare
#define CBH_EXTENT_BYTES (1ull << CBH_EXTENT_SHIFT)
#define CBH_BLOCK_SHIFT 8            // smallest block: 256 bytes
#define CBH_CLASSES 11               // 256 B, 512 B, ... 256 KiB; above: runs of whole extents
#define CBH_LARGEST_CLASS_BYTES (1ull << (CBH_BLOCK_SHIFT + CBH_CLASSES - 1))
#define CBH_EXTENT_BLOCKS (1u << (CBH_EXTENT_SHIFT - CBH_BLOCK_SHIFT))

enum cbh_kind { CBH_KIND_ENTRIES = 1, CBH_KIND_DICTIONARY = 2 };

// What every function of the core returns when it does not succeed. `channels/shm.py` and `dictionary/` map each to an error.
enum cbh_code {
  CBH_OK = 0,
  CBH_FULL = -1,          // no free slot, or no room in the arena now
  CBH_TOO_LARGE = -2,     // would not fit an empty arena
  CBH_STALE = -3,         // the place was reclaimed: this process counts as dead
  CBH_NO_PLACE = -4,      // all places are taken
  CBH_WRONG_LAYOUT = -5,  // no segment, or another version
  CBH_CORRUPT = -6,       // a value in the segment is out of its bounds
  CBH_SYSTEM = -7,        // a system call failed: errno tells
  CBH_NOT_FOUND = -8,
  CBH_AGAIN = -9,         // nothing now, or no credit
  CBH_CODES = 10
};

// Extent word: run length or distance to the head 32 | epoch 16 | owner place + 1, 8 | class 8
enum { CBH_EXTENT_FREE = 0, CBH_EXTENT_RUN = 0xf0, CBH_EXTENT_TAIL = 0xf1, CBH_EXTENT_TAKING = 0xf2 };  // else class + 1

// Place word: epoch 24 | phase 8 | pid 32
enum { CBH_PLACE_FREE = 0, CBH_PLACE_TAKING = 1, CBH_PLACE_LIVE = 2, CBH_PLACE_REAPING = 3 };

enum cbh_counter {  // of each place, written by its process only
  CBH_N_SUBMITTED, CBH_N_CLAIMED, CBH_N_PUBLISHED, CBH_N_CHUNKS, CBH_N_FAILED, CBH_N_CANCELLED, CBH_N_RECLAIMED,
  CBH_N_RINGS, CBH_N_REQUEST_BYTES, CBH_N_RESULT_BYTES, CBH_N_COPIED_BYTES, CBH_N_EXPIRED, CBH_N_RETRIED, CBH_COUNTERS = 16
};

typedef struct {
  _Alignas(64) _Atomic uint64_t word;   // who sits here
  _Atomic uint64_t start_time;          // of that process, in clock ticks since boot: a pid alone may come again
  _Atomic uint64_t intent[3];           // what the index was about to change (cbh_index.h); [0] in a server: a block that is
                                        // being lent to a front, and its place + 1 (cbh_lend)
  _Atomic uint32_t rung;                // 1: its doorbell was rung and it has not looked yet
  _Atomic uint32_t lingering;           // pid of who was declared dead here while it ran: it holds what it holds until it ends
  _Alignas(64) _Atomic uint64_t counters[CBH_COUNTERS];
} cbh_place;
_Static_assert(sizeof(cbh_place) == 192, "a place is three cache lines");

typedef struct {
  _Atomic uint64_t magic;               // stored last when a segment is made
  uint32_t version;
  uint32_t kind;
  uint64_t segment_bytes;
  uint64_t places_at, extents_at, holders_at, body_at, arena_at;
  uint64_t body_bytes;
  uint32_t place_count, extent_count;
  uint64_t parameters[8];               // of the body: cbh_dict.h, cbh_index.h
  _Alignas(64) _Atomic uint64_t extent_cursor;  // where the search for free extents starts: a hint
  _Alignas(64) _Atomic uint64_t version_counter; // counts changes for whoever waits for any (index)
} cbh_header;
_Static_assert(sizeof(_Atomic uint64_t) == 8 && ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");
_Static_assert(offsetof(cbh_header, extent_cursor) % 64 == 0, "the cursor has a cache line of its own");

#endif
