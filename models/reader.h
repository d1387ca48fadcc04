/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_MODELS_READER_H
#define GTC_MODELS_READER_H

#include "models/layer.h"

/* What the functions that read model.json carry. */
typedef struct Reader {
    Ctx *cx;
    Arena *arena;
    Model *m;
} Reader;

/* Reads "data"; the loss is read before, since it says whether the target is a class. */
Status model_read_data(Reader *r, Json *o);

#endif
