// SPDX-License-Identifier: Apache-2.0
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cbh_segment.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ull

#ifdef CBH_CRASH_POINTS
int cbh_crash_armed, cbh_stop_armed;
void cbh_crash_here(int point) {
  if (cbh_stop_armed && cbh_stop_armed != point) return;  // no death before the stop
  if (cbh_stop_armed) {
    cbh_stop_armed = 0;
    kill(getpid(), SIGSTOP);
    return;
  }
  if (cbh_crash_armed == point) kill(getpid(), SIGKILL);
}
#endif

uint64_t cbh_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static uint64_t round_up(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit * unit; }
static uint64_t place_word(uint64_t epoch, uint64_t phase, uint64_t pid) {
  return (epoch & 0xffffff) << 40 | phase << 32 | (pid & 0xffffffff);
}
static uint32_t word_epoch(uint64_t word) { return (uint32_t)(word >> 40); }
static uint32_t word_phase(uint64_t word) { return (uint32_t)(word >> 32 & 0xff); }
static int32_t word_pid(uint64_t word) { return (int32_t)(word & 0xffffffff); }

// ------------------------------------------------------------------ make, map
static void lay_out(cbh_header *h, uint32_t kind, uint64_t body_bytes, uint64_t arena_bytes) {
  uint64_t extents = round_up(arena_bytes ? arena_bytes : 1, CBH_EXTENT_BYTES) >> CBH_EXTENT_SHIFT;
  h->version = CBH_LAYOUT_VERSION;
  h->kind = kind;
  h->place_count = CBH_PLACES;
  h->extent_count = (uint32_t)extents;
  h->places_at = round_up(sizeof *h, PAGE);
  h->extents_at = round_up(h->places_at + CBH_PLACES * sizeof(cbh_place), PAGE);
  h->holders_at = round_up(h->extents_at + 16 * extents, PAGE);
  h->body_at = round_up(h->holders_at + 8 * extents * CBH_EXTENT_BLOCKS, PAGE);
  h->body_bytes = body_bytes;
  h->arena_at = round_up(h->body_at + body_bytes, CBH_EXTENT_BYTES);
  h->segment_bytes = h->arena_at + (extents << CBH_EXTENT_SHIFT);
}

int cbh_segment_create(uint32_t kind, uint64_t body_bytes, uint64_t arena_bytes, const uint64_t parameters[8]) {
  cbh_header plan;
  memset(&plan, 0, sizeof plan);
  if (arena_bytes > 1ull << 39 || body_bytes > 1ull << 36) return CBH_TOO_LARGE;  // block offsets travel in 32 bits of 256 B
  lay_out(&plan, kind, body_bytes, arena_bytes);
  int fd = memfd_create("cubbyhole", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return CBH_SYSTEM;
  // The size is sealed: no process can cut the memory away under another one's feet.
  if (ftruncate(fd, (off_t)plan.segment_bytes) != 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    int why = errno;
    close(fd);
    errno = why;
    return CBH_SYSTEM;
  }
  cbh_header *h = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (h == MAP_FAILED) {
    int why = errno;
    close(fd);
    errno = why;
    return CBH_SYSTEM;
  }
  memcpy(plan.parameters, parameters, sizeof plan.parameters);
  memcpy(h, &plan, sizeof plan);
  // SYNC(segment-made): pairs with the acquire load in cbh_segment_map().
  atomic_store_explicit(&h->magic, CBH_MAGIC, memory_order_release);
  munmap(h, PAGE);
  return fd;
}

static bool plausible(const cbh_header *h, uint64_t file_bytes, uint32_t kind) {
  if (h->version != CBH_LAYOUT_VERSION || h->kind != kind || h->place_count != CBH_PLACES) return false;
  if (h->segment_bytes != file_bytes || h->extent_count == 0) return false;
  cbh_header want;
  memset(&want, 0, sizeof want);
  if (h->body_bytes > file_bytes) return false;
  lay_out(&want, kind, h->body_bytes, (uint64_t)h->extent_count << CBH_EXTENT_SHIFT);
  return want.segment_bytes == file_bytes && want.places_at == h->places_at && want.extents_at == h->extents_at &&
         want.holders_at == h->holders_at && want.body_at == h->body_at && want.arena_at == h->arena_at;
}

int cbh_segment_map(cbh_segment *segment, int fd, uint32_t kind) {
  struct stat st;
  memset(segment, 0, sizeof *segment);
  segment->place = CBH_OBSERVER;
  if (fstat(fd, &st) != 0) return CBH_SYSTEM;
  if (st.st_size < (off_t)PAGE) return CBH_WRONG_LAYOUT;
  int seals = fcntl(fd, F_GET_SEALS);  // without it, somebody could cut the memory away, and a look at it would be SIGBUS
  if (seals < 0 || !(seals & F_SEAL_SHRINK)) return CBH_WRONG_LAYOUT;
  char *base = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  // Who looks from outside has opened it for reading, and so can change nothing.
  if (base == MAP_FAILED && errno == EACCES) base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return CBH_SYSTEM;
  cbh_header *h = (cbh_header *)base;
  // SYNC(segment-made): pairs with the release store in cbh_segment_create().
  bool made = atomic_load_explicit(&h->magic, memory_order_acquire) == CBH_MAGIC;
  if (made) memcpy((void *)&segment->checked, base, sizeof segment->checked);  // first copied, then checked
  if (!made || !plausible(&segment->checked, (uint64_t)st.st_size, kind)) {
    munmap(base, (size_t)st.st_size);
    return CBH_WRONG_LAYOUT;
  }
  segment->base = base;
  segment->bytes = (uint64_t)st.st_size;
  segment->header = &segment->checked;
  segment->shared = h;
  segment->places = (cbh_place *)(base + segment->checked.places_at);
  return CBH_OK;
}

void cbh_segment_unmap(cbh_segment *segment) {
  if (!segment->base) return;
  cbh_heap_forget(&segment->heap);
  munmap(segment->base, segment->bytes);
  memset(segment, 0, sizeof *segment);
  segment->place = CBH_OBSERVER;
}

// ------------------------------------------------------------------ places
// Start time in clock ticks since boot: field 22 of /proc/<pid>/stat. 0: no such process, or a zombie.
static uint64_t start_time_of(int32_t pid) {
  char path[40], line[512];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, line, sizeof line - 1);
  close(fd);
  if (n <= 0) return 0;
  line[n] = 0;
  char *p = strrchr(line, ')');  // the name before it may hold spaces and brackets
  if (!p || p[1] == 0) return 0;
  if (p[2] == 'Z' || p[2] == 'X') return 0;
  for (int field = 2; field < 22 && p; field++) p = strchr(p + 1, ' ');
  return p ? strtoull(p + 1, NULL, 10) : 0;
}

