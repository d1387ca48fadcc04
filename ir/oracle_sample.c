/* SPDX-License-Identifier: Apache-2.0 */
/* The samples of the oracle, and what they say of an interval.
 *
 * A sample is the graph evaluated once more, where the result of every op is moved at random by
 * about what the op errs by.  An element's spread over eight samples is its error with every
 * correlation in it, and its interval is cut to 16 spreads around the reference after each op, so
 * that it cannot run away, and decisions that are clear stay closed.  Where a sample would be
 * blind, as max and abs may take either side, it stands anywhere in the interval.  Half of the
 * samples flush what is subnormal, so that what stays at zero for ever is seen to.
 *
 * A value that two others read may be computed for each of them, in kernels of their own, and be
 * rounded otherwise there: a product goes into one's subtraction (fma) and stands in memory for the
 * other, scores are summed in another order when attention's gradient asks for them again.  Then
 * x - f(x) loses more than f does: of x = a * b the difference of x and log(sum(exp(x))), which is
 * 0 where one x outweighs all others, is as large as the rounding of x, and has been.  So each
 * sample comes in two copies, which stand on the same inputs (what is stored is one value for all)
 * and err on their own at every op; and who reads a value takes one or the other, for each argument
 * and sample as a coin says.  What is known to be one value for all who read it in an expression is
 * taken from one copy: both sides of x * x, not of x - x, where the compiler may contract one.
 * Of a reduction or contraction the second copy is the first with other roundings; of what may
 * stand anywhere, it stands where the first does.
 *
 * Eight samples decide as the reference does.  Eight others, where a decision is open, take the one
 * answer in four of them and the other in the rest, in one of the 70 ways there are to choose four
 * of eight, so that what hangs on a decision shows in its spread and none goes unseen.  Both copies
 * take the same one: what is decided, or the number that it is decided by, is stored for all who ask.
 * (Softmax divides exp(x - m) by its sum, with m rounded down: m and m - 1 serve as well, but not one
 * above and the other below.) */
#include <math.h>
#include <string.h>

#include "ir/base/os.h"
#include "ir/oracle_op.h"

/* A spread is itself a guess from few samples: an error of t spreads is as likely as in Student's
 * distribution with 8 degrees of freedom, which for 16 is 1 in 4 million, were an op's usual error
 * all that it is taken for. */
static const double SPREADS = 16;

/* What decisions add is no rare sum of many errors: one that goes the other way moves an element by
 * 1.4 of the spread that half of the samples going so make, and many in one direction by 2, which
 * eight samples of many decisions may take for a fourth as much. */
static const double OPEN_SPREADS = 8;

static inline uint64_t mix(uint64_t h)
{
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9;
    h = (h ^ h >> 27) * 0x94d049bb133111eb;
    return h ^ h >> 31;
}

/* In [-1, 1], by what is computed and where: equal operands err equally, as they do in a kernel, so
 * that errors of equal elements add up when those do. */
static inline double noise_of(double x, uint64_t stream)
{
    uint64_t h;
    memcpy(&h, &x, sizeof h);
    return (double)(int64_t)mix(h + stream) * 0x1p-63;
}

static uint64_t noise_stream(Ref node, int copy, int sample)
{
    return ((uint64_t)node << 8 | (uint64_t)(copy * ORACLE_SAMPLES + sample)) * 0x9e3779b97f4a7c15;
}

/* The copy of argument i that copy `copy` of n reads. */
static int copy_read(const BoundCall *c, uint32_t i, int copy, int sample)
{
    const Node *n = c->n;
    for (uint32_t k = 0; k < i && n->op != OP_add && n->op != OP_sub; k++)
        if (n->arg[k] == n->arg[i])
            i = k;
    const uint64_t of = (uint64_t)c->self << 16 | (uint64_t)i << 8 | (uint64_t)sample;
    return copy ^ (int)(mix(of) >> 40 & 1);
}

/* Half of the samples, in a way of the element's own. */
static unsigned half_of_samples(Ref node, int64_t i)
{
    uint64_t h = mix(((uint64_t)node << 40) + (uint64_t)i);
    unsigned set = 0;
    for (int left = ORACLE_SAMPLES, want = ORACLE_SAMPLES / 2; left > 0; left--) {
        h = mix(h + 0x9e3779b97f4a7c15);
        if (h % (unsigned)left >= (unsigned)want)
            continue;
        set |= 1u << (left - 1);
        want--;
    }
    return set;
}

/* The samples of a span, both copies, become views of ref. */
static void share_ref(Bounded *out, int which)
{
    for (int copy = 0; copy < COPIES; copy++)
        for (int k = 0; k < ORACLE_SAMPLES; k++) {
            out->sample[copy][which][k] = out->ref;
            out->sample[copy][which][k].own = NULL;
        }
}

