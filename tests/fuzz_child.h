/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_FUZZ_CHILD_H
#define GTC_TESTS_FUZZ_CHILD_H

#include <sys/types.h>

#include "tests/fuzz_case.h"

/* A case in a process of its own with a time limit: a crash, a failed assertion or a loop without
 * end is one mismatch, and the run goes on. */
typedef struct FuzzChild {
    pid_t pid;       /* 0: none */
    int from, heard; /* its verdict; what it printed */
    double deadline; /* by fuzz_now */
    int seconds;
} FuzzChild;

typedef void FuzzWork(void *arg, FuzzVerdict *v);

double fuzz_now(void); /* seconds */

/* Fails the program when there are no processes to be had. */
void fuzz_child_start(FuzzChild *c, FuzzWork *work, void *arg, int seconds);
/* Waits until the deadline at most; false when it has not ended by `until` (by fuzz_now). */
bool fuzz_child_wait(FuzzChild *c, double until, FuzzVerdict *v);

/* Both. */
void fuzz_child_run(FuzzWork *work, void *arg, int seconds, FuzzVerdict *v);

#endif