bool cbh_place_alive(const cbh_segment *segment, uint32_t place) {
  if (place >= CBH_PLACES) return false;
  const cbh_place *p = &segment->places[place];
  // SYNC(place-taken): acquire; who reads LIVE also reads the start time; pairs with sit_down().
  uint64_t word = atomic_load_explicit(&((cbh_place *)p)->word, memory_order_acquire);
  uint32_t phase = word_phase(word);
  if (phase == CBH_PLACE_FREE) return false;
  if (phase == CBH_PLACE_REAPING) return false;
  uint64_t started = start_time_of(word_pid(word));
  if (started == 0) return false;
  if (phase == CBH_PLACE_TAKING) return true;  // its start time is not written yet
  return started == atomic_load_explicit(&((cbh_place *)p)->start_time, memory_order_relaxed);
}

bool cbh_place_attended(const cbh_segment *segment, uint32_t place) {
  if (place >= CBH_PLACES) return false;
  uint64_t word = atomic_load_explicit(&segment->places[place].word, memory_order_acquire);
  if (word_phase(word) == CBH_PLACE_REAPING) return start_time_of(word_pid(word)) != 0;
  return cbh_place_alive(segment, place);
}

bool cbh_place_mine(const cbh_segment *segment) {
  if (segment->place >= CBH_PLACES) return false;
  uint64_t word = atomic_load_explicit(&segment->places[segment->place].word, memory_order_acquire);
  return word_phase(word) == CBH_PLACE_LIVE && word_epoch(word) == segment->epoch;
}

uint32_t cbh_place_epoch(const cbh_segment *segment, uint32_t place) {
  return place < CBH_PLACES ? word_epoch(atomic_load_explicit(&segment->places[place].word, memory_order_acquire)) : 0;
}

int32_t cbh_place_pid(const cbh_segment *segment, uint32_t place) {
  if (place >= CBH_PLACES) return 0;
  uint64_t word = atomic_load_explicit(&segment->places[place].word, memory_order_acquire);
  return word_phase(word) == CBH_PLACE_FREE ? 0 : word_pid(word);
}

