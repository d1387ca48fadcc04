/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_FEED_CASE_H
#define GTC_TESTS_FEED_CASE_H

#include "train/feed.h"

/* Kinds of data, with the graph that makes a batch of each on a device. */
enum { FEED_CASES = 6 };
extern const char *const feed_case_name[FEED_CASES];

/* Fused.  A failure ends the test. */
Graph *feed_case_graph(Ctx *cx, Arena *arena, int i);

#endif
