// SPDX-License-Identifier: Apache-2.0
//
// A segment: one memfd, mapped by every process that takes part, and the places at which they sit.
#ifndef CBH_SEGMENT_H
#define CBH_SEGMENT_H

#include "cbh_layout.h"
#include "cbh_heap.h"

typedef struct cbh_segment {  // private to a process: where the segment is mapped here, and as whom
  char *base;
  uint64_t bytes;
  cbh_header checked;         // the header as it was when it was checked: later scribbles cannot move anything
  const cbh_header *header;   // that copy
  cbh_header *shared;         // the segment's: only its two atomic words are used
  cbh_place *places;
  uint32_t place;             // CBH_OBSERVER: holds nothing
  uint32_t epoch;             // of our stay at that place
  uint32_t left_to_others;    // the last extents of the arena, of which we take none
  cbh_heap heap;
  // Ends what a dead process began; between the fence and the drop of what it held, which is what it may still need.
  void (*mend)(void *context, uint32_t place);
  void *mend_context;
} cbh_segment;

// Makes the memfd and writes the header. The file descriptor, or a negative cbh_code.
int cbh_segment_create(uint32_t kind, uint64_t body_bytes, uint64_t arena_bytes, const uint64_t parameters[8]);
// Maps a segment and checks all of its header. The caller is an observer until it takes a place.
int cbh_segment_map(cbh_segment *segment, int fd, uint32_t kind);
void cbh_segment_unmap(cbh_segment *segment);

// Sits down at `place`, or at any free place of [from, to) if it is CBH_OBSERVER. A place whose process is dead is
// reaped first (its holds are dropped); what else it left is the caller's affair (cbh_dict.h, cbh_index.h).
int cbh_place_take(cbh_segment *segment, uint32_t place);
void cbh_place_leave(cbh_segment *segment);
// Whether the process at `place` still lives. A free place counts as dead.
bool cbh_place_alive(const cbh_segment *segment, uint32_t place);
// Whether somebody answers for the place: its process, or the one that reaps it.
bool cbh_place_attended(const cbh_segment *segment, uint32_t place);
bool cbh_place_mine(const cbh_segment *segment);   // false: somebody reclaimed it
uint32_t cbh_place_epoch(const cbh_segment *segment, uint32_t place);
int32_t cbh_place_pid(const cbh_segment *segment, uint32_t place);
// Makes the process at `place` count as dead: raises the epoch, so that whatever it still writes is refused, and
// drops all that it held. Safe to repeat, and safe to be killed in. In two steps for who has to look in between:
// fence (CBH_AGAIN: another process is at it; CBH_NOT_FOUND: nobody sits there), then free.
int cbh_place_reap(cbh_segment *segment, uint32_t place);
int cbh_place_fence(cbh_segment *segment, uint32_t place);
// Whether the process that was fenced off runs all the same: then its place stays taken, and what it holds its own.
bool cbh_place_lingers(const cbh_segment *segment, uint32_t place);
void cbh_place_free(cbh_segment *segment, uint32_t place);

// Dies here, by SIGKILL, if the test armed this point: each of them is a place where a real process may be killed. Or it stops
// here, by SIGSTOP, once, so that the test can let others do something between two instructions.
#ifdef CBH_CRASH_POINTS
extern int cbh_crash_armed, cbh_stop_armed;
void cbh_crash_here(int point);
#else
#define cbh_crash_here(point) ((void)0)
#endif

uint64_t cbh_now_ns(void);
static inline void cbh_count(cbh_segment *s, enum cbh_counter which, uint64_t n) {
  if (s->place >= CBH_PLACES) return;
  _Atomic uint64_t *c = &s->places[s->place].counters[which];
  atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

#endif
