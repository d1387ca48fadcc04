/* SPDX-License-Identifier: Apache-2.0 */
/* store: the tensors that programs share by name.  Each stands alone in memory, so that pointers
 * to it stay valid while others are added.  Where the device has its own memory, each has a mirror
 * on the host. */
#include "runtime/program.h"

#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"

typedef struct Stored {
    GtcTensor t;
    void *device; /* t.data itself where there is one memory only */
} Stored;

struct GtcStore {
    GtcDevice *d;
    Stored **at;
    int n, cap;
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

void gtc_store_destroy(GtcStore *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n; i++)
        stored_free(s, s->at[i]);
    free(s->at);
    free(s);
}

int gtc_store_count(const GtcStore *s)
{
    return s->n;
}

GtcTensor *gtc_store_at(GtcStore *s, int i)
{
    return &s->at[i]->t;
}

static Stored *find(const GtcStore *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->at[i]->t.name, name) == 0)
            return s->at[i];
    return NULL;
}

GtcTensor *gtc_store_find(GtcStore *s, const char *name)
{
    Stored *t = find(s, name);
    return t ? &t->t : NULL;
}

static Status copy_all(Ctx *cx, GtcStore *s, CopyWay way)
{
    for (int i = 0; s->d->ops->copy && i < s->n; i++) {
        Stored *t = s->at[i];
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

static Stored *stored_new(GtcStore *s, const char *name, InputKind kind, const Type *type)
{
    Stored *t = calloc(1, sizeof *t);
    const int64_t bytes = type_bytes(type);
    if (!t)
        return NULL;
    t->t = (GtcTensor){ .name = strdup(name), .kind = kind, .type = *type };
    t->device = s->d->ops->alloc(s->d, MEMORY_DEVICE, bytes);
    t->t.data = s->d->ops->copy ? s->d->os->alloc((size_t)bytes) : t->device;
    if (t->t.name && t->device && t->t.data)
        return t;
    stored_free(s, t);
    return NULL;
}

Status store_tensor(Ctx *cx, GtcStore *s, const char *name, InputKind kind, const Type *type,
                    void **device)
{
    Stored *t = find(s, name);
    if (t && !type_eq(&t->t.type, type))
        return FAIL(cx, TYPE, "%s is %s in the store, the graph wants %s", name,
                    type_str(&t->t.type), type_str(type));
    if (!t && s->n == s->cap) {
        const int cap = s->cap ? 2 * s->cap : 64;
        Stored **more = realloc(s->at, (size_t)cap * sizeof(Stored *));
        if (!more)
            return FAIL(cx, MEMORY, "no memory for %d tensors", cap);
        s->at = more;
        s->cap = cap;
    }
    if (!t) {
        t = stored_new(s, name, kind, type);
        if (!t)
            return FAIL(cx, MEMORY, "no memory for %s: %s, %lld bytes%s", name, type_str(type),
                        (long long)type_bytes(type), s->d->trouble);
        s->at[s->n++] = t;
    }
    *device = t->device;
    return ST_OK;
}
