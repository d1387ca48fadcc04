/* SPDX-License-Identifier: Apache-2.0 */
/* store: the tensors that programs share by name.  Each stands alone in memory, so that pointers
 * to it stay valid while others are added.  Where the device has its own memory, each has a mirror
 * on the host; not so tables, which are no part of what is trained: they stand in a list of their
 * own, which is not counted. */
#include "runtime/program.h"

#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"
#include "ir/base/size.h"

typedef struct Stored {
    GtcTensor t;
    void *device; /* t.data itself where there is one memory only */
} Stored;

typedef struct StoredList {
    Stored **at;
    int n, cap;
} StoredList;

struct GtcStore {
    GtcDevice *d;
    StoredList all, table;
};

Status gtc_store_create(Ctx *cx, GtcDevice *d, GtcStore **out)
{
    GtcStore *s = *out = calloc(1, sizeof *s);
    if (!s)
        return FAIL(cx, MEMORY, "no memory for a store");
    s->d = d;
    return ST_OK;
}

static void stored_free(GtcStore *s, Stored *t)
{
    if (!t)
        return;
    s->d->ops->release(s->d, MEMORY_DEVICE, t->device);
    if (t->t.data && t->t.data != t->device)
        s->d->os->release(t->t.data);
    free((char *)(uintptr_t)t->t.name); /* a copy of our own */
    free(t);
}

static void list_free(GtcStore *s, StoredList *l)
{
    for (int i = 0; i < l->n; i++)
        stored_free(s, l->at[i]);
    free(l->at);
}

void gtc_store_destroy(GtcStore *s)
{
    if (!s)
        return;
    list_free(s, &s->all);
    list_free(s, &s->table);
    free(s);
}

int gtc_store_count(const GtcStore *s)
{
    return s->all.n;
}

GtcTensor *gtc_store_at(GtcStore *s, int i)
{
    return &s->all.at[i]->t;
}

static Stored *find(const StoredList *l, const char *name)
{
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->at[i]->t.name, name) == 0)
            return l->at[i];
    return NULL;
}

GtcTensor *gtc_store_find(GtcStore *s, const char *name)
{
    Stored *t = find(&s->all, name);
    return t ? &t->t : NULL;
}

static Status copy_all(Ctx *cx, GtcStore *s, CopyWay way)
{
    for (int i = 0; s->d->ops->copy && i < s->all.n; i++) {
        Stored *t = s->all.at[i];
        TRY(s->d->ops->copy(cx, s->d, way, t->t.data, t->device, type_bytes(&t->t.type)));
    }
    return ST_OK;
}

Status gtc_store_upload(Ctx *cx, GtcStore *s)
{
    return copy_all(cx, s, COPY_TO_DEVICE);
}

Status gtc_store_download(Ctx *cx, GtcStore *s)
{
    return copy_all(cx, s, COPY_TO_HOST);
}

static Stored *stored_new(GtcStore *s, const char *name, InputKind kind, const Type *type,
                          bool mirror)
{
    Stored *t = calloc(1, sizeof *t);
    const int64_t bytes = type_bytes(type);
    if (!t)
        return NULL;
    t->t = (GtcTensor){ .name = strdup(name), .kind = kind, .type = *type };
    t->device = s->d->ops->alloc(s->d, MEMORY_DEVICE, bytes);
    t->t.data = !s->d->ops->copy ? t->device : mirror ? s->d->os->alloc((size_t)bytes) : NULL;
    if (t->t.name && t->device && (t->t.data || !mirror))
        return t;
    stored_free(s, t);
    return NULL;
}

static Status add(Ctx *cx, GtcStore *s, StoredList *l, const char *name, InputKind kind,
                  const Type *type)
{
    if (l->n == l->cap) {
        const int cap = l->cap ? 2 * l->cap : 64;
        Stored **more = realloc(l->at, (size_t)cap * sizeof(Stored *));
        if (!more)
            return FAIL(cx, MEMORY, "no memory for %d tensors", cap);
        l->at = more;
        l->cap = cap;
    }
    Stored *t = stored_new(s, name, kind, type, l == &s->all);
    if (!t)
        return FAIL(cx, MEMORY, "no memory for %s: %s, %lld bytes%s", name, type_str(type),
                    (long long)type_bytes(type), s->d->trouble);
    l->at[l->n++] = t;
    return ST_OK;
}

Status store_tensor(Ctx *cx, GtcStore *s, const char *name, InputKind kind, const Type *type,
                    void **device)
{
    Stored *t = find(&s->all, name);
    if (!t)
        t = find(&s->table, name);
    if (!t) {
        TRY(add(cx, s, &s->all, name, kind, type));
        t = s->all.at[s->all.n - 1];
    }
    if (!type_eq(&t->t.type, type))
        return FAIL(cx, TYPE, "%s is %s in the store, the graph wants %s", name,
                    type_str(&t->t.type), type_str(type));
    *device = t->device;
    return ST_OK;
}

Status gtc_store_table(Ctx *cx, GtcStore *s, const char *name, const Type *type)
{
    if (find(&s->all, name) || find(&s->table, name))
        return FAIL(cx, VALUE, "the store has a tensor %s already", name);
    return add(cx, s, &s->table, name, INPUT_const, type);
}

Status gtc_store_write(Ctx *cx, GtcStore *s, const char *name, int64_t at, const void *from,
                       int64_t bytes)
{
    const Stored *t = find(&s->table, name);
    int64_t end;
    if (!t)
        return FAIL(cx, VALUE, "the store has no table %s", name);
    if (at < 0 || bytes < 0 || !size_add_ok(at, bytes, &end) || end > type_bytes(&t->t.type))
        return FAIL(cx, VALUE, "%s has %lld bytes, there is no place for %lld at %lld", name,
                    (long long)type_bytes(&t->t.type), (long long)bytes, (long long)at);
    char *to = (char *)t->device + at;
    if (s->d->ops->copy) /* which does not write to the host's side */
        return s->d->ops->copy(cx, s->d, COPY_TO_DEVICE, (void *)(uintptr_t)from, to, bytes);
    memcpy(to, from, (size_t)bytes);
    return ST_OK;
}
