// SPDX-License-Identifier: Apache-2.0
#include "cbh_history.h"

typedef _Atomic uint64_t word_t;

#define DECADE(us) \
  us * 1000ull, us * 1250ull, us * 1600ull, us * 2000ull, us * 2500ull, us * 3150ull, us * 4000ull, us * 5000ull, \
      us * 6300ull, us * 8000ull
const uint64_t cbh_time_bounds[CBH_TIME_BUCKETS - 1] = {
    DECADE(10ull),      DECADE(100ull),      DECADE(1000ull),      DECADE(10000ull), DECADE(100000ull),
    DECADE(1000000ull), DECADE(10000000ull), 100000000ull * 1000ull,
};
#undef DECADE

uint64_t cbh_history_bytes(uint32_t fronts, uint32_t endpoints) {
  return fronts * sizeof(cbh_rings) + CBH_PLACES * sizeof(cbh_batches) +
         (uint64_t)fronts * endpoints * sizeof(cbh_tally);
}

static cbh_rings *rings_of(const cbh_dict *dict, uint32_t front) { return (cbh_rings *)dict->history + front; }

const cbh_batches *cbh_batches_of(const cbh_dict *dict, uint32_t place) {
  if (place >= CBH_PLACES) return NULL;
  return (cbh_batches *)(dict->history + dict->fronts * sizeof(cbh_rings)) + place;
}

const cbh_tally *cbh_tally_of(const cbh_dict *dict, uint32_t front, uint32_t endpoint) {
  if (front >= dict->fronts || endpoint >= dict->endpoints) return NULL;
  char *tallies = dict->history + dict->fronts * sizeof(cbh_rings) + CBH_PLACES * sizeof(cbh_batches);
  return (cbh_tally *)tallies + (uint64_t)front * dict->endpoints + endpoint;
}

// ------------------------------------------------------------------ counting
static inline void add(word_t *word, uint64_t n) { CBH_SET(*word, CBH_GET(*word) + n); }

static inline uint32_t log2_of(uint64_t n) { return 63u - (uint32_t)__builtin_clzll(n | 1); }

static inline void count_time(cbh_times *times, uint64_t from_ns, uint64_t to_ns) {
  uint64_t ns = to_ns > from_ns ? to_ns - from_ns : 0;
  // Ten bounds to a decade are three to an octave, so the first bound not below 2^k is number 3 (k - 13): 2^13 ns is below
  // the first one. From there it is at most four steps.
  uint32_t octave = log2_of(ns), i = octave < 13 ? 0 : octave > 36 ? CBH_TIME_BUCKETS - 1 : 3 * (octave - 13);
  while (i < CBH_TIME_BUCKETS - 1 && ns > cbh_time_bounds[i]) i++;
  add(&times->buckets[i], 1);
  add(&times->sum, ns);
}

static inline uint32_t power_bucket(uint64_t n, uint32_t first, uint32_t buckets) {
  uint32_t i = n <= 1ull << first ? 0 : log2_of(n - 1) + 1 - first;
  return i < buckets ? i : buckets - 1;
}

static inline void count_size(cbh_sizes *sizes, uint64_t bytes) {
  add(&sizes->buckets[power_bucket(bytes, 6, CBH_SIZE_BUCKETS)], 1);
  add(&sizes->sum, bytes);
}

void cbh_count_batch(cbh_dict *dict, uint32_t endpoint, uint32_t size, uint64_t wait_ns) {
  cbh_batches *batches = (cbh_batches *)cbh_batches_of(dict, dict->segment->place);
  if (!batches || !cbh_place_mine(dict->segment)) return;
  CBH_SET(batches->endpoint, endpoint + 1ull);
  add(&batches->buckets[power_bucket(size, 0, CBH_BATCH_BUCKETS)], 1);
  add(&batches->sum, size);
  count_time(&batches->waits, 0, wait_ns);
}

