/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_MODELS_CELL_H
#define GTC_MODELS_CELL_H

#include "models/json.h"

/* The expressions of a `cell` layer: docs/cell.md.  Everything lives in the model's arena. */
typedef enum CellKind {
    CELL_NUMBER,
    CELL_NAME,
    CELL_NEGATE, /* of arg[0] */
    CELL_BINARY, /* op is + - * / or @ */
    CELL_CALL,   /* name(arg..) */
    CELL_SLICE   /* arg[0][arg[1]:arg[2]] */
} CellKind;

enum { CELL_MAX_ARGS = 8, CELL_MAX_NODES = 500, CELL_MAX_DEPTH = 50 };

typedef struct CellExpr CellExpr;
struct CellExpr {
    CellKind kind;
    size_t at; /* byte of the string, for messages */
    char op;
    int nargs;
    double number;
    const char *name;
    CellExpr *arg[CELL_MAX_ARGS];
};

typedef struct CellText { /* an expression and where it stands */
    const Json *at;
    const CellExpr *root;
} CellText;

typedef struct CellItem { /* a state, a weight or a line of "update" */
    const char *name;
    CellText size[2];
    int nsize;
    int init; /* WEIGHT_DEFAULT.. */
    double init_value;
    CellText value; /* of a line */
} CellItem;

typedef struct CellList {
    CellItem *at;
    int n;
} CellList;

typedef struct CellSpec {
    CellList state, weight, line;
} CellSpec;

typedef struct CellFunction {
    const char *name;
    int least, most; /* arguments */
    int op;          /* an Op, or OP_none */
    int activation;  /* an Activation, or ACT_NONE */
} CellFunction;

/* NULL for a name that is no function; *list, where not NULL, is all n of them. */
const CellFunction *cell_function(const char *name, const CellFunction **list, int *n);

/* Parses the string v. */
Status cell_parse(Ctx *cx, Arena *arena, const Json *v, const CellExpr **out);
/* Reads "state", "weights" and "update" of a layer and checks all names. */
Status cell_read(Ctx *cx, Arena *arena, Json *layer, const char *output, CellSpec **out);
const CellItem *cell_item(const CellList *list, const char *name);

/* Fails at the place of e in the text. */
Status cell_fail(Ctx *cx, Status code, const CellText *t, const CellExpr *e, const char *hint,
                 const char *fmt, ...) __attribute__((format(printf, 6, 7)));

#endif
