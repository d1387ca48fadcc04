/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_FEED_H
#define GTC_TRAIN_FEED_H

#include "models/model.h"
#include "runtime/gtc.h"
#include "train/data.h"

/* Data that lie on the device: tables of all rows, written once, of which each run makes its batch
 * by itself, told the last row of each sample. */

#define FEED_AT "feed.at" /* the batch input that tells: i32[batch] */

/* Why there can be no tables of these data; NULL: there can. */
const char *feed_refuse(const DataShape *shape);
/* What the tables of these data take, with targets; 0: there are none. */
int64_t feed_bytes(const DataShape *shape);

/* Adds the tables to the store, zeroed. */
Status feed_tables(Ctx *cx, const DataShape *shape, bool targets, GtcStore *s);
/* Fills them. */
Status feed_write(Ctx *cx, const Data *d, bool targets, GtcStore *s);

/* The graph that makes the batch inputs of g which are made of data. */
Status feed_graph(Ctx *cx, const DataShape *shape, const Graph *g, int batch, Arena *arena,
                  Graph **out);

#endif
