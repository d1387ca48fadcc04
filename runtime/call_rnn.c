/* SPDX-License-Identifier: Apache-2.0 */
/* call_rnn: a scan as one recurrent layer.
 *
 *     result = all states h, or the last, of a scan from states of zeros whose body is
 *
 *     tanh   h' = tanh(z)                        z = x w_ih' + h w_hh' + bias
 *     LSTM   c' = f c + i n,  h' = o tanh(c')    i f n o: sigmoid, n by tanh, of z's four slices
 *     GRU    h' = (1 - u) n + u h                n = tanh(x's slice + r (h's slice + bias_hn))
 *
 * which are cuDNN's formulas too, with the gates in this order; its GRU also multiplies r with the
 * product and its bias, not with h.  The arguments of sums and products may stand either way round,
 * and the terms of z in any grouping.
 *
 * A training forward returns its gates, which the backward pass of gtc reads as tensors.  A library
 * keeps them in a place of its own, for its own backward pass, so that such a scan is none. */
#include "runtime/call.h"

#include <string.h>

typedef struct Cell { /* nodes of the scan's body, REF_NONE: not found yet */
    const Graph *g;
    Ref h, c, x, w_ih, w_hh, bias, bias_hn;
    Ref next_h, next_c;
    int64_t hidden;
} Cell;

/* Is r the node that was found before, or the first such? */
static bool same(Ref *known, Ref r)
{
    if (*known == REF_NONE)
        *known = r;
    return r != REF_NONE && *known == r;
}

static bool is_op(const Graph *g, Ref r, Op op)
{
    return r != REF_NONE && g->node[r].op == op;
}

/* The argument of r, an op of one; else REF_NONE. */
static Ref under(const Graph *g, Ref r, Op op)
{
    return is_op(g, r, op) ? g->node[r].arg[0] : REF_NONE;
}

/* The other argument of r, an op of two, one of which is known; else REF_NONE. */
static Ref beside(const Graph *g, Ref r, Op op, Ref known)
{
    for (int i = 0; i < 2 && is_op(g, r, op); i++)
        if (g->node[r].arg[i] == known)
            return g->node[r].arg[1 - i];
    return REF_NONE;
}

static bool is_invariant(const Cell *t, Ref r)
{
    return is_op(t->g, r, OP_input) && r != t->h && r != t->c && r != t->x;
}

/* r = v w' with w given from outside the scan: w, else REF_NONE. */
static Ref product_of(const Cell *t, Ref r, Ref v)
{
    const Graph *g = t->g;
    if (!is_op(g, r, OP_matmul))
        return REF_NONE;
    const Node *n = &g->node[r];
    const bool rows = n->attr.contract.nover == 1 && n->attr.contract.nbatch == 0 &&
                      n->attr.contract.over_a[0] == 1 && n->attr.contract.over_b[0] == 1;
    return rows && n->arg[0] == v && is_invariant(t, n->arg[1]) ? n->arg[1] : REF_NONE;
}

/* One number a column, the same in all rows: the vector, else REF_NONE. */
static Ref bias_of(const Cell *t, Ref r)
{
    const Graph *g = t->g;
    const bool rows = is_op(g, r, OP_broadcast) && g->node[r].attr.axes.mask == 1;
    const Ref v = rows ? g->node[r].arg[0] : REF_NONE;
    return is_invariant(t, v) && g->node[v].type.shape.rank == 1 ? v : REF_NONE;
}

/* Takes each term of the sum r once: the two products and the bias, what is wanted of them. */
static bool take_terms(Cell *t, Ref r, bool x, bool h, int *left)
{
    const Graph *g = t->g;
    Ref found;
    if (is_op(g, r, OP_add))
        return take_terms(t, g->node[r].arg[0], x, h, left) &&
               take_terms(t, g->node[r].arg[1], x, h, left);
    --*left;
    if (x && (found = product_of(t, r, t->x)) != REF_NONE)
        return t->w_ih == REF_NONE && same(&t->w_ih, found);
    if (h && (found = product_of(t, r, t->h)) != REF_NONE)
        return t->w_hh == REF_NONE && same(&t->w_hh, found);
    return t->bias == REF_NONE && same(&t->bias, bias_of(t, r));
}

