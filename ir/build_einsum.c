/* SPDX-License-Identifier: Apache-2.0 */
/* einsum: sums of products, said by naming axes.
 *
 * Operands are joined one after the other, from the left.  Before a join each of the two sums what
 * nobody else names; letters that both have and nobody later are summed by the join, which is then
 * a matmul with the other common letters as its batch.  A join that sums nothing multiplies
 * element by element, with what either lacks repeated.  At the end the axes are put in the order
 * that is asked for.
 *
 * A letter twice in one operand (a diagonal) is refused. */
#include "ir/build_nn.h"

#include <string.h>

/* A value and the letters of its axes. */
typedef struct Term {
    Ref x;
    int n;
    char at[MAX_RANK];
} Term;

typedef struct Einsum {
    Builder *b;
    const char *equation;
    Term *term;
    int nterm;
    Term out; /* letters only */
} Einsum;

static int find(const Term *t, char letter)
{
    for (int i = 0; i < t->n; i++)
        if (t->at[i] == letter)
            return i;
    return -1;
}

#define REFUSE(e, ...)                                                                             \
    do {                                                                                           \
        if ((e)->b->status == ST_OK)                                                               \
            (e)->b->status = FAIL((e)->b->cx, VALUE, "einsum \"%s\": " __VA_ARGS__);               \
        return;                                                                                    \
    } while (0)

/* ---- reading */

/* The letters up to `end`, spaces aside. */
static void read_term(Einsum *e, const char *s, const char *end, Term *t)
{
    for (; s < end; s++) {
        if (*s == ' ')
            continue;
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z')))
            REFUSE(e, "wants letters, got '%c'", e->equation, *s);
        if (find(t, *s) >= 0)
            REFUSE(e, "'%c' twice in one operand or the result: diagonals are not taken",
                   e->equation, *s);
        if (t->n == MAX_RANK)
            REFUSE(e, "more than %d letters", e->equation, MAX_RANK);
        t->at[t->n++] = *s;
    }
}

/* Without an arrow: what stands in one operand only, in the order of letters. */
static void default_result(Einsum *e)
{
    for (int c = 'A'; c <= 'z'; c++) {
        int times = 0;
        for (int i = 0; i < e->nterm; i++)
            times += find(&e->term[i], (char)c) >= 0;
        if (times == 1 && e->out.n == MAX_RANK)
            REFUSE(e, "a result of more than %d axes", e->equation, MAX_RANK);
        if (times == 1)
            e->out.at[e->out.n++] = (char)c;
    }
}

static void read_equation(Einsum *e)
{
    const char *arrow = strstr(e->equation, "->");
    const char *end = arrow ? arrow : e->equation + strlen(e->equation), *s = e->equation;
    int n = 1;
    for (const char *c = s; c < end; c++)
        n += *c == ',';
    if (n != e->nterm)
        REFUSE(e, "names %d operands, got %d", e->equation, n, e->nterm);
    for (int i = 0; i < n; i++) {
        const char *comma = memchr(s, ',', (size_t)(end - s));
        read_term(e, s, comma ? comma : end, &e->term[i]);
        s = comma ? comma + 1 : end;
    }
    if (arrow)
        read_term(e, arrow + 2, arrow + strlen(arrow), &e->out);
    else
        default_result(e);
}

/* Every operand has an axis a letter, of one extent wherever it stands. */
static void check_shapes(Einsum *e)
{
    int64_t extent['z' + 1];
    memset(extent, 0xff, sizeof extent);
    for (int k = 0; k < e->nterm; k++) {
        const Term *t = &e->term[k];
        const Shape s = build_type(e->b, t->x).shape;
        if (s.rank != t->n)
            REFUSE(e, "operand %d has %d letters and shape %s", e->equation, k + 1, t->n,
                   shape_str(&s));
        for (int i = 0; i < t->n; i++) {
            int64_t *d = &extent[(int)t->at[i]];
            if (*d >= 0 && *d != s.dim[i])
                REFUSE(e, "'%c' is %lld, and %lld in operand %d", e->equation, t->at[i],
                       (long long)*d, (long long)s.dim[i], k + 1);
            *d = s.dim[i];
        }
    }
    for (int i = 0; i < e->out.n; i++)
        if (extent[(int)e->out.at[i]] < 0)
            REFUSE(e, "'%c' of the result is in no operand", e->equation, e->out.at[i]);
}

/* ---- building */

/* Whether the result or an operand from `from` on names it. */
static bool is_wanted(const Einsum *e, int from, char letter)
{
    for (int i = from; i < e->nterm; i++)
        if (find(&e->term[i], letter) >= 0)
            return true;
    return find(&e->out, letter) >= 0;
}