static void share_decided(Bounded *out)
{
    for (int copy = 0; copy < COPIES; copy++)
        for (int k = 0; k < ORACLE_SAMPLES; k++) {
            out->sample[copy][SPAN_ALL][k] = out->sample[copy][SPAN_DECIDED][k];
            out->sample[copy][SPAN_ALL][k].own = NULL;
        }
}

/* The op of one sample of each argument.  *same: none of them differs from the first copy's. */
static Status evaluate(const BoundCall *c, int which, int copy, int k, Value *arg, Value *out,
                       bool *same)
{
    *same = copy > 0;
    for (uint32_t i = 0; i < c->n->nargs; i++) {
        arg[i] = c->arg[i].sample[copy_read(c, i, copy, k)][which][k];
        *same &= arg[i].at == c->arg[i].sample[copy_read(c, i, 0, k)][which][k].at;
    }
    if (*same)
        return ST_OK;
    if (out->at)
        eval_elementwise_to(c->n, arg, out);
    else
        TRY(eval_fn[c->n->op](c->e, c->n, arg, out));
    if (c->noise)
        value_round_all(c->e, out);
    return ST_OK;
}

/* Moves a sample's elements by noise, inside their spans: a square is never negative.  What is
 * below `flush` becomes a true zero, as in kernels that flush.  first: what the first copy became
 * (NULL: this is it), where what may stand anywhere stands in both. */
EVAL_WIDE
static void disturb(double *restrict s, const double *restrict noise, const double *restrict lo,
                    const double *restrict hi, const double *restrict first, int64_t n,
                    uint64_t stream, double flush)
{
    for (int64_t i = 0; i < n; i++) {
        const double x = noise_of(s[i], stream);
        const double free = first ? first[i] : lo[i] + (1 + x) / 2 * (hi[i] - lo[i]);
        const double moved = bound_min(bound_max(s[i] + x * noise[i], lo[i]), hi[i]);
        const double result = noise[i] == ANYWHERE ? free : noise[i] != 0 ? moved : s[i];
        s[i] = fabs(s[i]) < flush ? 0 : result;
    }
}

/* Both copies err, each on its own. */
static void move_copies(const BoundCall *c, const Span *span, int k, Value *const s[COPIES])
{
    const int64_t n = shape_count(&c->n->type.shape);
    const double flush = k % 2 == 0 ? 0x1p-126 : 0;
    for (int copy = 0; copy < COPIES; copy++)
        disturb(s[copy]->at, c->noise, span->lo.at, span->hi.at, copy ? s[0]->at : NULL, n,
                noise_stream(c->self, copy, k), flush);
}

/* The op of the arguments' samples, and noise. */
static Status sample(const BoundCall *c, int which, Value *arg, Bounded *out)
{
    const bool once = c->noise && op_info[c->n->op].cls != CLASS_ELEMENTWISE;
    for (int k = 0; k < ORACLE_SAMPLES; k++) {
        Value *const s[COPIES] = { &out->sample[0][which][k], &out->sample[1][which][k] };
        bool same = false;
        TRY(evaluate(c, which, 0, k, arg, s[0], &same));
        if (once)
            same = true;
        else
            TRY(evaluate(c, which, 1, k, arg, s[1], &same));
        if (same && c->noise) {
            if (!s[1]->at)
                TRY(value_new(c->e, &c->n->type, s[1]));
            value_copy(s[1], s[0]);
        } else if (same) {
            *s[1] = *s[0];
            s[1]->own = NULL;
        }
        if (c->noise && dtype_is_float(c->n->type.dt))
            move_copies(c, &out->span[which], k, s);
    }
    return ST_OK;
}

static bool is_seen(const BoundCall *c, const Bounded *out, int64_t i)
{
    for (int copy = 0; copy < COPIES; copy++)
        for (int k = 0; k < ORACLE_SAMPLES; k++)
            if (out->sample[copy][SPAN_ALL][k].at[i] != c->ref->at[i])
                return true;
    return false;
}

/* Takes the other answer of what is open in half of the samples.  What is open only behind another
 * decision the samples have gone through already; but none need have met it.  The first sample
 * decides as its own values say: where many decisions hang together (all of a row is flushed to
 * zero and stays there), one at a time is not what happens. */
static void go_either_way(BoundCall *c, Bounded *out)
{
    for (int64_t i = 0; i < shape_count(&c->n->type.shape); i++) {
        double other = c->other[i];
        if (isnan(other) && !isnan(c->after[i]) && !is_seen(c, out, i))
            other = c->after[i];
        if (isnan(other))
            continue;
        for (int copy = 0; copy < COPIES; copy++) {
            const unsigned half = half_of_samples(c->self, i);
            for (int k = 1; k < ORACLE_SAMPLES; k++)
                out->sample[copy][SPAN_ALL][k].at[i] = half >> k & 1 ? other : out->ref.at[i];
        }
    }
}