static uint32_t outcome_of(uint64_t state) {
  uint32_t flags = cbh_flags_of(state);
  if (flags & CBH_CANCELLED) return flags & CBH_OVERDUE ? CBH_TIMED_OUT : CBH_TAKEN_BACK;
  if (flags & CBH_WITHDRAWN) return CBH_TAKEN_BACK;
  if (flags & CBH_DIED) return CBH_LOST_WORKER;
  if (flags & CBH_EXPIRED) return CBH_TIMED_OUT;
  return cbh_phase_of(state) == CBH_FAILED ? CBH_REPORTED : CBH_ANSWERED;
}

static void count(cbh_tally *tally, const cbh_past *e) {
  add(&tally->outcomes[e->outcome], 1);
  uint64_t end = e->done_ns ? e->done_ns : e->over_ns;
  count_time(&tally->times[CBH_T_INTAKE], e->received_ns, e->ready_ns);
  // Who gave up waiting has waited, too: without them a queue looks the shorter the worse it is.
  count_time(&tally->times[CBH_T_QUEUE], e->ready_ns, e->claimed_ns ? e->claimed_ns : end);
  if (e->claimed_ns && e->done_ns) count_time(&tally->times[CBH_T_EXECUTE], e->claimed_ns, e->done_ns);
  if (e->first_chunk_ns) count_time(&tally->times[CBH_T_FIRST_CHUNK], e->received_ns, e->first_chunk_ns);
  count_size(&tally->sizes[CBH_S_REQUEST], e->request_bytes);
  if (e->outcome == CBH_ANSWERED) count_size(&tally->sizes[CBH_S_RESULT], e->result_bytes);
  if (e->outcome == CBH_TAKEN_BACK) return;  // nobody had an answer: there is no time until it
  if (!(e->flags & CBH_CANCELLED) && e->done_ns) count_time(&tally->times[CBH_T_COLLECT], e->done_ns, e->over_ns);
  // One that was overdue was answered then, however long its worker went on.
  bool overdue = e->flags & CBH_OVERDUE && e->deadline_ns < e->over_ns;
  count_time(&tally->times[CBH_T_REQUEST], e->received_ns, overdue ? e->deadline_ns : e->over_ns);
}

static void record(cbh_ring *ring, const cbh_past *e) {
  uint64_t number = CBH_GET(ring->count);
  cbh_record *r = &ring->records[number % CBH_RECORDS];
  uint64_t writing = CBH_GET(r->sequence) | 1;  // it may be odd already: our predecessor died half way
  CBH_SET(r->sequence, writing);
  // SYNC(history-written): pairs with the second look in cbh_past_read(): who sees one of our words also sees an odd number.
  atomic_thread_fence(memory_order_release);
  CBH_SET(r->id, e->id);
  CBH_SET(r->what, (uint64_t)e->endpoint << 48 | (uint64_t)e->place << 40 | (uint64_t)e->attempt << 32 |
                       e->flags << 24 | e->outcome << 16 | e->front << 8);
  CBH_SET(r->status_chunks, (uint64_t)e->status << 32 | e->chunks);
  CBH_SET(r->request_bytes, e->request_bytes), CBH_SET(r->result_bytes, e->result_bytes);
  CBH_SET(r->rank, e->rank), CBH_SET(r->deadline_ns, e->deadline_ns);
  CBH_SET(r->received_ns, e->received_ns), CBH_SET(r->ready_ns, e->ready_ns), CBH_SET(r->claimed_ns, e->claimed_ns);
  CBH_SET(r->first_chunk_ns, e->first_chunk_ns), CBH_SET(r->done_ns, e->done_ns), CBH_SET(r->over_ns, e->over_ns);
  atomic_store_explicit(&r->sequence, writing + 1, memory_order_release);
  CBH_SET(ring->count, number + 1);
}

// A worker that was declared dead may still write its times into the slot: no time before the first, none after the last.
static inline uint64_t within(uint64_t ns, uint64_t first, uint64_t last) {
  return !ns ? 0 : ns < first ? first : ns > last ? last : ns;
}