/* z of slice k of it, else REF_NONE. */
static Ref slice_of(const Cell *t, Ref r, int k)
{
    const Ref z = under(t->g, r, OP_slice);
    const Node *n = &t->g->node[r];
    if (z == REF_NONE || n->attr.slice.lo[0] != 0 || n->attr.slice.step[0] != 1 ||
        n->attr.slice.lo[1] != k * t->hidden || n->attr.slice.step[1] != 1)
        return REF_NONE;
    const Shape *s = &n->type.shape;
    return s->dim[1] == t->hidden && s->dim[0] == t->g->node[z].type.shape.dim[0] ? z : REF_NONE;
}

/* ------------------------------------------------------------ the cells */

static bool match_tanh(Cell *t)
{
    int left = 3;
    const Ref z = under(t->g, t->next_h, OP_tanh);
    return z != REF_NONE && take_terms(t, z, true, true, &left) && left == 0;
}

/* r = i n, gates 0 and 2 of z. */
static bool match_new(const Cell *t, Ref r, Ref *z)
{
    for (int i = 0; i < 2 && is_op(t->g, r, OP_mul); i++) {
        const Ref *arg = t->g->node[r].arg;
        const Ref in = slice_of(t, under(t->g, arg[i], OP_sigmoid), 0),
                  new = slice_of(t, under(t->g, arg[1 - i], OP_tanh), 2);
        if (in != REF_NONE && in == new &&same(z, in))
            return true;
    }
    return false;
}

static bool match_lstm(Cell *t)
{
    const Graph *g = t->g;
    Ref z = REF_NONE;
    int left = 3;
    bool found = false;
    for (int i = 0; i < 2 && !found && is_op(g, t->next_h, OP_mul); i++) {
        const Ref *arg = g->node[t->next_h].arg;
        found = under(g, arg[i], OP_tanh) == t->next_c &&
                same(&z, slice_of(t, under(g, arg[1 - i], OP_sigmoid), 3));
    }
    if (!found || !is_op(g, t->next_c, OP_add))
        return false;
    found = false;
    for (int i = 0; i < 2 && !found; i++) {
        const Ref *arg = g->node[t->next_c].arg;
        const Ref f = beside(g, arg[i], OP_mul, t->c);
        found = f != REF_NONE && slice_of(t, under(g, f, OP_sigmoid), 1) == z &&
                match_new(t, arg[1 - i], &z);
    }
    return found && take_terms(t, z, true, true, &left) && left == 0;
}

/* r = slice k of x's sum + slice k of h's product. */
static bool match_gate(const Cell *t, Ref r, int k, Ref *zx, Ref *zh)
{
    for (int i = 0; i < 2 && is_op(t->g, r, OP_add); i++) {
        const Ref *arg = t->g->node[r].arg;
        const Ref a = slice_of(t, arg[i], k), b = slice_of(t, arg[1 - i], k);
        if (a != REF_NONE && product_of(t, b, t->h) != REF_NONE)
            return same(zx, a) && same(zh, b);
    }
    return false;
}

/* r = x's slice 2 + reset (h's slice 2 + bias_hn); the gate `reset` is stored. */
static bool match_candidate(Cell *t, Ref r, Ref *zx, Ref *zh, Ref *reset)
{
    const Graph *g = t->g;
    for (int i = 0; i < 2 && is_op(g, r, OP_add); i++) {
        const Ref a = slice_of(t, g->node[r].arg[i], 2), gated = g->node[r].arg[1 - i];
        for (int k = 0; k < 2 && a != REF_NONE && is_op(g, gated, OP_mul); k++) {
            const Ref sum = g->node[gated].arg[1 - k];
            for (int j = 0; j < 2 && is_op(g, sum, OP_add); j++) {
                const Ref b = slice_of(t, g->node[sum].arg[j], 2),
                          v = bias_of(t, g->node[sum].arg[1 - j]);
                if (b == REF_NONE || v == REF_NONE)
                    continue;
                *reset = g->node[gated].arg[k];
                t->bias_hn = v;
                return same(zx, a) && same(zh, b);
            }
        }
    }
    return false;
}

