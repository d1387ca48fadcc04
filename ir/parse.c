/* SPDX-License-Identifier: Apache-2.0 */
/* The text form, read.  One function a rule of the grammar in docs/il.md, straight from the text:
 * there are no tokens beside characters, names and numbers.  Every node goes through graph_add and
 * the whole through graph_verify, so what parses is a graph that passes may take; their failures
 * are moved to the place in the text. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ir/attr.h"
#include "ir/base/hash.h"
#include "ir/text.h"

enum { MAX_NODES = 1 << 15, MAX_OUTPUTS = 1 << 14 }; /* of a whole text: far beyond any model */
enum { BODY_NODES = 8 }; /* what an empty body takes in memory, in nodes */
enum { MAX_BODIES = 32, MAX_FIELDS = 12, MAX_NAME = 200, MAX_OP = 24 };

typedef struct Parser {
    Ctx *cx;
    Arena *arena;
    const char *file, *text, *p;
    int depth;          /* of bodies */
    int nodes, outputs; /* in all bodies */
    const char **place; /* where each node of the whole graph stands */
    unsigned nplace, place_cap;
} Parser;

typedef struct Label { /* %name or %number, without the % */
    const char *s;
    int n;
    Ref ref;
} Label;

typedef struct Scope { /* the labels of one graph: open addressing, at most half full */
    Graph *g;
    Label *slot;
    uint32_t nlabel, cap;
} Scope;

static Status parse_body(Parser *ps, Graph **out);

/* Failures. */

static Status fail_at(Parser *ps, const char *at, Status code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static Status fail_at(Parser *ps, const char *at, Status code, const char *fmt, ...)
{
    char msg[sizeof ps->cx->msg];
    int line = 1, col = 1;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    for (const char *s = ps->text; s < at; s++) {
        col = *s == '\n' ? 1 : col + 1;
        line += *s == '\n';
    }
    return status_fail_at(ps->cx, code, ps->file, line, col, "%s", msg);
}

/* "'x'", "end of line", for what stands at p. */
static const char *what_is(const char *p, char buf[16])
{
    if (!*p)
        return "the end of the text";
    if (*p == '\n')
        return "the end of the line";
    if (*p < ' ' || *p > '~')
        snprintf(buf, 16, "byte 0x%02x", (unsigned char)*p);
    else
        snprintf(buf, 16, "'%c'", *p);
    return buf;
}

static Status fail_wants(Parser *ps, const char *what)
{
    char buf[16];
    return fail_at(ps, ps->p, ST_PARSE, "wants %s, got %s", what, what_is(ps->p, buf));
}

/* Characters. */

static void skip_blanks(Parser *ps)
{
    while (*ps->p == ' ' || *ps->p == '\t' || *ps->p == '\r')
        ps->p++;
    if (*ps->p == '#')
        ps->p += strcspn(ps->p, "\n");
}

static void skip_lines(Parser *ps)
{
    for (skip_blanks(ps); *ps->p == '\n'; skip_blanks(ps))
        ps->p++;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("_.+-", c));
}

static int word_length(const char *p)
{
    int n = 0;
    while (n <= MAX_NAME && is_word(p[n]))
        n++;
    return n;
}

static bool accept(Parser *ps, char c)
{
    if (*ps->p != c)
        return false;
    ps->p++;
    return true;
}

static Status expect(Parser *ps, const char *c)
{
    const size_t n = strlen(c);
    if (strncmp(ps->p, c, n)) {
        char quoted[16];
        snprintf(quoted, sizeof quoted, "'%s'", c);
        return fail_wants(ps, quoted);
    }
    ps->p += n;
    return ST_OK;
}

static bool accept_keyword(Parser *ps, const char *word)
{
    const int n = word_length(ps->p);
    if ((size_t)n != strlen(word) || strncmp(ps->p, word, (size_t)n))
        return false;
    ps->p += n;
    return true;
}

static Status expect_end_of_line(Parser *ps)
{
    skip_blanks(ps);
    if (*ps->p != '\n' && *ps->p != '\0')
        return fail_wants(ps, "the end of the line");
    return ST_OK;
}

static char *copy_span(Parser *ps, const char *s, int n)
{
    return arena_printf(ps->arena, "%.*s", n, s);
}

