/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_PASSES_REWRITE_H
#define GTC_PASSES_REWRITE_H

#include "passes/pass.h"

/* The walk that most passes share: in definition order, from `in` to `out`, with a map of values.
 * Regions keep their numbers.  The map and all scratch die with the pass. */
typedef struct Rewrite {
    PassCx *pcx;
    const Graph *in;
    Graph *out;
    Ref *map;       /* in -> out; REF_NONE while not yet (or never) there */
    PassFn *inside; /* what rewrites the bodies of scans and fusions; NULL leaves them */
} Rewrite;

Rewrite rewrite_start(PassCx *pcx, const Graph *in, Graph *out, PassFn *inside);

/* Node r of in with its arguments mapped (in scratch) and its body rewritten: ready to be added. */
Status rewrite_node(Rewrite *rw, Ref r, Node *n);

/* Adds node r as it is. */
Status rewrite_copy(Rewrite *rw, Ref r);

/* The outputs of in, mapped; one that became an input which another replaces is a copy of it. */
Status rewrite_outputs(Rewrite *rw);

#endif
