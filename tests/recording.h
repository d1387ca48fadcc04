/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_RECORDING_H
#define GTC_TESTS_RECORDING_H

#include "ir/eval.h"
#include "models/model.h"
#include "train/checkpoint.h"

/* A file of tests/recorded: a model, and what PyTorch computes with it.  Weights and data are drawn
 * by a generator that tests/recorded/make.py describes and shares. */
typedef struct Recording {
    Ctx cx;
    Arena *arena;
    const char *name;
    Checkpoint *file;
    Model *m; /* NULL until recording_model */
    DataShape d;
    int batch, rows; /* rows: that count */
    int steps;       /* of the optimizer; 0: gradients are recorded, not steps */
    double lr;
} Recording;

/* All of these fail the running test when they fail. */
Recording *recording_open(const char *path);
void recording_close(Recording *r);
void recording_model(Recording *r);

/* The text of a key, which must be there. */
const char *recording_text(const Recording *r, const char *key);

/* The value of each input of g, with which PyTorch began. */
Tensor *recording_values(Recording *r, const Graph *g);

/* Whether that input holds whole numbers: numbers of words. */
bool recording_is_whole(const Recording *r, const char *name);

/* Where of a tensor with so many elements the k-th of the sampled ones stands; name is "some.X". */
int64_t recording_place(const Recording *r, const char *name, int k, int64_t count);

/* The files of a folder that end like that, in order. */
StrList recording_list(Arena *arena, const char *dir, const char *end);

/* "3,5,2" as a shape; "-" is a scalar's. */
Shape recording_shape(const char *text);

#endif
