// SPDX-License-Identifier: Apache-2.0
//
// The life of an entry: one slot, one front, two workers, whoever reclaims, and death between any two steps of anybody.
// Each statement between two semicolons is one atomic step of the C code, which its comment names. docs/design/entry-life.md
// says what follows from this and what does not. Run by test_entry_model.py:
//
//   spin -a [-DSTREAM] [-DLATE] ... entry.pml && gcc -O2 -DSAFETY -o pan pan.c && ./pan
//
// What may happen     WORKER_DEATHS, FRONT_DEATHS, RECLAIM_DEATHS  (how often), CANCEL, EXPIRE, RETRY, STREAM
//                     LATE: a worker is declared dead while it runs, and goes on later
// What is taken out   M_...: one protection each; the search must then find a counterexample

#ifndef ENTRIES
#define ENTRIES 2          // requests submitted one after the other: generations of the slot
#endif
#ifndef WORKER_DEATHS
#define WORKER_DEATHS 0
#endif
#ifndef FRONT_DEATHS
#define FRONT_DEATHS 0
#endif
#ifndef RECLAIM_DEATHS
#define RECLAIM_DEATHS 0
#endif
#ifndef MOST_DEATHS
#define MOST_DEATHS 3      // CBH_MOST_DEATHS
#endif

#ifdef LATE
#undef LATE
#define LATE 1
#else
#define LATE 0
#endif
#ifdef RETRY
#define RETRY_WANTED RETRIES
#else
#define RETRY_WANTED 0
#endif

#define FREE 0
#define WRITING 1
#define READY 2
#define CLAIMED 3
#define STREAMING 4
#define DONE 5
#define FAILED 6

#define CANCELLED 1
#define RETRIES 2
#define EXPIRED 4
#define DIED 8

#define FRONT 0
#define PLACES 3           // the front's, two workers'
#define INSTANCES 7        // processes that come to sit at a place, one after the other
#define BLOCKS 5           // a request's, two workers' results and a stream: a block that stays held is missed soon

// The state word (cbh_dict.h): generation | epoch | place | attempt, flags | phase
#define STATE(g, e, p, f, ph) ((g) << 14 | (e) << 11 | (p) << 9 | (f) << 3 | (ph))
#define PHASE(s) ((s) & 7)
#define FLAGS(s) ((s) >> 3 & 63)
#define ATTEMPT(s) ((s) >> 7 & 3)
#define PLACE(s) ((s) >> 9 & 3)
#define EPOCH(s) ((s) >> 11 & 7)
#define GENERATION(s) ((s) >> 14 & 7)
#define OWNER(s) ((s) >> 9)             // generation, epoch, place: `state >> 16` in C
#define WITH(s, ph) (((s) & ~7) | (ph))

// Words that name a block (cbh_tagged, cbh_untag): generation | attempt | block
#define LIFE(s) (GENERATION(s) << 2 | ATTEMPT(s))
#define CLOSED(s) (LIFE(s) + 1)
#ifdef M_RESULT_OF_ANY_ATTEMPT
#undef LIFE
#undef CLOSED
#define LIFE(s) (GENERATION(s) << 2)
#define CLOSED(s) LIFE(s)
#endif
#define TAGGED(life, b) ((life) << 4 | (b))
#define TAG(w) ((w) >> 4)
#define BLOCK(w) ((w) & 15)
#define BIT(p) (1 << (p))

int state;
short result, stream;
byte request;                           // words of the slot
bit ready, attention, rung, bell;       // hints; the front's doorbell
byte epoch[PLACES];                     // places: epoch,
byte sits[PLACES];                      // and which instance sits there
byte lent[PLACES];                      // a block that its process is about to give a front: intent[0] of cbh_place
byte holders[BLOCKS + 1];               // blocks; 0: no block
byte made_for[BLOCKS + 1];              // ghost: generation + 1 that its bytes belong to
bit dead[INSTANCES + 1];                // killed
bit reclaimed[INSTANCES + 1];           // and given back
byte born, reclaim_deaths, late;
bit answered[8], cancelled[8];          // ghost, by generation
bit over;                               // the last front has all its answers
byte submitted;

#define MINE(p, e) (epoch[p] == e)      // cbh_place_mine

inline alloc(b, place, g) {             // cbh_alloc: grab() is a compare-and-swap from 0
  atomic {
    if                                  // the first that is free; waits for one where none is
    :: !holders[1] -> b = 1
    :: holders[1] && !holders[2] -> b = 2
    :: holders[1] && holders[2] && !holders[3] -> b = 3
    :: holders[1] && holders[2] && holders[3] && !holders[4] -> b = 4
    :: holders[1] && holders[2] && holders[3] && holders[4] && !holders[5] -> b = 5
    fi;
    holders[b] = BIT(place);
    made_for[b] = g + 1
  }
}

