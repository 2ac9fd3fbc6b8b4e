// SPDX-License-Identifier: Apache-2.0
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cbh_segment.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef _Atomic uint64_t word_t;

// ------------------------------------------------------------------ words
static word_t *extent_words(const cbh_segment *s) { return (word_t *)(s->base + s->header->extents_at); }
static word_t *used_words(const cbh_segment *s) { return extent_words(s) + s->header->extent_count; }
static word_t *holder_words(const cbh_segment *s, uint32_t extent) {
  return (word_t *)(s->base + s->header->holders_at) + (uint64_t)extent * CBH_EXTENT_BLOCKS;
}
static uint64_t extent_word(const cbh_segment *s, uint32_t kind, uint32_t length) {
  return (uint64_t)length << 32 | (uint64_t)(s->epoch & 0xffff) << 16 | (uint64_t)(s->place + 1) << 8 | kind;
}
static uint32_t kind_of(uint64_t word) { return (uint32_t)(word & 0xff); }
static uint32_t length_of(uint64_t word) { return (uint32_t)(word >> 32); }
static bool is_class(uint32_t kind) { return kind >= 1 && kind <= CBH_CLASSES; }
static uint32_t class_blocks(uint32_t cls) { return CBH_EXTENT_BLOCKS >> cls; }
static uint64_t class_bytes(uint32_t cls) { return 1ull << (CBH_BLOCK_SHIFT + cls); }
static uint64_t block_offset(const cbh_segment *s, uint32_t extent, uint32_t cls, uint32_t index) {
  return s->header->arena_at + ((uint64_t)extent << CBH_EXTENT_SHIFT) + index * class_bytes(cls);
}
static uint64_t me(const cbh_segment *s) { return cbh_bit(s->place); }

// Extents below which we may take one; a front leaves the others to the workers.
static uint32_t reach(const cbh_segment *s) { return s->header->extent_count - s->left_to_others; }

uint64_t cbh_largest(const cbh_segment *s) { return (uint64_t)reach(s) << CBH_EXTENT_SHIFT; }

// ------------------------------------------------------------------ private lists
static void push(cbh_stack *stack, uint32_t item) {
  if (stack->count == stack->capacity) {
    uint32_t capacity = stack->capacity ? 2 * stack->capacity : 256;
    uint32_t *items = realloc(stack->items, 4ull * capacity);
    if (!items) return;  // only a hint is lost: the next scan finds the block again
    stack->items = items;
    stack->capacity = capacity;
  }
  stack->items[stack->count++] = item;
}

void cbh_heap_forget(cbh_heap *heap) {
  for (int c = 0; c < CBH_CLASSES; c++) free(heap->free[c].items);
  memset(heap, 0, sizeof *heap);
}

static void note_dropped(cbh_heap *heap, uint32_t cls, uint32_t item) {
  if (heap->dropped_count[cls] == CBH_RECENT) heap->dropped_count[cls]--;  // forgotten; a scan finds it
  heap->dropped[cls][heap->dropped_count[cls]++] = item;
}

static void remember(cbh_heap *heap, uint32_t cls, uint32_t item) {
  if (heap->recent_count[cls] == CBH_RECENT) {  // the oldest is forgotten; a scan finds it when it is free
    heap->recent_head[cls] = (heap->recent_head[cls] + 1) % CBH_RECENT;
    heap->recent_count[cls]--;
  }
  heap->recent[cls][(heap->recent_head[cls] + heap->recent_count[cls]++) % CBH_RECENT] = item;
}

