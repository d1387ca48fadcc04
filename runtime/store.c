/* SPDX-License-Identifier: Apache-2.0 */
/* store: the tensors that programs share by name.  Each stands alone in memory, so that pointers
 * to it stay valid while others are added. */
#include "runtime/program.h"

#include <stdlib.h>
#include <string.h>

struct GtcStore {
    GtcDevice *d;
    GtcTensor **at;
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

static void tensor_free(GtcStore *s, GtcTensor *t)
{
    if (!t)
        return;
    s->d->ops->release(s->d, t->data);
    free((char *)(uintptr_t)t->name); /* a copy of our own */
    free(t);
}

void gtc_store_destroy(GtcStore *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n; i++)
        tensor_free(s, s->at[i]);
    free(s->at);
    free(s);
}

int gtc_store_count(const GtcStore *s)
{
    return s->n;
}

GtcTensor *gtc_store_at(GtcStore *s, int i)
{
    return s->at[i];
}

GtcTensor *gtc_store_find(GtcStore *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->at[i]->name, name) == 0)
            return s->at[i];
    return NULL;
}

Status store_tensor(Ctx *cx, GtcStore *s, const char *name, InputKind kind, const Type *type,
                    GtcTensor **out)
{
    GtcTensor *t = *out = gtc_store_find(s, name);
    if (t && type_eq(&t->type, type))
        return ST_OK;
    if (t)
        return FAIL(cx, TYPE, "%s is %s in the store, the graph wants %s", name, type_str(&t->type),
                    type_str(type));
    if (s->n == s->cap) {
        const int cap = s->cap ? 2 * s->cap : 64;
        GtcTensor **more = realloc(s->at, (size_t)cap * sizeof(GtcTensor *));
        if (!more)
            return FAIL(cx, MEMORY, "no memory for %d tensors", cap);
        s->at = more;
        s->cap = cap;
    }
    t = calloc(1, sizeof *t);
    const int64_t bytes = type_bytes(type);
    if (t)
        *t = (GtcTensor){
            .name = strdup(name), .kind = kind, .type = *type, .data = s->d->ops->alloc(s->d, bytes)
        };
    if (!t || !t->name || !t->data) {
        tensor_free(s, t);
        return FAIL(cx, MEMORY, "no memory for %s: %s, %lld bytes", name, type_str(type),
                    (long long)bytes);
    }
    s->at[s->n++] = *out = t;
    return ST_OK;
}