static bool is_one_minus(const Graph *g, Ref r, Ref u)
{
    if (!is_op(g, r, OP_sub) || g->node[r].arg[1] != u)
        return false;
    const Ref one = g->node[r].arg[0];
    return is_op(g, one, OP_const) && g->node[one].attr.fill.value == 1;
}

static bool match_gru(Cell *t)
{
    const Graph *g = t->g;
    Ref zx = REF_NONE, zh = REF_NONE, update = REF_NONE, candidate = REF_NONE, reset = REF_NONE;
    int left = 2;
    for (int i = 0; i < 2 && candidate == REF_NONE && is_op(g, t->next_h, OP_add); i++) {
        const Ref *arg = g->node[t->next_h].arg;
        update = beside(g, arg[i], OP_mul, t->h);
        for (int k = 0; k < 2 && update != REF_NONE && is_op(g, arg[1 - i], OP_mul); k++)
            if (is_one_minus(g, g->node[arg[1 - i]].arg[k], update))
                candidate = g->node[arg[1 - i]].arg[1 - k];
    }
    return candidate != REF_NONE && match_gate(t, under(g, update, OP_sigmoid), 1, &zx, &zh) &&
           match_candidate(t, under(g, candidate, OP_tanh), &zx, &zh, &reset) &&
           match_gate(t, under(g, reset, OP_sigmoid), 0, &zx, &zh) &&
           take_terms(t, zx, true, false, &left) && left == 0 &&
           same(&t->w_hh, product_of(t, zh, t->h));
}

static const char *match_cell(const Node *scan, Cell *t, CallRnn *out)
{
    static const char no[] = "its cell is no LSTM, GRU or tanh RNN of a library";
    const Graph *g = t->g = scan->attr.scan.body;
    const uint32_t ncarry = scan->attr.scan.ncarry;
    if (ncarry < 1 || ncarry > 2 || scan->attr.scan.nstep != 1)
        return no;
    t->h = g->input[0];
    t->c = ncarry == 2 ? g->input[1] : REF_NONE;
    t->x = g->input[ncarry];
    t->next_h = g->out[0].value;
    t->next_c = ncarry == 2 ? g->out[1].value : REF_NONE;
    if (g->node[t->h].type.shape.rank != 2 || g->node[t->x].type.shape.rank != 2)
        return no;
    t->hidden = g->node[t->h].type.shape.dim[1];
    out->cell = ncarry == 2 ? RNN_LSTM : is_op(g, t->next_h, OP_tanh) ? RNN_TANH : RNN_GRU;
    const bool found = out->cell == RNN_LSTM   ? match_lstm(t)
                       : out->cell == RNN_TANH ? match_tanh(t)
                                               : match_gru(t);
    return found ? NULL : no;
}

/* ------------------------------------------------------------ what goes in and comes out */

/* What is given for input r of the scan's body. */
static Ref given(const Node *scan, Ref r)
{
    const Graph *g = scan->attr.scan.body;
    uint32_t i = 0;
    while (g->input[i] != r)
        i++;
    return scan->arg[i];
}

static const char *read_biases(const Graph *body, const Node *scan, const Cell *t, CallRnn *out)
{
    const Ref b = given(scan, t->bias);
    const Node *n = &body->node[b];
    out->bias[0].arg = out->bias[1].arg = -1;
    if (t->bias_hn != REF_NONE) {
        const char *why = call_view(body, given(scan, t->bias_hn), &out->bias[1]);
        return why ? why : call_view(body, b, &out->bias[0]);
    }
    if (n->op != OP_add)
        return call_view(body, b, &out->bias[0]);
    const char *why = call_view(body, n->arg[0], &out->bias[0]);
    return why ? why : call_view(body, n->arg[1], &out->bias[1]);
}

