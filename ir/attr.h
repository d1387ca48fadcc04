/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_ATTR_H
#define GTC_IR_ATTR_H

#include "ir/base/strbuf.h"
#include "ir/graph.h"

/* Attributes as text: fields key=value in any order; the value of const has no key.  Spans point
 * into the text that is parsed. */
typedef struct AttrField {
    const char *key, *value;
    int nkey, nvalue;
    bool used;
} AttrField;

typedef struct AttrText {
    AttrField *field;
    int n;
    int rank;        /* entries of per-axis lists (perm, lo, hi, step), -1 if there are none */
    const char *bad; /* where attr_parse failed, NULL: something is missing */
    char why[160];
} AttrText;

/* Each field with a space in front; bodies are the graph printer's. */
void attr_print(const Node *n, Strbuf *out);
/* Reads every field or says in bad and why what is wrong. */
bool attr_parse(AttrKind kind, AttrText *t, Attr *out);
/* "param"; NULL for no kind. */
const char *attr_input_kind(InputKind kind);

/* After inference: what means nothing becomes 0, NaN the one NaN, a window's extents its
 * argument's. */
void attr_normalise(Node *n, const Type *arg0);

#endif
