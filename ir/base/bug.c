/* SPDX-License-Identifier: Apache-2.0 */
#include "ir/base/bug.h"

#ifdef GTC_SEEDED_BUGS
#include <stdatomic.h>
#include <stdlib.h>

/* The number in GTC_BUG, 0 for none.  Read once: sites stand in inner loops. */
int bug_seeded(void)
{
    static _Atomic int seeded = -1;
    int n = atomic_load_explicit(&seeded, memory_order_relaxed);
    if (n < 0) {
        const char *s = getenv("GTC_BUG");
        n = s ? atoi(s) : 0;
        atomic_store_explicit(&seeded, n, memory_order_relaxed);
    }
    return n;
}
#else
typedef int bug_none; /* a file of C holds something */
#endif