/* Labels. */

static Status read_label(Parser *ps, Label *out)
{
    TRY(expect(ps, "%"));
    *out = (Label){ ps->p, word_length(ps->p), REF_NONE };
    const bool number = out->n && strspn(ps->p, "0123456789") >= (size_t)out->n;
    if (out->n > MAX_NAME)
        return fail_at(ps, ps->p, ST_PARSE, "the name is longer than %d bytes", MAX_NAME);
    if (out->n == 0 || (!number && !graph_is_name(copy_span(ps, ps->p, out->n))))
        return fail_wants(ps, "a number or a name [A-Za-z_][A-Za-z0-9_.-]* after %");
    ps->p += out->n;
    return ST_OK;
}

static Label *label_slot(const Scope *sc, const Label *l)
{
    uint32_t i = (uint32_t)hash_bytes(l->s, (size_t)l->n, 0) & (sc->cap - 1);
    while (sc->slot[i].ref != REF_NONE &&
           (sc->slot[i].n != l->n || memcmp(sc->slot[i].s, l->s, (size_t)l->n)))
        i = (i + 1) & (sc->cap - 1);
    return &sc->slot[i];
}

static void grow_labels(Parser *ps, Scope *sc)
{
    const Label *old = sc->slot;
    const uint32_t cap = sc->cap;

    if (cap && sc->nlabel < cap / 2)
        return;
    sc->cap = cap ? cap * 2 : 64;
    sc->slot = arena_array(ps->arena, Label, sc->cap);
    for (uint32_t i = 0; i < cap; i++)
        if (old[i].ref != REF_NONE)
            *label_slot(sc, &old[i]) = old[i];
}

static Status read_new_label(Parser *ps, Scope *sc, Label *out)
{
    const char *at = ps->p;
    TRY(read_label(ps, out));
    grow_labels(ps, sc);
    if (label_slot(sc, out)->ref != REF_NONE)
        return fail_at(ps, at, ST_PARSE, "%%%.*s is defined twice", out->n, out->s);
    return ST_OK;
}

static Status read_use(Parser *ps, Scope *sc, Ref *out)
{
    const char *at = ps->p;
    Label l;
    TRY(read_label(ps, &l));
    grow_labels(ps, sc);
    *out = label_slot(sc, &l)->ref;
    if (*out == REF_NONE)
        return fail_at(ps, at, ST_PARSE, "%%%.*s is not defined above", l.n, l.s);
    return ST_OK;
}

/* Types and regions. */

static Status read_extent(Parser *ps, int64_t *out)
{
    const char *at = ps->p;
    *out = 0;
    if (*ps->p < '0' || *ps->p > '9')
        return fail_wants(ps, "an extent");
    for (; *ps->p >= '0' && *ps->p <= '9'; ps->p++)
        if (__builtin_mul_overflow(*out, 10, out) ||
            __builtin_add_overflow(*out, *ps->p - '0', out))
            return fail_at(ps, at, ST_PARSE, "the extent does not fit 64 bits");
    return ST_OK;
}

static Status read_type(Parser *ps, Type *out)
{
    int n = 0;
    while (n < 8 && ((ps->p[n] >= 'a' && ps->p[n] <= 'z') || (ps->p[n] >= '0' && ps->p[n] <= '9')))
        n++;
    *out = (Type){ 0 };
    if (!dtype_parse(ps->p, n, &out->dt))
        return fail_wants(ps, "a type such as f32[2,3]");
    ps->p += n;
    TRY(expect(ps, "["));
    skip_blanks(ps);
    if (accept(ps, ']'))
        return ST_OK;
    for (;;) {
        if (out->shape.rank == MAX_RANK)
            return fail_at(ps, ps->p, ST_PARSE, "wants at most %d extents", MAX_RANK);
        skip_blanks(ps);
        TRY(read_extent(ps, &out->shape.dim[out->shape.rank++]));
        skip_blanks(ps);
        if (!accept(ps, ','))
            return expect(ps, "]");
    }
}