static int sit_down(cbh_segment *segment, uint32_t place) {
  cbh_place *p = &segment->places[place];
  uint64_t word = atomic_load_explicit(&p->word, memory_order_acquire);
  if (word_phase(word) != CBH_PLACE_FREE) return CBH_NO_PLACE;
  uint32_t epoch = (word_epoch(word) + 1) & 0xffffff;
  if (!atomic_compare_exchange_strong(&p->word, &word, place_word(epoch, CBH_PLACE_TAKING, (uint64_t)getpid())))
    return CBH_NO_PLACE;
  cbh_crash_here(90);
  atomic_store_explicit(&p->start_time, start_time_of(getpid()), memory_order_relaxed);
  atomic_store_explicit(&p->rung, 0, memory_order_relaxed);
  for (int i = 0; i < 3; i++) atomic_store_explicit(&p->intent[i], 0, memory_order_relaxed);
  // SYNC(place-taken): pairs with the acquire load in cbh_place_alive(); who reads LIVE also reads the start time.
  atomic_store_explicit(&p->word, place_word(epoch, CBH_PLACE_LIVE, (uint64_t)getpid()), memory_order_release);
  segment->place = place;
  segment->epoch = epoch;
  return CBH_OK;
}

int cbh_place_take(cbh_segment *segment, uint32_t place) {
  if (place != CBH_OBSERVER) {
    if (place >= CBH_PLACES) return CBH_NO_PLACE;
    if (atomic_load(&segment->places[place].word) >> 32 & 0xff && !cbh_place_alive(segment, place))
      cbh_place_reap(segment, place);
    return sit_down(segment, place);
  }
  for (int turn = 0; turn < 2; turn++) {
    for (uint32_t i = 0; i < CBH_PLACES; i++)
      if (sit_down(segment, i) == CBH_OK) return CBH_OK;
    for (uint32_t i = 0; i < CBH_PLACES; i++)
      if (!cbh_place_alive(segment, i)) cbh_place_reap(segment, i);
  }
  return CBH_NO_PLACE;
}

void cbh_place_leave(cbh_segment *segment) {
  if (segment->place >= CBH_PLACES) return;
  if (cbh_place_mine(segment)) cbh_place_reap(segment, segment->place);
  segment->place = CBH_OBSERVER;
}

int cbh_place_fence(cbh_segment *segment, uint32_t place) {
  if (place >= CBH_PLACES) return CBH_CORRUPT;
  cbh_place *p = &segment->places[place];
  uint64_t word = atomic_load_explicit(&p->word, memory_order_acquire);
  if (word_phase(word) == CBH_PLACE_FREE) return CBH_NOT_FOUND;
  // The word names the reaper, so that one place is never reaped by two at once: the slower would clear the bits of
  // whoever sits there next. A reaper that died is followed by the next: every step may be repeated.
  bool theirs = word_phase(word) == CBH_PLACE_REAPING;
  bool once_more = word_pid(word) == getpid() && atomic_load(&p->lingering) != 0;
  if (theirs && !once_more && start_time_of(word_pid(word)) != 0) return CBH_AGAIN;
  // Within one process a port may declare another one dead: they share what they hold, and know what they do.
  bool runs = !theirs && word_pid(word) != getpid() && cbh_place_alive(segment, place);
  if (!theirs) atomic_store(&p->lingering, runs ? (uint32_t)word_pid(word) : 0);
  uint64_t reaping = place_word((word_epoch(word) + 1) & 0xffffff, CBH_PLACE_REAPING, (uint64_t)getpid());
  return atomic_compare_exchange_strong(&p->word, &word, reaping) ? CBH_OK : CBH_AGAIN;
}

bool cbh_place_lingers(const cbh_segment *segment, uint32_t place) {
  cbh_place *p = &segment->places[place];
  uint32_t pid = atomic_load(&p->lingering);
  uint64_t started = pid ? start_time_of((int32_t)pid) : 0;
  return started != 0 && started == atomic_load_explicit(&p->start_time, memory_order_relaxed);
}

void cbh_place_free(cbh_segment *segment, uint32_t place) {
  cbh_drop_everywhere(segment, place);
  cbh_crash_here(91);
  uint32_t epoch = cbh_place_epoch(segment, place);
  atomic_store_explicit(&segment->places[place].word, place_word(epoch, CBH_PLACE_FREE, 0), memory_order_release);
}

int cbh_place_reap(cbh_segment *segment, uint32_t place) {
  int code = cbh_place_fence(segment, place);
  if (code == CBH_NOT_FOUND) return CBH_OK;
  if (code == CBH_OK) {
    if (segment->mend) segment->mend(segment->mend_context, place);
    if (!cbh_place_lingers(segment, place)) cbh_place_free(segment, place);
  }
  return code;
}