/* Sums the axes that neither `other` (may be NULL) nor what follows names. */
static void sum_unwanted(Einsum *e, Term *t, const Term *other, int from)
{
    unsigned axes = 0;
    int kept = 0;
    for (int i = 0; i < t->n; i++) {
        if ((other && find(other, t->at[i]) >= 0) || is_wanted(e, from, t->at[i]))
            t->at[kept++] = t->at[i];
        else
            axes |= 1u << i;
    }
    t->n = kept;
    if (axes)
        t->x = build_reduce(e->b, OP_sum, t->x, axes);
}

/* t's axes in the order of `to`, which has them all; those of `to` that t lacks repeat it. */
static Ref spread(Einsum *e, const Term *t, const Term *to, Shape shape)
{
    int perm[MAX_RANK], n = 0;
    unsigned lacks = 0;
    bool turned = false;
    for (int i = 0; i < to->n; i++) {
        const int at = find(t, to->at[i]);
        if (at < 0) {
            lacks |= 1u << i;
            continue;
        }
        turned |= at != n;
        perm[n++] = at;
    }
    const Ref x = turned ? build_transpose(e->b, t->x, perm) : t->x;
    return lacks ? build_broadcast(e->b, x, shape, lacks) : x;
}

/* Element by element, over the letters of both. */
static void multiply(Einsum *e, Term *a, const Term *t)
{
    Term both = *a;
    Shape s = build_type(e->b, a->x).shape;
    const Shape ts = build_type(e->b, t->x).shape;
    for (int i = 0; i < t->n; i++) {
        if (find(&both, t->at[i]) >= 0)
            continue;
        if (both.n == MAX_RANK)
            REFUSE(e, "a product of more than %d axes", e->equation, MAX_RANK);
        s.dim[s.rank++] = ts.dim[i];
        both.at[both.n++] = t->at[i];
    }
    both.x = build_op2(e->b, OP_mul, spread(e, a, &both, s), spread(e, t, &both, s));
    *a = both;
}

/* a becomes a times t; operands from `from` on are still to come. */
static void join(Einsum *e, Term *a, Term *t, int from)
{
    int over[2][MAX_RANK], batch[2][MAX_RANK], nover = 0, nbatch = 0;
    Term out = { 0 };
    sum_unwanted(e, a, t, from);
    sum_unwanted(e, t, a, from);
    for (int i = 0; i < a->n; i++) {
        const int at = find(t, a->at[i]);
        if (at < 0)
            continue;
        if (is_wanted(e, from, a->at[i])) {
            batch[0][nbatch] = i, batch[1][nbatch++] = at;
            out.at[out.n++] = a->at[i];
        } else {
            over[0][nover] = i, over[1][nover++] = at;
        }
    }
    if (nover == 0 || nover > 4 || nbatch > 4) { /* what a matmul cannot name */
        multiply(e, a, t);
        sum_unwanted(e, a, NULL, from);
        return;
    }
    for (int side = 0; side < 2; side++) { /* a matmul's own axes stand behind the batch */
        const Term *own = side ? t : a, *other = side ? a : t;
        for (int i = 0; i < own->n; i++) {
            if (find(other, own->at[i]) >= 0)
                continue;
            if (out.n == MAX_RANK)
                REFUSE(e, "a product of more than %d axes", e->equation, MAX_RANK);
            out.at[out.n++] = own->at[i];
        }
    }
    out.x =
        build_contract_batch(e->b, a->x, t->x, nover, over[0], over[1], nbatch, batch[0], batch[1]);
    *a = out;
}

Ref build_einsum(Builder *b, const char *equation, const Ref *x, int n)
{
    if (b->status != ST_OK)
        return REF_NONE;
    Einsum e = { .b = b, .equation = equation, .nterm = n };
    const uint32_t before = build_open(b, "einsum");
    e.term = arena_array(b->g->arena, Term, n + 1);
    for (int i = 0; i < n; i++)
        e.term[i].x = x[i];
    read_equation(&e);
    if (b->status == ST_OK)
        check_shapes(&e);
    if (b->status != ST_OK)
        return build_close(b, before, REF_NONE);
    Term a = e.term[0];
    for (int i = 1; i < n && b->status == ST_OK; i++)
        join(&e, &a, &e.term[i], i + 1);
    sum_unwanted(&e, &a, NULL, n);
    const Ref y = b->status == ST_OK ? spread(&e, &a, &e.out, (Shape){ 0 }) : REF_NONE;
    return build_close(b, before, y);
}