static const char *read_inputs(const Graph *body, const Node *scan, const Cell *t, CallRnn *out)
{
    for (uint32_t i = 0; i < scan->attr.scan.ncarry; i++) {
        const Node *n = &body->node[scan->arg[i]];
        if (n->op != OP_const || n->attr.fill.value != 0)
            return "it starts from a state that is given";
    }
    const char *why = call_view(body, given(scan, t->x), &out->x);
    if (!why)
        why = call_view(body, given(scan, t->w_ih), &out->w_ih);
    if (!why)
        why = call_view(body, given(scan, t->w_hh), &out->w_hh);
    if (!why)
        why = read_biases(body, scan, t, out);
    if (why)
        return why;
    const CallView *view[] = { &out->x, &out->w_ih, &out->w_hh, &out->bias[0], &out->bias[1] };
    for (size_t i = 0; i < sizeof view / sizeof *view; i++)
        for (int k = 0; view[i]->arg >= 0 && k < view[i]->rank; k++)
            if (view[i]->extent[k] > INT32_MAX || view[i]->stride[k] > INT32_MAX ||
                (view[i]->extent[k] > 1 && view[i]->stride[k] < 1))
                return "an operand runs backwards, repeats itself or is too large";
    out->steps = scan->attr.scan.trip;
    out->rows = out->x.extent[1];
    out->in = out->x.extent[2];
    out->hidden = t->hidden;
    const int64_t most = out->in > out->hidden ? out->in : out->hidden;
    return most > INT32_MAX / out->steps / out->rows ? "more than 2^31 elements" : NULL;
}

/* The one result: a state, or all, perhaps rows first. */
static const char *read_result(const Graph *body, Ref scan, const Cell *t, CallRnn *out)
{
    const Node *s = &body->node[scan];
    const uint32_t ncarry = s->attr.scan.ncarry;
    for (uint32_t i = ncarry; i < t->g->nout; i++)
        if (t->g->out[i].value != t->next_h)
            return "it saves its gates, which the library keeps to itself";
    if (body->nout != 1)
        return "it has several results";
    Ref r = body->out[0].value;
    const Node *n = &body->node[r];
    if (n->op == OP_transpose && n->type.shape.rank == 3 && n->attr.perm.dim[0] == 1 &&
        n->attr.perm.dim[1] == 0) {
        out->rows_first = true;
        r = n->arg[0];
    }
    if (!is_op(body, r, OP_get) || body->node[r].arg[0] != scan)
        return "more is computed than a layer";
    const uint32_t index = body->node[r].attr.get.index;
    if (index == 1 && ncarry == 2)
        return "the cell's state is wanted";
    out->sequence = index >= ncarry;
    return NULL;
}

static bool all_f32(const Graph *g)
{
    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].type.dt != DT_F32 && g->node[r].op != OP_scan)
            return false;
    return true;
}

const char *call_rnn(const Graph *body, CallRnn *out)
{
    Ref scan = REF_NONE;
    Cell t = { .g = NULL };
    for (Ref r = 1; r < body->nnode; r++)
        if (body->node[r].op == OP_scan) {
            if (scan != REF_NONE)
                return "it has several scans";
            scan = r;
        }
    if (scan == REF_NONE)
        return "";
    const Node *s = &body->node[scan];
    memset(out, 0, sizeof *out);
    if (!all_f32(body) || !all_f32(s->attr.scan.body))
        return "an operand is not f32";
    for (Ref r = 1; r < body->nnode; r++)
        if (r != scan && shape_count(&body->node[r].type.shape) == 0)
            return "it is empty";
    const char *why = match_cell(s, &t, out);
    if (!why)
        why = read_result(body, scan, &t, out);
    if (!why && s->attr.scan.reverse)
        why = "it runs from the last step to the first";
    return why ? why : read_inputs(body, s, &t, out);
}