inline hold(b, bits) { holders[b] = holders[b] | (bits) }
inline drop(b, bits) { holders[b] = holders[b] & ~(bits) }
inline drop_surely(b, place) {          // it must be there, and once
  assert(holders[b] & BIT(place));
  holders[b] = holders[b] & ~BIT(place)
}

inline announce() {                     // cbh_announce; SYNC(front-rung)
  if
  :: attention
  :: atomic { !attention -> attention = 1 };
    if
    :: rung
    :: atomic { !rung -> rung = 1 }; bell = 1                 // cbh_bell_ring
    fi
  fi
}

// ------------------------------------------------------------------ front
inline slot_free(s) {                   // cbh_slot_free
#ifdef M_FREE_WITHOUT_GENERATION
  state = STATE(GENERATION(s), my_epoch, FRONT, 0, FREE);
#else
  state = STATE((GENERATION(s) + 1) & 7, my_epoch, FRONT, 0, FREE);
#endif
  d_step {                              // the drops: each lets others allocate, and that is all
    drop_surely(request, FRONT);
    if :: TAG(result) == LIFE(s) && BLOCK(result) -> drop_surely(BLOCK(result), FRONT) :: else fi;
#ifdef STREAM
    if :: TAG(stream) == LIFE(s) && BLOCK(stream) -> drop_surely(BLOCK(stream), FRONT) :: else fi;
#endif
    seen = 0;
    open = 0
  }
}

#define OVER(s) (PHASE(s) == DONE || PHASE(s) == FAILED)

inline look() {                         // FrontEnd.collect, take_chunks, final (_entries.pyx); SYNC(result-done)
  if
  :: atomic { OVER(state) && (FLAGS(state) & CANCELLED) -> seen = state; assert(!answered[GENERATION(seen)]) };
    slot_free(seen)
  :: atomic {
      OVER(state) && !(FLAGS(state) & CANCELLED) ->
      seen = state;
      if
      :: FLAGS(seen) & (DIED | EXPIRED)
      :: else ->                        // cbh_result_of: never "lost"
        assert(TAG(result) == LIFE(seen) && BLOCK(result) != 0);
        assert(holders[BLOCK(result)] & BIT(FRONT));
        assert(made_for[BLOCK(result)] == GENERATION(seen) + 1)
      fi;
      ring_is_whole();
      assert(GENERATION(seen) == generation);
      assert(!answered[generation] && !cancelled[generation]);
      answered[generation] = 1
    };
    slot_free(seen)
  :: atomic { PHASE(state) == STREAMING -> seen = state; ring_is_whole(); seen = 0 }  // cbh_stream_next
  :: PHASE(state) < STREAMING
  fi
}

inline ring_is_whole() {
#ifdef STREAM
  if
  :: TAG(stream) == LIFE(seen) && BLOCK(stream) ->
    assert(holders[BLOCK(stream)] & BIT(FRONT));
    assert(made_for[BLOCK(stream)] == GENERATION(seen) + 1)
  :: else -> assert(PHASE(seen) != STREAMING)
  fi
#else
  skip
#endif
}

inline cancel() {                       // cbh_cancel
  seen = state;
  do
  :: PHASE(seen) == READY ->
    if                                  // SYNC(request-ready)
    :: atomic { state == seen -> state = WITH(seen, WRITING); cancelled[generation] = 1 };
      ready = 0;
      slot_free(seen);
      break
    :: state != seen -> seen = state
    fi
  :: PHASE(seen) > READY ->
    if
    :: atomic { state == seen -> state = seen | CANCELLED << 3; cancelled[generation] = 1 };
      if :: OVER(seen) -> announce() :: else fi;
      seen = 0;
      break
    :: state != seen -> seen = state
    fi
  od
}

