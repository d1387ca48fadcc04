/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_TEXT_H
#define GTC_TRAIN_TEXT_H

#include "ir/base/strbuf.h"
#include "train/score.h"

/* Goes on with a text: n characters, drawn one after the other with the probabilities that the
 * predict program gives them.  It begins behind the last sample of the split and looks at one
 * window of characters.  The session has a batch of 1; the same seed gives the same text. */
Status text_generate(Ctx *cx, Session *s, const Data *d, Split split, int64_t n, uint64_t seed,
                     ScoreStop stop, Strbuf *out);

#endif