/* Of a source: anywhere in its interval, and as repeated as its spans are. */
static Status source_samples(BoundCall *c, Bounded *out)
{
    const Span *span = &out->span[SPAN_DECIDED];
    int64_t count = 1;
    for (int i = 0; i < c->n->type.shape.rank; i++)
        count += (c->n->type.shape.dim[i] - 1) * span->lo.stride[i];
    for (int k = 0; k < ORACLE_SAMPLES; k++) {
        const double part = (1 + noise_of(0, noise_stream(c->self, 0, k))) / 2;
        Value *s = &out->sample[0][SPAN_DECIDED][k];
        *s = span->lo;
        s->own = NULL;
        TRY(eval_alloc(c->e->cx, (size_t)count * sizeof *s->at, &s->own));
        s->at = s->own;
        for (int64_t i = 0; i < count; i++) {
            const double lo = span->lo.at[i], hi = span->hi.at[i];
            s->at[i] = lo == hi ? lo : lo + part * (hi - lo);
        }
        out->sample[1][SPAN_DECIDED][k] = *s;
        out->sample[1][SPAN_DECIDED][k].own = NULL;
    }
    return ST_OK;
}

enum { RUN = 256 };

/* Mean squares of how far the samples of n elements from `first` on stand from ref. */
EVAL_WIDE
static void mean_squares(double *restrict mean, const Bounded *v, int which, int64_t first,
                         int64_t n)
{
    const double *restrict ref = v->ref.at + first;
    for (int64_t i = 0; i < n; i++)
        mean[i] = 0;
    for (int k = 0; k < COPIES * ORACLE_SAMPLES; k++) {
        const Value *sample = &v->sample[k / ORACLE_SAMPLES][which][k % ORACLE_SAMPLES];
        const double *restrict s = sample->at + first;
        for (int64_t i = 0; i < n; i++)
            mean[i] += (s[i] - ref[i]) * (s[i] - ref[i]);
    }
    for (int64_t i = 0; i < n; i++)
        mean[i] /= COPIES * ORACLE_SAMPLES;
}

/* To `reach` around ref, where all of these are numbers. */
EVAL_WIDE
static void cut(double *restrict lo, double *restrict hi, const double *restrict ref,
                const double *restrict reach, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const double low = bound_max(lo[i], ref[i] - reach[i]);
        const double high = bound_min(hi[i], ref[i] + reach[i]);
        const bool finite = (fabs(reach[i]) < INFINITY) & (fabs(ref[i]) < INFINITY) &
                            (fabs(lo[i]) != INFINITY) & (fabs(hi[i]) != INFINITY);
        lo[i] = finite ? low : lo[i];
        hi[i] = finite ? high : hi[i];
    }
}

EVAL_WIDE
static void reaches(double *restrict all, double *restrict decided, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const double reach = SPREADS * sqrt(decided[i]);
        const double more = all[i] - decided[i]; /* may be NaN */
        all[i] = more < 0 ? reach : reach + OPEN_SPREADS * sqrt(more);
        decided[i] = reach;
    }
}

static void cut_spans(const Bounded *v)
{
    const int64_t count = shape_count(&v->ref.type.shape);
    double decided[RUN], all[RUN] = { 0 };
    for (int64_t i = 0; i < count; i += RUN) {
        const int64_t n = count - i < RUN ? count - i : RUN;
        const double *ref = v->ref.at + i;
        const Span *span = v->span;
        mean_squares(decided, v, SPAN_DECIDED, i, n);
        if (v->sure == SURE_OPEN)
            mean_squares(all, v, SPAN_ALL, i, n);
        reaches(all, decided, n);
        cut(span[SPAN_DECIDED].lo.at + i, span[SPAN_DECIDED].hi.at + i, ref, decided, n);
        if (v->sure == SURE_OPEN)
            cut(span[SPAN_ALL].lo.at + i, span[SPAN_ALL].hi.at + i, ref, all, n);
    }
}

Status bound_samples(BoundCall *c, Value *scratch, Bounded *out)
{
    const bool open = out->sure == SURE_OPEN, moves = dtype_is_float(c->n->type.dt) && !c->flat;
    if (!moves)
        share_ref(out, SPAN_DECIDED);
    else if (c->n->nargs == 0)
        TRY(source_samples(c, out));
    else
        TRY(sample(c, SPAN_DECIDED, scratch, out));
    if (!open) {
        share_decided(out);
    } else {
        TRY(sample(c, SPAN_ALL, scratch, out));
        if (c->other)
            go_either_way(c, out);
    }
    if (moves && c->noise)
        cut_spans(out);
    return ST_OK;
}