static Status read_region(Parser *ps, Graph *g, uint32_t *out)
{
    const char *at = ps->p;
    const char *wants = "wants @kind.layer or @kind.layer.bwd";
    *out = 0;
    if (!accept(ps, '@'))
        return ST_OK;
    const int n = word_length(ps->p);
    char *kind = copy_span(ps, ps->p, n);
    if (n > MAX_NAME)
        return fail_at(ps, at, ST_PARSE, "%s", wants);
    const bool bwd = n > 4 && !strcmp(kind + n - 4, ".bwd");
    if (bwd)
        kind[n - 4] = '\0';

    char *dot = strrchr(kind, '.'), *digit = dot ? dot + 1 : kind;
    int32_t layer = 0;
    if (*digit == '-')
        digit++;
    if (!dot || !*digit)
        return fail_at(ps, at, ST_PARSE, "%s", wants);
    for (const char *d = digit; *d; d++)
        if (*d < '0' || *d > '9' || __builtin_mul_overflow(layer, 10, &layer) ||
            __builtin_add_overflow(layer, dot[1] == '-' ? '0' - *d : *d - '0', &layer))
            return fail_at(ps, at, ST_PARSE, "%s", wants);
    *dot = '\0';
    if (!graph_is_name(kind))
        return fail_at(ps, at, ST_PARSE, "%s", wants);
    *out = graph_region(g, kind, layer, bwd);
    ps->p += n;
    return ST_OK;
}

/* Ops, with a suggestion for a misspelt one. */

static int edit_distance(const char *a, int na, const char *b, int nb)
{
    int row[MAX_OP + 1];
    for (int j = 0; j <= nb; j++)
        row[j] = j;
    for (int i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            const int change = diagonal + (a[i - 1] != b[j - 1]);
            const int least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = change < least ? change : least;
        }
    }
    return row[nb];
}

