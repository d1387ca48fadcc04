/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_ORACLE_H
#define GTC_IR_ORACLE_H

#include "ir/eval.h"

/* What a correct program may give: the evaluator's value, and around each element the interval
 * that any order of summation, any fma and any place of rounding stays in (oracle.c).  The samples
 * are what the graph gives when every op errs at random by about what it may.
 *
 * A decision (a comparison, floor, a cast to an integer, an equal maximum, an index) whose operands
 * reach over the border is open: its result spans both answers, and is compared like any other. */
enum { ORACLE_SAMPLES = 8 };

typedef struct OracleTensor {
    Tensor ref;                          /* f64 */
    Tensor rounded;                      /* with every result rounded to its dtype */
    double *lo, *hi;                     /* [-inf, inf]: anything, NaN too */
    double *lo_decided, *hi_decided;     /* where every decision goes as it went in ref */
    double *sample[ORACLE_SAMPLES];      /* likewise */
    double *open_sample[ORACLE_SAMPLES]; /* where open decisions go either way */
} OracleTensor;

/* A tensor that is known exactly; its elements are numbers of its dtype. */
OracleTensor oracle_exact(Arena *arena, const Tensor *t);

/* in[i] belongs to g->input[i], out[i] (allocated in arena) to g->out[i]; so what one step leaves
 * in params and states is what the next begins with, errors and all.  Fails as eval_graph does. */
Status oracle_graph(Ctx *cx, const Graph *g, Arena *arena, const OracleTensor *in,
                    OracleTensor *out);

/* The same, each output by itself as soon as it is known, and gone after the call: 37 numbers an
 * element are too much to keep of a large model.  In the order of the nodes. */
typedef Status OracleTake(void *to, uint32_t output, const OracleTensor *t);
Status oracle_outputs(Ctx *cx, const Graph *g, const OracleTensor *in, OracleTake *take, void *to);

typedef struct OracleLimits { /* { 0 }: every test on */
    bool skip_bound, skip_rmse;
} OracleLimits;

/* The verdict over one tensor or, as oracle_compare adds to it, over many. */
typedef struct OracleReport {
    int64_t elements;
    /* Elements whose interval is wider than 5 % of the tensor's RMS to a side (of integers: wider
     * than nothing): mostly by open decisions, and for other reasons. */
    int64_t undecided, loose;
    int64_t wrong;     /* elements out of bounds, or of the wrong mask */
    int wrong_rmse;    /* tensors whose RMSE is out of bounds */
    double worst;      /* largest error / bound */
    double worst_rmse; /* largest RMSE / its bound */
    /* Of this call: the first wrong element (-1: none), and what is wrong in words, else "". */
    int64_t first;
    double error, bound;
    char text[256];
} OracleReport;

/* True when got is what a correct program may give. */
bool oracle_compare(const OracleTensor *want, const Tensor *got, const OracleLimits *limits,
                    OracleReport *report);

#endif