proctype front(byte me; byte my_epoch) {
  int seen; byte generation; bit was, open, asked;
  {
    assert(PHASE(state) == FREE);       // cbh_front_open: the slot is ours to give
    do
    :: submitted < ENTRIES ->
      d_step {                          // cbh_submit: WRITING, SYNC(entry-writing)
        submitted++;
        generation = GENERATION(state);
        state = STATE(generation, my_epoch, FRONT, 0, WRITING)
      };
      alloc(request, FRONT, generation);        // put_bytes
      d_step { result = TAGGED(generation << 2, 0); stream = result };
      atomic { open = 1; asked = 0; state = STATE(generation, my_epoch, FRONT, RETRY_WANTED, READY) };  // SYNC(request-ready)
      ready = 1;
      do
      :: !open -> break
#ifdef M_RUNG_AFTER_THE_LOOK
      :: atomic { open && bell -> bell = 0 };
        atomic { was = attention; attention = 0 };
        rung = 0;
#else
      :: atomic { open && bell -> bell = 0 };                 // cbh_drain: cbh_bell_quiet,
        rung = 0;                                             // SYNC(front-rung),
        atomic { was = attention; attention = 0 };
#endif
        if :: atomic { was -> was = 0 }; look() :: else fi
#ifdef CANCEL
      :: atomic { open && !asked -> asked = 1 }; cancel()
#endif
      od
    :: submitted >= ENTRIES -> break
    od;
    over = 1
  } unless { dead[me] }
}

// ------------------------------------------------------------------ worker
#ifdef M_NO_FENCE
#define OWNED(now) (PHASE(now) == CLAIMED || PHASE(now) == STREAMING)
#else
#define OWNED(now) (OWNER(now) == OWNER(claim) && (PHASE(now) == CLAIMED || PHASE(now) == STREAMING))
#endif

// cbh_lend: the note, the bit, the look. Whoever reclaims a front moves its slot on and then sweeps its bits.
inline lend(b) {
#ifndef M_NO_NOTE_OF_WHAT_IS_LENT
  lent[place] = b;
#endif
  hold(b, BIT(FRONT));
#ifndef M_NO_LOOK_AFTER_LENDING
  if
  :: OWNED(state)
  :: !OWNED(state) -> drop(b, BIT(FRONT)); lent[place] = 0; goto stale
  fi;
#endif
  lent[place] = 0
}

inline put_chunk() {                    // cbh_stream_put, the first time
  if :: OWNED(state) && MINE(place, my_epoch) :: else -> goto stale fi;
  alloc(ring, place, GENERATION(claim));                      // open_ring
  if
  :: atomic { stream == TAGGED(LIFE(claim), 0) -> stream = TAGGED(LIFE(claim), ring) }
  :: stream != TAGGED(LIFE(claim), 0) -> drop(ring, BIT(place)); ring = 0; goto stale
  fi;
  lend(ring);
  do                                    // enter_streaming
  :: atomic { OWNER(state) == OWNER(claim) && PHASE(state) == CLAIMED -> state = WITH(state, STREAMING); entered = 1 }; break
  :: OWNER(state) != OWNER(claim) || PHASE(state) != CLAIMED -> goto stale
  od;
  announce()
}

inline publish() {                      // cbh_result_make, cbh_publish
  alloc(block, place, GENERATION(claim));
  if :: OWNED(state) :: else -> goto stale fi;                // cbh_still_mine
  if :: MINE(place, my_epoch) :: else -> goto stale fi;
#ifdef M_HOLD_BEFORE_THE_WORD
  hold(block, BIT(FRONT));
#endif
  before = result;
#ifdef M_RESULT_OF_ANY_GENERATION
  if
  :: atomic { result == before -> result = TAGGED(LIFE(claim), block) }
  :: result != before -> goto stale
  fi;
#else
  if
  :: atomic { result == before && TAG(before) == LIFE(claim) -> result = TAGGED(LIFE(claim), block) }
  :: result != before || TAG(before) != LIFE(claim) -> goto stale
  fi;
#endif
  before = 0;
#ifndef M_HOLD_BEFORE_THE_WORD
#ifndef M_NO_BIT_FOR_THE_FRONT
  lend(block);
#endif
#endif
  if
  :: atomic {                           // SYNC(result-done): the loop of the compare-and-swap is one step here
      OWNED(state) ->
      assert(GENERATION(state) == GENERATION(claim) && claimer == me);  // ghost: no late publish is accepted
      state = WITH(state, DONE)
    }
  :: !OWNED(state) -> drop(block, BIT(FRONT)); goto stale     // taken back
  fi;
  announce()
}

byte claimer;                           // ghost: the instance whose claim is the valid one

inline claim_it() {                     // take_slot: its compare-and-swap
  state == seen ->
  claim = STATE(GENERATION(seen), my_epoch, place, FLAGS(seen), CLAIMED);
  state = claim;
  claimer = me
}

#ifdef M_STREAM_TAKEN_BACK
#define READ_BY_FRONT 0
#else
#define READ_BY_FRONT entered
#endif