void cbh_remember(cbh_dict *dict, uint32_t index, uint64_t state, uint64_t now) {
  cbh_slot *slot = &dict->slots[index];
  cbh_segment *s = dict->segment;
  cbh_tally *tally = (cbh_tally *)cbh_tally_of(dict, s->place, CBH_GET(slot->endpoint));
  // Declared dead, we are no longer the only writer here.
  if (!tally || !cbh_place_mine(s)) return;
  uint64_t first = CBH_GET(slot->received_ns), last = now > first ? now : first;
  cbh_past e = {
      .id = CBH_GET(slot->id), .request_bytes = CBH_GET(slot->body_bytes), .result_bytes = CBH_GET(slot->result_bytes),
      .rank = CBH_GET(dict->ranks[index]), .deadline_ns = CBH_GET(slot->deadline_ns), .received_ns = first,
      .ready_ns = within(CBH_GET(slot->ready_ns), first, last),
      .claimed_ns = within(CBH_GET(slot->claimed_ns), first, last),
      .first_chunk_ns = within(CBH_GET(slot->first_chunk_ns), first, last),
      .done_ns = within(CBH_GET(slot->done_ns), first, last), .over_ns = last,
      .endpoint = CBH_GET(slot->endpoint), .front = s->place, .attempt = CBH_GET(slot->attempt),
      .flags = cbh_flags_of(state), .outcome = outcome_of(state), .status = CBH_GET(slot->result_status),
      .chunks = CBH_GET(slot->chunks),
  };
  e.place = e.claimed_ns ? cbh_place_of(state) : s->place;
  count(tally, &e);
  bool bad = e.outcome == CBH_LOST_WORKER || e.outcome == CBH_TIMED_OUT || (e.outcome == CBH_REPORTED && e.status >= 500);
  record(&rings_of(dict, s->place)->of[bad ? CBH_RING_FAILURES : CBH_RING_LAST], &e);
}

// ------------------------------------------------------------------ looking
static bool credible(const cbh_dict *dict, const cbh_past *p) {
  const uint64_t times[] = {p->ready_ns, p->claimed_ns, p->first_chunk_ns, p->done_ns};
  if (p->endpoint >= dict->endpoints || p->front >= dict->fronts || p->outcome >= CBH_OUTCOMES) return false;
  if (p->place >= CBH_PLACES || p->received_ns > p->over_ns || !p->id) return false;
  for (int i = 0; i < 4; i++)
    if (times[i] && (times[i] < p->received_ns || times[i] > p->over_ns)) return false;
  return true;
}

bool cbh_past_read(const cbh_dict *dict, uint32_t front, uint32_t ring, uint32_t number, cbh_past *past) {
  if (front >= dict->fronts || ring >= CBH_RINGS || number >= CBH_RECORDS) return false;
  cbh_record *r = &rings_of(dict, front)->of[ring].records[number];
  for (int turn = 0; turn < 8; turn++) {
    uint64_t before = atomic_load_explicit(&r->sequence, memory_order_acquire);
    if (!before || before & 1) return false;
    uint64_t what = CBH_GET(r->what), status_chunks = CBH_GET(r->status_chunks);
    past->id = CBH_GET(r->id);
    past->endpoint = (uint32_t)(what >> 48), past->place = (uint32_t)(what >> 40 & 0xff);
    past->attempt = (uint32_t)(what >> 32 & 0xff), past->flags = (uint32_t)(what >> 24 & 0xff);
    past->outcome = (uint32_t)(what >> 16 & 0xff), past->front = (uint32_t)(what >> 8 & 0xff);
    past->status = (uint32_t)(status_chunks >> 32), past->chunks = (uint32_t)status_chunks;
    past->request_bytes = CBH_GET(r->request_bytes), past->result_bytes = CBH_GET(r->result_bytes);
    past->rank = CBH_GET(r->rank), past->deadline_ns = CBH_GET(r->deadline_ns);
    past->received_ns = CBH_GET(r->received_ns), past->ready_ns = CBH_GET(r->ready_ns);
    past->claimed_ns = CBH_GET(r->claimed_ns), past->first_chunk_ns = CBH_GET(r->first_chunk_ns);
    past->done_ns = CBH_GET(r->done_ns), past->over_ns = CBH_GET(r->over_ns);
    // SYNC(history-written): the second look of a seqlock; pairs with the release fence in record().
    atomic_thread_fence(memory_order_acquire);
    if (CBH_GET(r->sequence) == before) return credible(dict, past);
  }
  return false;
}
