/* SPDX-License-Identifier: Apache-2.0 */
/* Cache entries.  A hit gives exactly the data of an entry of this key.  Nearly every change spoils
 * the checksum; so an input that is refused is tried again with the sum that belongs to it. */
#include <stdlib.h>
#include <string.h>

#include "ir/base/hash.h"
#include "runtime/cache.h"
#include "tests/fuzz/target.h"

enum { FOOTER = 72, SUM = 32 };

static const CacheKey key = { "tu", "isa: x\n\nint f;\n", "cc: gcc\n" };

static bool read_entry(Ctx *cx)
{
    Cache *c;
    char *data = NULL;
    size_t n = 0, all;
    setenv("GTC_CACHE_DIR", "/cache", 1);
    fuzz_check(cache_open(cx, &c) == ST_OK, "%s", cx->msg);
    const char *bytes = fuzz_bytes(&all);
    const bool hit = cache_get(cx, c, &key, &data, &n);
    cache_close(c);
    if (!hit)
        return false;
    const size_t keys = strlen(key.what) + strlen(key.how);
    fuzz_check(n + keys + FOOTER == all, "%zu bytes of %zu", n, all);
    fuzz_check(memcmp(data, bytes, n) == 0, "other data");
    fuzz_check(memcmp(data + n, key.what, strlen(key.what)) == 0, "of another key");
    free(data);
    return true;
}

static Status read_cache(Ctx *cx)
{
    size_t n;
    const char *bytes = fuzz_bytes(&n);
    if (read_entry(cx)) {
        fuzz_accepted();
        return ST_OK;
    }
    if (n >= FOOTER) {
        char *copy = malloc(n), sum[SUM + 1];
        memcpy(copy, bytes, n);
        hash_hex(copy, n - SUM, sum);
        memcpy(copy + n - SUM, sum, SUM);
        fuzz_replace(copy);
        read_entry(cx);
        fuzz_replace(bytes);
        free(copy);
    }
    return FAIL(cx, DATA, "input.gtc: no hit");
}

const FuzzTarget fuzz_cache = { "cache", ".gtc", read_cache };