proctype worker(byte me; byte place; byte my_epoch) {
  int seen, claim; short before; byte block, ring, body; bit entered;
  {
end_idle:
    do                                  // any_ready; a sleeper looks again after CBH_RECHECK_NS at the latest
    :: atomic { ready && MINE(place, my_epoch) -> ready = 0 };          // cbh_claim, take_slot: the hint
      seen = state;
      if
      :: PHASE(seen) != READY
#ifdef EXPIRE
      :: atomic { PHASE(seen) == READY && state == seen -> state = WITH(seen | EXPIRED << 3, FAILED) };  // fail()
        announce()
#endif
      :: PHASE(seen) == READY ->
#ifdef M_CLAIM_BEFORE_THE_BIT
        if :: atomic { claim_it() } :: state != seen -> goto next fi;
        body = request;
        hold(body, BIT(place));
#else
        body = request;
        hold(body, BIT(place));         // our bit before the claim
        if                              // SYNC(request-ready)
        :: atomic { claim_it() }
        :: state != seen -> drop(body, BIT(place)); goto next
        fi;
#endif
#ifndef M_NO_LOOK_AFTER_THE_CLAIM
        if                              // fenced since: the reclaimer saw it READY, or sees our claim; or we give it back
        :: atomic { MINE(place, my_epoch) -> seen = 0 }
        :: atomic { !MINE(place, my_epoch) && state == claim ->         // give_back()
             state = STATE(GENERATION(claim), 0, FRONT, FLAGS(claim), READY) };
          ready = 1;
          drop(body, BIT(place));
          goto next
        :: atomic { !MINE(place, my_epoch) && state != claim && OWNER(state) == OWNER(claim) ->       // cancelled since
             state = WITH(state | DIED << 3, FAILED) };
          announce();
          drop(body, BIT(place));
          goto next
        :: !MINE(place, my_epoch) && OWNER(state) != OWNER(claim) -> drop(body, BIT(place)); goto next
        fi;
#endif
        d_step {                        // it reads the request
          if
          :: MINE(place, my_epoch) -> assert((holders[body] & BIT(place)) && made_for[body] == GENERATION(claim) + 1)
          :: else
          fi;
          seen = 0
        };
#ifdef STREAM
        if :: put_chunk() :: skip fi;
#endif
        publish();
        d_step { drop(block, BIT(place)); drop(ring, BIT(place)); drop(body, BIT(place)) };  // and cbh_stream_close
        goto next;
stale:                                  // StaleOwner: its lease and its block go
        atomic {
          if :: block -> drop(block, BIT(place)) :: else fi;
          if
          :: ring && !READ_BY_FRONT -> drop(ring, BIT(place) | BIT(FRONT))      // nobody has seen the stream
          :: ring && READ_BY_FRONT -> drop(ring, BIT(place))
          :: else
          fi;
          drop(body, BIT(place))
        }
      fi;
next: atomic { entered = 0; block = 0; ring = 0; body = 0; before = 0; seen = 0; claim = 0 }
    :: !MINE(place, my_epoch) -> break
    :: over -> break
    od
  } unless { dead[me] }
}

// ------------------------------------------------------------------ whoever reclaims: the supervisor
#if RECLAIM_DEATHS
#define MAY_DIE if :: atomic { reclaim_deaths < RECLAIM_DEATHS -> reclaim_deaths++ }; goto again :: skip fi
#else
#define MAY_DIE skip
#endif

// forget_result, cbh_stream_forget: from here on no result of this attempt is taken. The drop comes first: the next one who
// reclaims finds the block by the word. Whoever was fenced while it ran drops the bit, too, when it is refused.
inline forget(word_) {
  do
  :: word = word_;
    if
    :: TAG(word) == LIFE(seen) ->
      if :: BLOCK(word) -> drop(BLOCK(word), BIT(FRONT)); MAY_DIE :: else fi;
      if :: atomic { word_ == word -> word_ = TAGGED(CLOSED(seen), 0) }; break :: word_ != word fi
    :: else -> break
    fi
  od;
  word = 0
}

#define GONE(s) (taken || EPOCH(s) != epoch[place])

