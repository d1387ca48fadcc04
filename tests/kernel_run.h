/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_KERNEL_RUN_H
#define GTC_TESTS_KERNEL_RUN_H

#include <stdbool.h>
#include <stdint.h>

/* A compiled kernel, called as the runtime's team calls it, and memory for its arguments. */
typedef struct KernelTeam { /* gtc_team of the prelude */
    int tid, nt;
    void *bar;
    void (*barrier)(void *);
} KernelTeam;
typedef void KernelFn(void *const *arg, const KernelTeam *team);

enum { KERNEL_THREADS = 8 }; /* the most */

void kernel_run(KernelFn *fn, void *const *arg, int threads);

/* Bytes of 0xff with a red zone behind them; free() takes it back. */
void *kernel_memory(int64_t bytes);
/* False when the red zone was written to. */
bool kernel_memory_is_whole(const void *p, int64_t bytes);

#endif