// ------------------------------------------------------------------ blocks of a class
// Tries to make block `item` ours. The extent may have been taken over since we noted it: set the bit, then look.
static int64_t grab(cbh_segment *s, uint32_t cls, uint32_t item) {
  uint32_t extent = item >> 12, index = item & 0xfff;
  word_t *holders = &holder_words(s, extent)[index];
  uint64_t free_word = 0, want = extent_word(s, cls + 1, 0);
  if (atomic_load_explicit(holders, memory_order_relaxed) != 0) return CBH_AGAIN;
  cbh_crash_here(64);
  // SYNC(block-grabbed): pairs with the STEALING sweep in steal_extent().
  // SYNC(block-dropped): acquire, as the last reader's look at the block must be over before we write; pairs with cbh_drop().
  if (!atomic_compare_exchange_strong(holders, &free_word, me(s))) return CBH_AGAIN;
  cbh_crash_here(65);
  if (atomic_load(&extent_words(s)[extent]) != want) {
    atomic_fetch_and(holders, ~me(s));
    return CBH_AGAIN;
  }
  return (int64_t)block_offset(s, extent, cls, index);
}

static int64_t pop_block(cbh_segment *s, uint32_t cls) {
  cbh_heap *heap = &s->heap;
  while (heap->dropped_count[cls]) {  // the hottest memory there is
    uint32_t item = heap->dropped[cls][--heap->dropped_count[cls]];
    int64_t at = grab(s, cls, item);
    if (at >= 0) {
      remember(heap, cls, item);
      return at;
    }
  }
  // Of those handed out to others, the oldest of the last few is the likeliest to be back, and it is warm.
  for (uint32_t look = heap->recent_count[cls] < 2 ? heap->recent_count[cls] : 2; look > 0; look--) {
    uint32_t item = heap->recent[cls][heap->recent_head[cls]];
    int64_t at = grab(s, cls, item);
    heap->recent_head[cls] = (heap->recent_head[cls] + 1) % CBH_RECENT;
    heap->recent_count[cls]--;
    remember(heap, cls, item);
    if (at >= 0) return at;
  }
  while (heap->free[cls].count) {
    uint32_t item = heap->free[cls].items[--heap->free[cls].count];
    int64_t at = grab(s, cls, item);
    if (at >= 0) {
      remember(heap, cls, item);
      return at;
    }
  }
  return CBH_AGAIN;
}

static void push_free(cbh_segment *s, uint32_t extent, uint32_t cls) {
  word_t *holders = holder_words(s, extent);
  for (uint32_t i = class_blocks(cls); i-- > 0;)  // downwards: the lowest, most likely touched block comes out first
    if (atomic_load_explicit(&holders[i], memory_order_relaxed) == 0) push(&s->heap.free[cls], extent << 12 | i);
}

// Looks through our extents of this class for blocks that came back. At most one extent with something in it.
static bool scan(cbh_segment *s, uint32_t cls) {
  uint32_t count = s->header->extent_count, start = s->heap.scan_at[cls];
  uint64_t mine = extent_word(s, cls + 1, 0);
  for (uint32_t k = 0; k < count; k++) {
    uint32_t extent = (start + k) % count;
    if (atomic_load_explicit(&extent_words(s)[extent], memory_order_relaxed) != mine) continue;
    uint32_t before = s->heap.free[cls].count;
    push_free(s, extent, cls);
    if (s->heap.free[cls].count - before > class_blocks(cls) / 8) {  // a nearly full one is not worth the next scan
      s->heap.scan_at[cls] = (extent + 1) % count;
      return true;
    }
  }
  return s->heap.free[cls].count > 0;
}

// ------------------------------------------------------------------ extents
// How many words of an extent ever stood for a block: what the sweep after a death looks through. Before the extent is taken.
static void note_used(const cbh_segment *s, uint32_t extent, uint64_t words) {
  uint64_t before = atomic_load_explicit(&used_words(s)[extent], memory_order_relaxed);
  while (before < words && !atomic_compare_exchange_strong(&used_words(s)[extent], &before, words)) {}
}