inline reclaim_worker() {               // reclaim_slot, of a dead worker
  do
  :: seen = state;
    if
    :: PHASE(seen) == READY ->
#ifndef M_LOST_HINTS
      ready = 1;
#endif
      break
#ifdef M_EXPIRED_UNANNOUNCED
    :: OVER(seen) && PLACE(seen) != place -> break
    :: OVER(seen) && PLACE(seen) == place ->
#else
    :: OVER(seen) ->                    // whoever ended it: an expired one names no worker
#endif
#ifndef M_FINISHED_UNANNOUNCED
      announce();
#endif
      break
    :: PHASE(seen) != READY && !OVER(seen) && (PLACE(seen) != place || !GONE(seen)) -> break
    :: (PHASE(seen) == CLAIMED || PHASE(seen) == STREAMING) && PLACE(seen) == place && GONE(seen) ->
#ifndef M_FORGET_BEFORE_TAKING
      if                                // takes it: whoever had it cannot publish, nor give it back, any more
      :: atomic { state == seen -> seen = STATE(GENERATION(seen), epoch[place], place, FLAGS(seen), PHASE(seen)); state = seen; taken = 1 }
      :: state != seen -> goto next_look
      fi;
      MAY_DIE;
#endif
#ifndef M_NO_FORGET
      forget(result);
#endif
#ifdef STREAM
      if :: PHASE(seen) == CLAIMED -> forget(stream) :: else fi;
#endif
      MAY_DIE;
      if
      :: PHASE(seen) == CLAIMED && (FLAGS(seen) & RETRIES) && !(FLAGS(seen) & CANCELLED) && ATTEMPT(seen) + 1 < MOST_DEATHS ->
        if
        :: atomic { state == seen -> state = STATE(GENERATION(seen), 0, FRONT, RETRIES | (ATTEMPT(seen) + 1) << 4, READY) };
          MAY_DIE;
          ready = 1;
          break
        :: state != seen
        fi
      :: else ->
        if                              // fail()
        :: atomic { state == seen -> state = WITH(seen | DIED << 3, FAILED) };
          MAY_DIE;
          announce();
          break
        :: state != seen
        fi
      fi;
#ifdef M_ONE_LOOK
      break
#endif
    fi;
next_look: seen = 0
  od
}

inline reclaim_front() {                // reclaim_of_front
  if
  :: PHASE(state) == FREE
  :: atomic { PHASE(state) != FREE -> state = STATE((GENERATION(state) + 1) & 7, 0, 0, 0, FREE) };
    MAY_DIE;
    ready = 0;
    attention = 0
  fi
}

proctype reclaimer(byte who; byte place) {
  int seen; short word; byte b; bit taken;
again:
  taken = 0;
  epoch[place] = epoch[place] + 1;      // cbh_place_fence
  MAY_DIE;
  if :: place == FRONT -> reclaim_front() :: else -> reclaim_worker() fi;
  MAY_DIE;
  seen = 0;
  if                                    // take_back: of who has ended only
  :: atomic { dead[who] && lent[place] -> drop(lent[place], BIT(FRONT)) };
    MAY_DIE;
    lent[place] = 0
  :: else
  fi;
#ifdef M_SWEEP_WHILE_IT_RUNS
  d_step { for (b : 1 .. BLOCKS) { drop(b, BIT(place)) }; b = 0 };
#endif
#ifndef M_NO_SWEEP
  d_step {
    if
    :: dead[who] -> for (b : 1 .. BLOCKS) { drop(b, BIT(place)) }; b = 0        // cbh_drop_everywhere
    :: else                             // it still runs: what it holds is its own until it has ended
    fi
  };
#endif
  MAY_DIE;
#ifndef M_NO_RING_AFTER_DEATH
  rung = 1;                             // the dead one may have said "rung" without ringing
  bell = 1;
#endif
  reclaimed[who] = 1
}

// ------------------------------------------------------------------ what happens to them
inline sit(place) {                     // cbh_place_take
  epoch[place] = epoch[place] + 1;
  sits[place] = born;
  if
  :: place == FRONT -> run front(born, epoch[place])
  :: else -> run worker(born, place, epoch[place])
  fi;
  born++
}

proctype fate(byte place; byte deaths) {  // kills at this place, at any time; Pool._bury: reclaim, then another one sits down
  byte who;
end_fate:
  do
  :: atomic { deaths && !over -> deaths--; who = sits[place]; dead[who] = 1; run reclaimer(who, place) };
    atomic { reclaimed[who] -> reclaimed[who] = 0; sit(place) }
#if LATE
  :: atomic { place == 1 && late == 0 && !over -> late = 1; who = sits[place]; run reclaimer(who, place) };
    break                               // it runs on; nobody sits down at its place before it has ended
#endif
  :: over || !deaths -> break
  od
}

init {
  atomic {
    sit(FRONT); sit(1); sit(2);
    if :: FRONT_DEATHS -> run fate(FRONT, FRONT_DEATHS) :: else fi;
    if :: WORKER_DEATHS || LATE -> run fate(1, WORKER_DEATHS) :: else fi
  };
  // No step of anybody is possible any more, or only the end is left.
  (over && _nr_pr == 1);
  d_step {
    assert(PHASE(state) == FREE);
    byte b;
    for (b : 1 .. BLOCKS) {
      assert(holders[b] == 0)
    }
  }
}
