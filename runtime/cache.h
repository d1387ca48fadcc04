/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_CACHE_H
#define GTC_RUNTIME_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#include "ir/base/status.h"
#include "ir/base/strbuf.h"

/* The folder of things that cost time to make again.  It is never needed: whatever is wrong with
 * it (not there, read-only, full, damaged, not ours) costs time and one line in the log. */
typedef struct Cache Cache;

/* what: everything the result depends on, compared in full.  how: by whom it was made, as lines
 * "field: value"; a get with how NULL takes any maker's entry.  kind: the subfolder, "tu". */
typedef struct CacheKey {
    const char *kind, *what, *how;
} CacheKey;

typedef struct CacheInfo {
    int64_t entries, bytes;
} CacheInfo;

/* $GTC_CACHE_DIR, else $XDG_CACHE_HOME/gtc, else ~/.cache/gtc.  Makes nothing yet.
 * ST_MEMORY only. */
Status cache_open(Ctx *cx, Cache **out);
void cache_close(Cache *c);            /* NULL is fine */
const char *cache_dir(const Cache *c); /* "" when no folder can be found */

/* On a hit *data is the caller's, to be freed with free().  A damaged entry is removed. */
bool cache_get(Ctx *cx, Cache *c, const CacheKey *key, char **data, size_t *n);
void cache_put(Ctx *cx, Cache *c, const CacheKey *key, const void *data, size_t n);
void cache_drop(Ctx *cx, Cache *c, const CacheKey *key); /* an entry that turned out bad */

/* Counts every entry, of all kinds; clear removes them and counts what it removed. */
Status cache_stats(Ctx *cx, Cache *c, CacheInfo *out);
Status cache_clear(Ctx *cx, Cache *c, CacheInfo *out);

/* Why a get of key would miss: compares it with the nearest entry of its kind, one line a field
 * that differs ("flags: has -O1, wants -O2"), or says that there is none. */
void cache_explain(Ctx *cx, Cache *c, const CacheKey *key, Strbuf *out);

/* A file of its own beside the entries (a compiler's complaint): writes it and stores its path;
 * *path is "" where it could not be written. */
void cache_note(Ctx *cx, Cache *c, const char *name, const void *data, size_t n, char *path,
                size_t cap);

#endif