static Status read_op(Parser *ps, Op *out)
{
    const int n = word_length(ps->p);
    if (n == 0)
        return fail_wants(ps, "an op");
    *out = op_parse(ps->p, n);
    if (*out != OP_none) {
        ps->p += n;
        return ST_OK;
    }
    const char *nearest = NULL;
    int best = 3;
    for (Op op = OP_none + 1; op < OP_COUNT && n <= MAX_OP; op++) {
        const char *name = op_info[op].name;
        const int d = edit_distance(ps->p, n, name, (int)strlen(name));
        if (d < best && d < n) {
            best = d;
            nearest = name;
        }
    }
    return fail_at(ps, ps->p, ST_PARSE, "no such op: %.*s%s%s%s", n > 40 ? 40 : n, ps->p,
                   nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
}

/* Nodes. */

static Status read_args(Parser *ps, Scope *sc, Node *n)
{
    Ref *arg = NULL;
    unsigned cap = 0;

    skip_blanks(ps);
    if (*ps->p != '%')
        return ST_OK;
    do {
        skip_blanks(ps);
        arena_grow(ps->arena, arg, n->nargs, cap);
        TRY(read_use(ps, sc, &arg[n->nargs]));
        n->nargs++;
        skip_blanks(ps);
    } while (accept(ps, ','));
    n->arg = arg;
    return ST_OK;
}

static Status read_field_value(Parser *ps, AttrField *f)
{
    f->value = ps->p;
    if (*ps->p != '[') {
        f->nvalue = word_length(ps->p);
        if (f->nvalue == 0 || f->nvalue > MAX_NAME)
            return fail_wants(ps, "a value");
        ps->p += f->nvalue;
        return ST_OK;
    }
    int open = 0;
    do {
        if (*ps->p == '[')
            open++;
        else if (*ps->p == ']')
            open--;
        else if (!is_word(*ps->p) && *ps->p != ',' && *ps->p != ' ')
            return fail_wants(ps, "']'");
        if (open > 2)
            return fail_at(ps, ps->p, ST_PARSE, "wants at most lists of lists");
        ps->p++;
    } while (open);
    f->nvalue = (int)(ps->p - f->value);
    return ST_OK;
}

static Status read_attr(Parser *ps, const char *at, Node *n, int *rank)
{
    AttrField field[MAX_FIELDS];
    AttrText t = { .field = field };

    for (skip_blanks(ps); is_word(*ps->p); skip_blanks(ps)) {
        AttrField *f = &field[t.n];
        if (t.n++ == MAX_FIELDS)
            return fail_at(ps, ps->p, ST_PARSE, "%s: too many attributes", op_info[n->op].name);
        *f = (AttrField){ .key = ps->p, .value = ps->p, .nkey = word_length(ps->p) };
        if (f->nkey > MAX_NAME)
            return fail_at(ps, ps->p, ST_PARSE, "%s: the attribute is longer than %d bytes",
                           op_info[n->op].name, MAX_NAME);
        ps->p += f->nkey;
        if (accept(ps, '=')) {
            TRY(read_field_value(ps, f));
        } else {
            f->nvalue = f->nkey;
            f->nkey = 0;
        }
    }
    if (!attr_parse((AttrKind)op_info[n->op].attr, &t, &n->attr))
        return fail_at(ps, t.bad ? t.bad : at, ST_PARSE, "%s: %s", op_info[n->op].name, t.why);
    if (n->op == OP_fusion)
        n->attr.fusion.kind = copy_span(ps, n->attr.fusion.kind, word_length(n->attr.fusion.kind));
    *rank = t.rank;
    return ST_OK;
}

static bool needs_type(Op op)
{
    return op_info[op].cls == CLASS_SOURCE || op == OP_cast || op == OP_reshape ||
           op == OP_broadcast || op == OP_slice;
}

static Status add_node(Parser *ps, const char *at, Scope *sc, const Node *n, int rank, Label *label)
{
    const Type *x = n->nargs ? &sc->g->node[n->arg[0]].type : NULL;

    if (++ps->nodes > MAX_NODES)
        return fail_at(ps, at, ST_PARSE, "more than %d nodes", MAX_NODES);
    if (rank >= 0 && x && x->dt != DT_NONE && rank != x->shape.rank)
        return fail_at(ps, at, ST_SHAPE, "%s: lists of %d entries for the %d axes of %s",
                       op_info[n->op].name, rank, x->shape.rank, type_str(x));
    const Status status = graph_add(ps->cx, sc->g, n, &label->ref);
    if (status != ST_OK)
        return fail_at(ps, at, status, "%s", ps->cx->msg);
    const Type *t = &sc->g->node[label->ref].type;
    if (n->type.dt != DT_NONE && !type_eq(t, &n->type)) /* a cast with another shape */
        return fail_at(ps, at, ST_SHAPE, "%s: gives %s, not %s", op_info[n->op].name, type_str(t),
                       type_str(&n->type));
    *label_slot(sc, label) = *label;
    sc->nlabel++;
    if (ps->depth == 1) {
        arena_grow(ps->arena, ps->place, ps->nplace, ps->place_cap);
        ps->place[ps->nplace++] = at;
    }
    return ST_OK;
}

static const char *label_name(Parser *ps, const Label *l)
{
    return *l->s >= '0' && *l->s <= '9' ? NULL : copy_span(ps, l->s, l->n);
}

/* %label = op args attributes : type @region, and the body of a scan or fusion. */
static Status parse_node(Parser *ps, Scope *sc)
{
    Node n = { 0 };
    Label label;
    int rank = -1;

    TRY(read_new_label(ps, sc, &label));
    n.name = label_name(ps, &label);
    skip_blanks(ps);
    TRY(expect(ps, "="));
    skip_blanks(ps);
    const char *at = ps->p;
    TRY(read_op(ps, &n.op));
    TRY(read_args(ps, sc, &n));
    TRY(read_attr(ps, at, &n, &rank));
    if (accept(ps, ':')) {
        skip_blanks(ps);
        TRY(read_type(ps, &n.type));
    } else if (needs_type(n.op)) {
        return fail_wants(ps, "': ' and the type");
    }
    skip_blanks(ps);
    TRY(read_region(ps, sc->g, &n.region));
    if (op_info[n.op].cls == CLASS_REGION) {
        skip_blanks(ps);
        TRY(parse_body(ps, n.op == OP_scan ? &n.attr.scan.body : &n.attr.fusion.body));
    }
    TRY(expect_end_of_line(ps));
    return add_node(ps, at, sc, &n, rank, &label);
}

/* [kind] %name: type [@region] */
static Status parse_head_input(Parser *ps, Scope *sc)
{
    Node n = { .op = OP_input };
    Label label;

    for (InputKind k = INPUT_batch; k <= INPUT_const; k++)
        if (accept_keyword(ps, attr_input_kind(k))) {
            n.attr.input.kind = k;
            break;
        }
    skip_blanks(ps);
    const char *at = ps->p;
    TRY(read_new_label(ps, sc, &label));
    n.name = label_name(ps, &label);
    skip_blanks(ps);
    TRY(expect(ps, ":"));
    skip_blanks(ps);
    TRY(read_type(ps, &n.type));
    skip_blanks(ps);
    TRY(read_region(ps, sc->g, &n.region));
    return add_node(ps, at, sc, &n, -1, &label);
}

/* [name:] [%input :=] %value */
static Status parse_output(Parser *ps, Scope *sc)
{
    const char *at = ps->p, *name = NULL;
    Ref value, replaces = REF_NONE;
    const int n = word_length(ps->p);

    if (++ps->outputs > MAX_OUTPUTS)
        return fail_at(ps, at, ST_PARSE, "more than %d outputs", MAX_OUTPUTS);
    if (n > MAX_NAME)
        return fail_at(ps, at, ST_PARSE, "the name is longer than %d bytes", MAX_NAME);
    if (n) {
        name = copy_span(ps, ps->p, n);
        ps->p += n;
        skip_blanks(ps);
        TRY(expect(ps, ":"));
        skip_blanks(ps);
    }
    TRY(read_use(ps, sc, &value));
    skip_blanks(ps);
    if (!strncmp(ps->p, ":=", 2)) {
        ps->p += 2;
        skip_blanks(ps);
        replaces = value;
        TRY(read_use(ps, sc, &value));
    }
    const Status status = graph_output(ps->cx, sc->g, value, replaces, name);
    return status == ST_OK ? ST_OK : fail_at(ps, at, status, "%s", ps->cx->msg);
}

static Status parse_return(Parser *ps, Scope *sc)
{
    skip_blanks(ps);
    if (*ps->p == '\n' || *ps->p == '\0' || *ps->p == '}')
        return ST_OK;
    for (;;) {
        TRY(parse_output(ps, sc));
        skip_blanks(ps);
        if (!accept(ps, ','))
            return expect_end_of_line(ps);
        skip_lines(ps);
    }
}

static Status parse_head(Parser *ps, Scope *sc)
{
    TRY(expect(ps, "("));
    skip_lines(ps);
    if (accept(ps, ')'))
        return ST_OK;
    for (;;) {
        skip_lines(ps);
        TRY(parse_head_input(ps, sc));
        skip_lines(ps);
        if (!accept(ps, ','))
            return expect(ps, ")");
    }
}

/* (inputs) { nodes return outputs } */
static Status parse_body(Parser *ps, Graph **out)
{
    Scope sc = { .g = graph_new(ps->arena) };

    ps->nodes += BODY_NODES;
    if (++ps->depth > MAX_BODIES)
        return fail_at(ps, ps->p, ST_PARSE, "bodies are nested deeper than %d", MAX_BODIES);
    TRY(parse_head(ps, &sc));
    skip_blanks(ps);
    TRY(expect(ps, "{"));
    skip_lines(ps);
    while (!accept_keyword(ps, "return")) {
        if (*ps->p != '%')
            return fail_wants(ps, "a node or return");
        TRY(parse_node(ps, &sc));
        skip_lines(ps);
    }
    TRY(parse_return(ps, &sc));
    skip_lines(ps);
    TRY(expect(ps, "}"));
    ps->depth--;
    *out = sc.g;
    return ST_OK;
}

Status graph_parse(Ctx *cx, Arena *arena, const char *file, const char *text, Graph **out)
{
    Parser ps = { .cx = cx, .arena = arena, .file = file, .text = text, .p = text };

    skip_lines(&ps);
    if (!accept_keyword(&ps, "graph"))
        return fail_wants(&ps, "graph");
    skip_blanks(&ps);
    TRY(parse_body(&ps, out));
    skip_lines(&ps);
    if (*ps.p)
        return fail_wants(&ps, "nothing behind the graph");
    if (graph_verify(cx, *out) == ST_OK)
        return ST_OK;
    const Ref r = cx->node;
    return fail_at(&ps, r && r <= ps.nplace ? ps.place[r - 1] : text, ST_PARSE, "%s", cx->msg);
}