static bool take_extent(cbh_segment *s, uint32_t cls) {
  uint32_t count = reach(s);
  uint32_t start = (uint32_t)(atomic_load_explicit(&s->shared->extent_cursor, memory_order_relaxed) % count);
  for (uint32_t k = 0; k < count; k++) {
    uint32_t extent = (start + k) % count;
    uint64_t word = CBH_EXTENT_FREE;
    if (atomic_load_explicit(&extent_words(s)[extent], memory_order_relaxed) != CBH_EXTENT_FREE) continue;
    note_used(s, extent, class_blocks(cls));
    if (!atomic_compare_exchange_strong(&extent_words(s)[extent], &word, extent_word(s, cls + 1, 0))) continue;
    cbh_crash_here(66);
    push_free(s, extent, cls);
    return true;
  }
  return false;
}

// Lifts an extent of blocks, whoever owns it, back to FREE if nobody holds any of its blocks.
static bool steal_extent(cbh_segment *s, uint32_t extent, uint64_t word) {
  uint32_t cls = kind_of(word) - 1, done = 0, blocks = class_blocks(cls);
  word_t *holders = holder_words(s, extent);
  for (; done < blocks; done++) {
    uint64_t free_word = 0;
    // SYNC(block-grabbed): pairs with grab(); from here on its compare-and-swap fails, or ours does.
    if (!atomic_compare_exchange_strong(&holders[done], &free_word, CBH_STEALING | me(s))) break;
  }
  // TAKING while its pages go back: were it FREE already, the next owner's first values would go with them.
  uint64_t taking = extent_word(s, CBH_EXTENT_TAKING, 1);
  bool all = done == blocks && atomic_compare_exchange_strong(&extent_words(s)[extent], &word, taking);
  if (all) {
    madvise(s->base + block_offset(s, extent, 0, 0), CBH_EXTENT_BYTES, MADV_REMOVE);
    cbh_crash_here(60);
  }
  for (uint32_t i = 0; i < done; i++) atomic_fetch_and(&holders[i], ~(CBH_STEALING | me(s)));
  cbh_crash_here(61);
  // FREE last: in a FREE extent nobody looks for the bits of the dead.
  if (all) atomic_compare_exchange_strong(&extent_words(s)[extent], &taking, (uint64_t)CBH_EXTENT_FREE);
  return all;
}

static bool owner_gone(const cbh_segment *s, uint64_t word) {
  uint32_t place = (uint32_t)(word >> 8 & 0xff) - 1;
  return place >= CBH_PLACES || (cbh_place_epoch(s, place) & 0xffff) != (word >> 16 & 0xffff);
}

// ------------------------------------------------------------------ runs: blocks larger than a class
// `head` is the word of the first extent, TAKING by us: two who gave the same pages back would wipe what the next one wrote.
static void release_run(cbh_segment *s, uint32_t extent, uint32_t length, uint64_t head) {
  madvise(s->base + block_offset(s, extent, 0, 0), (uint64_t)length << CBH_EXTENT_SHIFT, MADV_REMOVE);
  for (uint32_t i = length; i-- > 1;) {
    uint64_t tail = atomic_load(&extent_words(s)[extent + i]);  // whoever wrote it: it belongs to this head, or is none of ours
    if (kind_of(tail) == CBH_EXTENT_TAIL && length_of(tail) == i)
      atomic_compare_exchange_strong(&extent_words(s)[extent + i], &tail, (uint64_t)CBH_EXTENT_FREE);
  }
  atomic_compare_exchange_strong(&extent_words(s)[extent], &head, (uint64_t)CBH_EXTENT_FREE);
}

static bool lift_run(cbh_segment *s, uint32_t extent, uint64_t word) {
  word_t *holders = holder_words(s, extent);
  uint32_t length = length_of(word);
  uint64_t free_word = 0, taking = extent_word(s, CBH_EXTENT_TAKING, length);
  if (length == 0 || extent + (uint64_t)length > s->header->extent_count) return false;
  if (!atomic_compare_exchange_strong(holders, &free_word, CBH_STEALING | me(s))) return false;
  bool ours = atomic_compare_exchange_strong(&extent_words(s)[extent], &word, taking);
  cbh_crash_here(62);
  atomic_fetch_and(holders, ~(CBH_STEALING | me(s)));
  cbh_crash_here(63);
  if (ours) release_run(s, extent, length, taking);
  return ours;
}

