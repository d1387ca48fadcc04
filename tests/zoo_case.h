/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_ZOO_CASE_H
#define GTC_TESTS_ZOO_CASE_H

#include "ir/eval.h"
#include "models/model.h"

/* Every model of models/ and bench/nets, made small but of the same structure, or as it is. */
enum { ZOO_BATCH = 6 };

typedef struct ZooCase {
    const char *path;
    const char *set[24]; /* to the first NULL */
    Shape x;             /* without the batch */
    int targets, classes;
    const char *text; /* in place of a file */
    Shape z;          /* of the second input, if there is one */
    int words;        /* x is so many whole numbers */
    bool each;        /* a class for each row of x */
    const char *own;  /* "optimizer.eps=1e-3" where NULL */
    Shape full;       /* x of the model as it is; of rank 0 where that is this one */
    int full_targets, full_classes; /* 0: as many as here */
} ZooCase;

extern const ZooCase zoo_case[];
extern const int zoo_cases;

typedef struct Zoo {
    Ctx cx;
    Model *m;
    DataShape d;
    NamedShape input[2];
    Arena *arena;
    double lr;
    int batch;
} Zoo;

/* Reads the case's model, with that optimizer if not NULL; a failure ends the test. */
void zoo_open(Zoo *z, const ZooCase *c, const char *optimizer);
/* The model as its file has it, with the batch of its training. */
void zoo_open_full(Zoo *z, const ZooCase *c);
void zoo_close(Zoo *z);
/* Values of its inputs (ReferenceOptions.init); arg is the Zoo. */
bool zoo_init(void *arg, const char *name, InputKind kind, Tensor *t);
/* Its training step; a failure ends the test. */
Graph *zoo_graph(Zoo *z, const ZooCase *c, BuildKind kind);

#endif
