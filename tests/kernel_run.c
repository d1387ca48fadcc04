/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kernel_run.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/status.h"

enum { RED = 64 };

struct Share {
    KernelFn *fn;
    void *const *arg;
    KernelTeam team;
};

static void *run_share(void *p)
{
    struct Share *s = p;
    s->fn(s->arg, &s->team);
    return NULL;
}

static void barrier_wait(void *b)
{
    pthread_barrier_wait(b);
}

void kernel_run(KernelFn *fn, void *const *arg, int threads)
{
    pthread_barrier_t bar;
    pthread_t thread[KERNEL_THREADS];
    struct Share share[KERNEL_THREADS];
    pthread_barrier_init(&bar, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++)
        share[i] = (struct Share){ fn, arg, { i, threads, &bar, barrier_wait } };
    for (int i = 1; i < threads; i++)
        gtc_assert(pthread_create(&thread[i], NULL, run_share, &share[i]) == 0, "no thread");
    run_share(&share[0]);
    for (int i = 1; i < threads; i++)
        pthread_join(thread[i], NULL);
    pthread_barrier_destroy(&bar);
}

void *kernel_memory(int64_t bytes)
{
    const size_t room = ((size_t)bytes + RED + 4095) / 4096 * 4096;
    void *p = aligned_alloc(4096, room);
    gtc_assert(p, "no memory for %zu bytes", room);
    memset(p, 0xff, room);
    return p;
}

bool kernel_memory_is_whole(const void *p, int64_t bytes)
{
    const unsigned char *red = (const unsigned char *)p + bytes;
    for (int i = 0; i < RED; i++)
        if (red[i] != 0xff)
            return false;
    return true;
}
