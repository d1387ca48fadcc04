/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_CHECKPOINT_H
#define GTC_TRAIN_CHECKPOINT_H

#include "runtime/gtc.h"

/* One safetensors file: named tensors and a map of strings.  Any reader of safetensors takes it.
 * What gtc writes also carries a checksum of the whole file in its metadata ("xxh3"); a file
 * without one (weights from elsewhere) is taken when it is well formed. */
typedef struct CheckpointMeta {
    const char *key, *value;
} CheckpointMeta;

typedef struct Checkpoint { /* everything is the arena's; tensor data may be unaligned */
    Arena *arena;
    GtcTensor *tensor;
    int ntensor;
    CheckpointMeta *meta;
    int nmeta;
} Checkpoint;

Checkpoint *checkpoint_new(void);
void checkpoint_free(Checkpoint *c); /* NULL is fine */

void checkpoint_add(Checkpoint *c, const GtcTensor *t); /* t->data is not copied */
void checkpoint_put(Checkpoint *c, const char *key, const char *value);

const GtcTensor *checkpoint_find(const Checkpoint *c, const char *name); /* NULL if absent */
const char *checkpoint_get(const Checkpoint *c, const char *key);        /* NULL if absent */

/* Writes beside path, syncs, renames: path holds all of the old or all of the new.  Refuses
 * (ST_NUMERIC) a float tensor with a NaN or an infinity. */
Status checkpoint_write(Ctx *cx, const char *path, const Checkpoint *c);

/* ST_IO when it cannot be read, ST_DATA (with the byte) when it is not a whole checkpoint. */
Status checkpoint_read(Ctx *cx, const char *path, Checkpoint **out);
Status checkpoint_parse(Ctx *cx, const char *path, const char *bytes, size_t n, Checkpoint **out);

/* Copies into every tensor of s the one of that name in c.  ST_DATA when c lacks one or has it
 * with another type; what else is in c (moments, when s is for prediction) is left alone. */
Status checkpoint_load(Ctx *cx, const char *path, const Checkpoint *c, GtcStore *s);

#endif
