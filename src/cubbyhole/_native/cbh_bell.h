// SPDX-License-Identifier: Apache-2.0
//
// Doorbells: an eventfd for each place, inherited by every process of a server. A bell is rung only for who sleeps.
#ifndef CBH_BELL_H
#define CBH_BELL_H

#include <stdbool.h>
#include <stdint.h>

void cbh_bell_ring(int fd);
void cbh_bell_quiet(int fd);                     // takes all rings at once
bool cbh_bell_wait(int fd, uint64_t wait_ns);    // until it rings; false: time is over, or a signal came

#endif
