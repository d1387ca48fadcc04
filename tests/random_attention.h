/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_RANDOM_ATTENTION_H
#define GTC_TESTS_RANDOM_ATTENTION_H

#include "ir/base/rng.h"
#include "ir/graph.h"

/* Grows a body like attention: scores, what is elementwise in them, sums of rows and of columns,
 * products.  It verifies; of at most 14 inputs and 8 outputs. */
Status random_attention(Ctx *cx, Rng *rng, Graph *g);

#endif
