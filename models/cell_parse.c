/* SPDX-License-Identifier: Apache-2.0 */
/* cell_parse: the text of one expression becomes a tree.
 *
 *     sum     = product { ( "+" | "-" ) product }
 *     product = unary { ( "*" | "/" | "@" ) unary }
 *     unary   = "-" unary | slice
 *     slice   = atom { "[" sum ":" sum "]" }
 *     atom    = number | name | name "(" sum { "," sum } ")" | "(" sum ")"
 *
 * Operators of one line bind alike and to the left, as in Python.  Depth and size are bounded, so
 * that whoever walks a tree may recurse.
 */
#include "models/cell.h"

#include <stdlib.h>
#include <string.h>

typedef struct Parser {
    Ctx *cx;
    Arena *arena;
    const Json *v;
    const char *s;
    size_t at;
    int depth, nodes;
} Parser;

Status cell_fail(Ctx *cx, Status code, const CellText *t, const CellExpr *e, const char *hint,
                 const char *fmt, ...)
{
    Strbuf s = { 0 };
    va_list ap;
    va_start(ap, fmt);
    strbuf_vprintf(&s, fmt, ap);
    va_end(ap);
    json_fail_inside(cx, code, t->at, e ? e->at : 0, hint, "%s", strbuf_str(&s));
    strbuf_free(&s);
    return code;
}

static Status wants(Parser *p, const char *what)
{
    const char *got = p->s + p->at;
    size_t n = 1;
    while (*got && ((unsigned char)got[n] & 0xC0) == 0x80)
        n++;
    if (!*got)
        return json_fail_inside(p->cx, ST_PARSE, p->v, p->at, NULL, "wants %s, got the end", what);
    return json_fail_inside(p->cx, ST_PARSE, p->v, p->at, NULL, "wants %s, got '%.*s'", what,
                            (int)n, got);
}

static void skip_space(Parser *p)
{
    while (p->s[p->at] == ' ' || p->s[p->at] == '\t' || p->s[p->at] == '\n')
        p->at++;
}

/* Takes the character if it is next. */
static bool take(Parser *p, char c)
{
    skip_space(p);
    if (p->s[p->at] != c)
        return false;
    p->at++;
    return true;
}

static Status new_node(Parser *p, CellKind kind, size_t at, CellExpr **out)
{
    if (++p->nodes > CELL_MAX_NODES)
        return json_fail_inside(p->cx, ST_PARSE, p->v, at, NULL,
                                "an expression of more than %d parts: use several lines",
                                CELL_MAX_NODES);
    *out = arena_alloc(p->arena, sizeof **out);
    **out = (CellExpr){ .kind = kind, .at = at };
    return ST_OK;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static Status parse_sum(Parser *p, CellExpr **out);

static Status parse_number(Parser *p, CellExpr **out)
{
    const size_t at = p->at;
    const char *c = p->s + at;
    while (is_digit(*c))
        c++;
    if (*c == '.')
        c++;
    while (is_digit(*c))
        c++;
    const char *e = c;
    if (*e == 'e' || *e == 'E') {
        e += e[1] == '-' || e[1] == '+' ? 2 : 1;
        if (is_digit(*e)) {
            while (is_digit(*e))
                e++;
            c = e;
        }
    }
    TRY(new_node(p, CELL_NUMBER, at, out));
    (*out)->number = strtod(p->s + at, NULL);
    p->at = (size_t)(c - p->s);
    if (is_letter(*c) || *c == '.')
        return wants(p, "an operator after a number");
    return ST_OK;
}

static Status parse_call(Parser *p, CellExpr *call)
{
    call->kind = CELL_CALL;
    do {
        if (call->nargs == CELL_MAX_ARGS)
            return json_fail_inside(p->cx, ST_PARSE, p->v, p->at, NULL,
                                    "a call with more than %d arguments", CELL_MAX_ARGS);
        TRY(parse_sum(p, &call->arg[call->nargs]));
        call->nargs++;
    } while (take(p, ','));
    return take(p, ')') ? ST_OK : wants(p, "',' or ')'");
}

static Status parse_atom(Parser *p, CellExpr **out)
{
    skip_space(p);
    const size_t at = p->at;
    const char c = p->s[at];
    if (is_digit(c) || (c == '.' && is_digit(p->s[at + 1])))
        return parse_number(p, out);
    if (is_letter(c)) {
        while (is_letter(p->s[p->at]) || is_digit(p->s[p->at]))
            p->at++;
        TRY(new_node(p, CELL_NAME, at, out));
        (*out)->name = arena_printf(p->arena, "%.*s", (int)(p->at - at), p->s + at);
        return take(p, '(') ? parse_call(p, *out) : ST_OK;
    }
    if (!take(p, '('))
        return wants(p, "a number, a name or '('");
    TRY(parse_sum(p, out));
    return take(p, ')') ? ST_OK : wants(p, "an operator or ')'");
}

static Status parse_slice(Parser *p, CellExpr **out)
{
    TRY(parse_atom(p, out));
    while (take(p, '[')) {
        CellExpr *slice;
        TRY(new_node(p, CELL_SLICE, p->at - 1, &slice));
        slice->arg[0] = *out;
        slice->nargs = 3;
        TRY(parse_sum(p, &slice->arg[1]));
        if (!take(p, ':'))
            return wants(p, "':'");
        TRY(parse_sum(p, &slice->arg[2]));
        if (!take(p, ']'))
            return wants(p, "']'");
        *out = slice;
    }
    return ST_OK;
}

static Status parse_unary(Parser *p, CellExpr **out)
{
    if (++p->depth > CELL_MAX_DEPTH)
        return json_fail_inside(p->cx, ST_PARSE, p->v, p->at, NULL,
                                "an expression nested deeper than %d: use several lines",
                                CELL_MAX_DEPTH);
    if (take(p, '-')) {
        TRY(new_node(p, CELL_NEGATE, p->at - 1, out));
        (*out)->nargs = 1;
        TRY(parse_unary(p, &(*out)->arg[0]));
    } else {
        TRY(parse_slice(p, out));
    }
    p->depth--;
    return ST_OK;
}

/* next { op next }, where op is one of ops */
static Status parse_binary(Parser *p, const char *ops, Status (*next)(Parser *, CellExpr **),
                           CellExpr **out)
{
    TRY(next(p, out));
    for (;;) {
        skip_space(p);
        const char op = p->s[p->at];
        if (!op || !strchr(ops, op))
            return ST_OK;
        CellExpr *pair;
        TRY(new_node(p, CELL_BINARY, p->at, &pair));
        p->at++;
        pair->op = op;
        pair->nargs = 2;
        pair->arg[0] = *out;
        TRY(next(p, &pair->arg[1]));
        *out = pair;
    }
}

static Status parse_product(Parser *p, CellExpr **out)
{
    return parse_binary(p, "*/@", parse_unary, out);
}

static Status parse_sum(Parser *p, CellExpr **out)
{
    return parse_binary(p, "+-", parse_product, out);
}

Status cell_parse(Ctx *cx, Arena *arena, const Json *v, const CellExpr **out)
{
    Parser p = { .cx = cx, .arena = arena, .v = v, .s = v->string };
    CellExpr *root = NULL;
    TRY(parse_sum(&p, &root));
    skip_space(&p);
    if (p.s[p.at])
        return wants(&p, "an operator or the end");
    *out = root;
    return ST_OK;
}
