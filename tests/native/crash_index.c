// SPDX-License-Identifier: Apache-2.0
//
// A process is killed at each point at which it can be killed in the index; another one must find a whole dictionary.
// usage: crash_index FIRST LAST    prints "POINT WAY" for each death that it survived; exits 1 at the first that it did not
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "party.h"

extern int cbh_crash_armed;

#define KEYS 6
enum way { INSERT, REPLACE, REPLACE_DEEP, DELETE, DELETE_DEEP, LOOK_UP, LARGE, STEAL, REAP, WAKE, TRIM, WAYS };

static void act(party *p, enum way way) {
  cbh_found found;
  switch (way) {
    case INSERT: store(p, 5, 100, 2); break;
    case REPLACE: store(p, 4, 100, 2); break;       // head of the chain
    case REPLACE_DEEP: store(p, 1, 3000, 2); break;
    case DELETE: erase(p, 4); break;
    case DELETE_DEEP: erase(p, 1); break;
    case LOOK_UP: look_up(p, 2, &found); break;
    case LARGE: store(p, 3, 3 << 20, 2); break;
    case WAKE:
      cbh_index_arm(&p->index, 0);
      store(p, 0, 64, 2);
      break;
    case TRIM:  // give back an extent of small blocks and a run of large ones
      store(p, 0, 64, 2);
      for (uint64_t key = 10; key < 30; key++) store(p, key, key < 20 ? 5000 : 1 << 20, 2), erase(p, key);
      cbh_trim(&p->segment);
      break;
    default: break;
  }
}

// A process that dies at `point` in doing so; true if it came by there.
static bool die(int fd, enum way way, int point, uint32_t *place) {
  int pipe_fds[2];
  CHECK(pipe(pipe_fds) == 0, "pipe");
  pid_t pid = fork();
  CHECK(pid >= 0, "fork");
  if (pid == 0) {
    party p;
    join(&p, fd);
    CHECK(write(pipe_fds[1], &p.segment.place, 4) == 4, "tell");
    if (way == REAP) {
      cbh_crash_armed = point;
      for (uint32_t i = 1; i < CBH_PLACES; i++)
        if (i != p.segment.place && cbh_place_pid(&p.segment, i) && !cbh_place_alive(&p.segment, i)) cbh_place_reap(&p.segment, i);
    } else {
      cbh_found lease;  // it looks at something as well
      if (way == STEAL) cbh_crash_armed = point;  // the look meets the dead writer's lock
      CHECK(look_up(&p, 2, &lease) == CBH_OK, "lease");
      p.leases[p.lease_count++] = lease.block;
      cbh_crash_armed = point;
      act(&p, way == STEAL ? INSERT : way);
    }
    _exit(0);
  }
  int status;
  CHECK(read(pipe_fds[0], place, 4) == 4, "listen");
  close(pipe_fds[0]);
  close(pipe_fds[1]);
  CHECK(waitpid(pid, &status, 0) == pid, "wait");
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static bool round_of(enum way way, int point, bool reap_first) {
  uint32_t first = 0, second = 0;
  int fd = make_dictionary(16 << 20, 1);  // one bucket: everything is one chain
  party p;
  join(&p, fd);
  for (uint64_t key = 0; key < 5; key++) CHECK(store(&p, key, 64 + 32 * key, 1) == CBH_OK, "fill");
  uint64_t may_be[KEYS][2] = {{1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {0, 0}};
  bool hit;
  if (way == STEAL || way == REAP) {  // the one who mends dies too
    CHECK(die(fd, REPLACE_DEEP, 25, &first), "the first death");
    may_be[1][0] = 2, may_be[5][1] = 2;
    hit = die(fd, way, point, &second);
  } else {
    hit = die(fd, way, point, &first);
    second = first;
    static const int touched[] = {5, 4, 1, 4, 1, 2, 3, 0, 0, 0, 0};
    int key = touched[way];
    may_be[key][1] = way == DELETE || way == DELETE_DEEP ? 0 : way == LOOK_UP ? 1 : 2;
  }
  if (hit) {
    party next;
    for (int turn = 0; reap_first && turn < 2; turn++) {  // twice: the second is the reaper that died, or nobody
      cbh_place_reap(&p.segment, first);
      cbh_place_reap(&p.segment, second);
    }
    join(&next, fd);  // the dead one's place is somebody else's now, if it was reaped
    // Everybody goes on, in the same bucket: each key is there or not, whole, and can be stored again.
    for (uint64_t key = 0; key < KEYS; key++) {
      cbh_found found;
      uint64_t number = 0;
      int code = look_up(&p, key, &found);
      if (code == CBH_OK) {
        CHECK(payload_whole(p.segment.base + found.block + found.value_at, found.value_bytes, key, &number), "torn");
        let_go(&p, found.block);
      }
      CHECK(number == may_be[key][0] || number == may_be[key][1], "key %d has value %d", (int)key, (int)number);
      CHECK(store(&next, key, 128, 3) >= 0, "store");
      may_be[key][0] = may_be[key][1] = 3;
    }
    if (!reap_first) {
      cbh_place_reap(&p.segment, second);
      cbh_place_reap(&p.segment, first);
    }
    check_whole(&p, KEYS, may_be);
    cbh_place_leave(&next.segment);
    cbh_segment_unmap(&next.segment);
    for (uint64_t key = 0; key < KEYS; key++) erase(&p, key);
    check_whole(&p, KEYS, NULL);
    uint64_t bytes, blocks;
    cbh_usage(&p.segment, &bytes, &blocks);
    CHECK(blocks == 0, "%llu blocks are left", (unsigned long long)blocks);
    CHECK(store(&p, 7, 15 << 20, 1) >= 0 && erase(&p, 7) == CBH_OK, "the arena is not free as a whole");
    uint64_t small = 0;
    while (way == TRIM && cbh_alloc(&p.segment, 256) >= 0) small++;
    CHECK(way != TRIM || small == (16 << 20) / 256, "%llu small blocks of 65536 are free", (unsigned long long)small);
    if (way == TRIM) cbh_drop_everywhere(&p.segment, p.segment.place);
    for (uint64_t number = 1; number < 40; number++) CHECK(store(&p, 7, 1 << 20, number) >= 0, "no room again");
  }
  cbh_place_leave(&p.segment);
  cbh_segment_unmap(&p.segment);
  close(fd);
  return hit;
}

int main(int argc, char **argv) {
  int first = argc > 1 ? atoi(argv[1]) : 20, last = argc > 2 ? atoi(argv[2]) : 69;
  for (int point = first; point <= last; point++)
    for (int way = 0; way < WAYS; way++)
      for (int reap_first = 0; reap_first < 2; reap_first++) {
        fprintf(stderr, "point %d way %d %s\n", point, way, reap_first ? "reaped first" : "met first");
        if (round_of((enum way)way, point, reap_first)) printf("%d %d\n", point, way);
        fflush(stdout);
      }
  return 0;
}