static int64_t reuse_run(cbh_segment *s, uint32_t length) {
  cbh_heap *heap = &s->heap;
  for (uint32_t i = heap->run_count; i-- > 0;) {  // the last used first
    uint32_t extent = heap->runs[i].extent, have = heap->runs[i].length;
    if (have < length || have > length + length / 4 + 1) continue;
    uint64_t free_word = 0, want = extent_word(s, CBH_EXTENT_RUN, have);
    word_t *holders = holder_words(s, extent);
    if (atomic_load_explicit(holders, memory_order_relaxed) != 0) continue;
    if (!atomic_compare_exchange_strong(holders, &free_word, me(s))) continue;
    if (atomic_load(&extent_words(s)[extent]) == want) return (int64_t)block_offset(s, extent, 0, 0);
    atomic_fetch_and(holders, ~me(s));
    heap->runs[i] = heap->runs[--heap->run_count];
  }
  return CBH_AGAIN;
}

static int64_t take_run(cbh_segment *s, uint32_t length) {
  uint32_t count = reach(s), at = 0, have = 0;
  word_t *words = extent_words(s);
  while (at + length <= count) {
    have = 0;
    while (have < length && atomic_load_explicit(&words[at + have], memory_order_relaxed) == CBH_EXTENT_FREE) have++;
    if (have < length) {
      at += have + 1;
      continue;
    }
    uint64_t head = CBH_EXTENT_FREE, taking = extent_word(s, CBH_EXTENT_TAKING, length);
    note_used(s, at, 1);
    if (!atomic_compare_exchange_strong(&words[at], &head, taking)) continue;
    cbh_crash_here(67);
    uint32_t got = 1;
    for (; got < length; got++) {
      uint64_t tail = CBH_EXTENT_FREE;
      if (!atomic_compare_exchange_strong(&words[at + got], &tail, extent_word(s, CBH_EXTENT_TAIL, got))) break;
    }
    if (got < length) {
      while (--got > 0) atomic_store(&words[at + got], (uint64_t)CBH_EXTENT_FREE);
      atomic_store(&words[at], (uint64_t)CBH_EXTENT_FREE);
      at += 1;
      continue;
    }
    // The bit before the word says RUN: a run that nobody holds may be lifted by anybody.
    atomic_fetch_or(holder_words(s, at), me(s));
    cbh_crash_here(68);
    atomic_store(&words[at], extent_word(s, CBH_EXTENT_RUN, length));
    cbh_crash_here(69);
    if (s->heap.run_count == CBH_RUNS) s->heap.run_count--;  // forgotten, not lost: it is lifted when room is short
    s->heap.runs[s->heap.run_count].extent = at;
    s->heap.runs[s->heap.run_count++].length = length;
    return (int64_t)block_offset(s, at, 0, 0);
  }
  return CBH_AGAIN;
}

// Room is short: lift every extent and run that nobody holds, and what a dead process left half taken.
static uint64_t lift_all(cbh_segment *s) {
  uint64_t freed = 0;
  for (uint32_t extent = 0; extent < s->header->extent_count; extent++) {
    uint64_t word = atomic_load(&extent_words(s)[extent]);
    uint32_t kind = kind_of(word);
    if (is_class(kind)) {
      if (steal_extent(s, extent, word)) freed += CBH_EXTENT_BYTES;
      else if (extent < reach(s) && owner_gone(s, word)) {  // some of its blocks live on; the free ones are handed out by us from now on
        uint64_t adopted = extent_word(s, kind, 0);
        if (atomic_compare_exchange_strong(&extent_words(s)[extent], &word, adopted)) push_free(s, extent, kind - 1);
      }
    } else if (kind == CBH_EXTENT_RUN) {
      if (lift_run(s, extent, word)) freed += (uint64_t)length_of(word) << CBH_EXTENT_SHIFT;
    } else if (kind == CBH_EXTENT_TAKING && owner_gone(s, word)) {
      uint32_t length = length_of(word);
      uint64_t taking = extent_word(s, CBH_EXTENT_TAKING, length);
      if (length && extent + (uint64_t)length <= s->header->extent_count &&
          atomic_compare_exchange_strong(&extent_words(s)[extent], &word, taking))
        release_run(s, extent, length, taking);
    } else if (kind == CBH_EXTENT_TAIL && owner_gone(s, word)) {
      uint32_t back = length_of(word);
      uint64_t head = back && back <= extent ? atomic_load(&extent_words(s)[extent - back]) : 0;
      bool covered = (kind_of(head) == CBH_EXTENT_RUN || kind_of(head) == CBH_EXTENT_TAKING) && length_of(head) > back;
      if (!covered) atomic_compare_exchange_strong(&extent_words(s)[extent], &word, (uint64_t)CBH_EXTENT_FREE);
    }
  }
  return freed;
}

