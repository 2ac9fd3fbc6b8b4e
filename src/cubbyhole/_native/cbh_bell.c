// SPDX-License-Identifier: Apache-2.0
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cbh_bell.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

void cbh_bell_ring(int fd) {
  uint64_t one = 1;
  if (fd < 0) return;
  // It fails only when 2**64 - 2 rings are waiting, and then the bell is ringing anyway.
  ssize_t written = write(fd, &one, sizeof one);
  (void)written;
}

void cbh_bell_quiet(int fd) {
  uint64_t rings;
  ssize_t got = read(fd, &rings, sizeof rings);  // the descriptor does not block: nothing there is no error
  (void)got;
}

bool cbh_bell_wait(int fd, uint64_t wait_ns) {
  struct pollfd wanted = {.fd = fd, .events = POLLIN};
  struct timespec wait = {(time_t)(wait_ns / 1000000000ull), (long)(wait_ns % 1000000000ull)};
  return ppoll(&wanted, 1, &wait, NULL) > 0;
}