uint64_t cbh_trim(cbh_segment *s) { return s->place < CBH_PLACES ? lift_all(s) : 0; }

// ------------------------------------------------------------------ hand out
int64_t cbh_alloc(cbh_segment *s, uint64_t bytes) {
  if (s->place >= CBH_PLACES) return CBH_STALE;
  if (bytes > cbh_largest(s)) return CBH_TOO_LARGE;
  if (bytes <= CBH_LARGEST_CLASS_BYTES) {
    uint32_t cls = 0;
    while (class_bytes(cls) < bytes) cls++;
    // Others may take over an empty extent between our finding it and our hand on it: look again, but not for ever.
    for (int lifts = 0, turn = 0; turn < 64; turn++) {
      int64_t at = pop_block(s, cls);
      if (at >= 0) return at;
      if (scan(s, cls) || take_extent(s, cls)) continue;
      if (lifts++ == 3) return CBH_FULL;
      lift_all(s);
    }
    return CBH_FULL;
  }
  uint32_t length = (uint32_t)((bytes + CBH_EXTENT_BYTES - 1) >> CBH_EXTENT_SHIFT);
  int64_t at = reuse_run(s, length);
  if (at < 0) at = take_run(s, length);
  if (at < 0) {
    lift_all(s);
    s->heap.run_count = 0;
    at = take_run(s, length);
  }
  return at < 0 ? CBH_FULL : at;
}

_Atomic uint64_t *cbh_holders(const cbh_segment *s, uint64_t offset, uint64_t *capacity) {
  if (offset < s->header->arena_at || offset >= s->bytes) return NULL;
  uint64_t inside = offset - s->header->arena_at;
  uint32_t extent = (uint32_t)(inside >> CBH_EXTENT_SHIFT);
  if (extent >= s->header->extent_count) return NULL;
  uint64_t word = atomic_load_explicit(&extent_words(s)[extent], memory_order_acquire), within = inside & (CBH_EXTENT_BYTES - 1);
  if (is_class(kind_of(word))) {
    uint32_t cls = kind_of(word) - 1;
    if (within & (class_bytes(cls) - 1)) return NULL;
    if (capacity) *capacity = class_bytes(cls);
    return &holder_words(s, extent)[within >> (CBH_BLOCK_SHIFT + cls)];
  }
  if (kind_of(word) != CBH_EXTENT_RUN || within || extent + (uint64_t)length_of(word) > s->header->extent_count) return NULL;
  if (capacity) *capacity = (uint64_t)length_of(word) << CBH_EXTENT_SHIFT;
  return &holder_words(s, extent)[0];
}

int cbh_hold(cbh_segment *s, uint64_t offset, uint64_t bits) {
  word_t *holders = cbh_holders(s, offset, NULL);
  if (!holders) return CBH_CORRUPT;
  atomic_fetch_or(holders, bits);
  return CBH_OK;
}

int cbh_drop(cbh_segment *s, uint64_t offset, uint64_t bits) {
  uint64_t capacity;
  word_t *holders = cbh_holders(s, offset, &capacity);
  if (!holders) return CBH_CORRUPT;
  // SYNC(block-dropped): release, so that all we read of the block lies before its next owner's writes (grab()).
  uint64_t left = atomic_fetch_and_explicit(holders, ~bits, memory_order_acq_rel) & ~bits;
  if (left || capacity > CBH_LARGEST_CLASS_BYTES || s->place >= CBH_PLACES) return CBH_OK;
  uint32_t extent = (uint32_t)((offset - s->header->arena_at) >> CBH_EXTENT_SHIFT);
  uint64_t word = atomic_load_explicit(&extent_words(s)[extent], memory_order_relaxed);
  uint32_t cls = kind_of(word) - 1;
  if (is_class(kind_of(word)) && word == extent_word(s, cls + 1, 0)) {  // ours: hottest block first
    uint32_t index = (uint32_t)((offset - s->header->arena_at) & (CBH_EXTENT_BYTES - 1)) >> (CBH_BLOCK_SHIFT + cls);
    note_dropped(&s->heap, cls, extent << 12 | index);
  }
  return CBH_OK;
}

// ------------------------------------------------------------------ the whole arena
static uint32_t blocks_of(const cbh_segment *s, uint32_t extent, uint64_t *bytes) {
  uint64_t word = atomic_load_explicit(&extent_words(s)[extent], memory_order_acquire);
  uint32_t kind = kind_of(word);
  *bytes = is_class(kind) ? class_bytes(kind - 1) : (uint64_t)length_of(word) << CBH_EXTENT_SHIFT;
  if (is_class(kind)) return class_blocks(kind - 1);
  return kind == CBH_EXTENT_RUN || kind == CBH_EXTENT_TAKING ? 1 : 0;
}

void cbh_drop_everywhere(cbh_segment *s, uint32_t place) {
  uint64_t bit = cbh_bit(place);
  atomic_thread_fence(memory_order_seq_cst);  // SYNC(front-swept): pairs with the look in cbh_lend()
  for (uint32_t extent = 0; extent < s->header->extent_count; extent++) {
    word_t *holders = holder_words(s, extent);
    uint64_t used = atomic_load(&used_words(s)[extent]);
    if (used > CBH_EXTENT_BLOCKS) used = CBH_EXTENT_BLOCKS;  // written over
    for (uint32_t i = 0; i < used; i++)
      if (atomic_load_explicit(&holders[i], memory_order_relaxed) & bit) {
        uint64_t word = atomic_load(&holders[i]);  // STEALING stands beside one bit only: the thief's
        atomic_fetch_and(&holders[i], word & CBH_STEALING ? ~(bit | CBH_STEALING) : ~bit);
      }
  }
}

static bool holding(uint64_t word) { return word != 0 && !(word & CBH_STEALING); }

void cbh_usage(const cbh_segment *s, uint64_t *bytes, uint64_t *blocks) {
  uint64_t each;
  *bytes = *blocks = 0;
  for (uint32_t extent = 0; extent < s->header->extent_count; extent++) {
    word_t *holders = holder_words(s, extent);
    for (uint32_t n = blocks_of(s, extent, &each), i = 0; i < n; i++)
      if (holding(atomic_load_explicit(&holders[i], memory_order_relaxed))) *bytes += each, *blocks += 1;
  }
}

void cbh_warm(cbh_segment *s, uint64_t block_bytes, uint64_t bytes) {
  int64_t at = cbh_alloc(s, block_bytes);
  if (at < 0) return;
  uint64_t start = (uint64_t)at & ~(CBH_EXTENT_BYTES - 1);
  if (start < s->header->arena_at) start = s->header->arena_at;
  if (bytes > CBH_EXTENT_BYTES) bytes = CBH_EXTENT_BYTES;
#ifdef MADV_POPULATE_WRITE
  madvise(s->base + start, bytes, MADV_POPULATE_WRITE);
#else
  for (uint64_t i = 0; i < bytes; i += 4096) ((volatile char *)s->base)[start + i] = ((volatile char *)s->base)[start + i];
#endif
  cbh_drop(s, (uint64_t)at, me(s));
}
