/* SPDX-License-Identifier: Apache-2.0 */
/* kir_race: the accesses of a kernel, compared in pairs.
 *
 * Threads.  A team loop of n iterations gives each thread the same share whenever n is the same, so
 * what iteration i wrote, iteration i of another such loop may read; anything else that meets
 * between two barriers has to be disjoint.  Two accesses are disjoint over different iterations i
 * when some run of dimensions, taken as one number (each index is in bounds, so that is one to
 * one), is c*i + r and the rests r of both span less than |c|; terms that move in steps longer than
 * all of c*i + r do no harm.
 *
 * Private memory is a thread's own.  What a team loop wrote there may be read outside of that loop
 * at the same iteration only, unless it was written again on the way.
 *
 * On a GPU the team is of blocks, each with an iteration of one loop: those of two loops are never
 * the same.  Where the last of several blocks goes on (K_LAST), those have met: what they had
 * touched before is ordered before what it touches, whatever their place in the loop that they meet
 * along.  Between two syncs the threads of a block are held to what holds for a team between
 * barriers, over all the loops that are shared out together; a loop with a sync was walked twice,
 * for what one iteration does to the next. */
#include "codegen/kir_verify.h"

#include <stdlib.h>
#include <string.h>

#include "ir/base/size.h"

const char *kir_ix_text(const Kir *k, Ix a)
{
    Strbuf b = { 0 };
    ix_print(k->pool, a, &b);
    const char *s = arena_strdup(k->arena, strbuf_str(&b));
    strbuf_free(&b);
    return s;
}

static void vars_add(void *arg, Var v)
{
    Vars *s = arg;
    gtc_assert(s->n < MAX_VARS, "an index of more than %d variables", MAX_VARS);
    s->v[s->n++] = v;
}

Vars kir_vars_of(const IxPool *p, Ix a)
{
    Vars s = { .n = 0 };
    ix_vars(p, a, vars_add, &s);
    return s;
}

static Ix without(const Accesses *v, Ix a, Var var, int64_t coef)
{
    return ix_sub(v->pool, a, ix_scale(v->pool, ix_var(v->pool, var), coef));
}

/* ---- disjointness */

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The longest way from an element of one access to one of the other, team variables apart. */
static int64_t reach(IxRange a, IxRange b, int64_t wa, int64_t wb)
{
    return max64(a.hi - b.lo + wa - 1, b.hi - a.lo + wb - 1);
}

static int64_t gcd(int64_t a, int64_t b)
{
    return b ? gcd(b, a % b) : a;
}

/* Takes the linear terms longer than c out of *a, and their greatest common divisor with *g. */
static void take_long_terms(const Accesses *v, Ix *a, int64_t c, int64_t *g)
{
    Vars s = kir_vars_of(v->pool, *a);
    for (int i = 0; i < s.n; i++) {
        bool linear;
        int64_t k = llabs(ix_coef(v->pool, *a, s.v[i], &linear));
        if (!linear || k <= c)
            continue;
        *a = without(v, *a, s.v[i], ix_coef(v->pool, *a, s.v[i], &linear));
        *g = gcd(k, *g);
    }
}

/* fa and fb are the same number for equal elements; never for different iterations? */
static bool number_separates(const Accesses *v, Var va, Var vb, Ix fa, Ix fb, int64_t wa,
                             int64_t wb)
{
    bool la, lb;
    int64_t c = ix_coef(v->pool, fa, va, &la);
    if (c == 0 || ix_coef(v->pool, fb, vb, &lb) != c || !la || !lb)
        return false;
    fa = without(v, fa, va, c);
    fb = without(v, fb, vb, c);
    c = llabs(c);
    if (c > reach(ix_range(v->pool, fa), ix_range(v->pool, fb), wa, wb))
        return true;
    int64_t g = 0;
    take_long_terms(v, &fa, c, &g);
    take_long_terms(v, &fb, c, &g);
    int64_t r = reach(ix_range(v->pool, fa), ix_range(v->pool, fb), wa, wb);
    return g && c > r && size_mul(c, ix_var_count(v->pool, va) - 1) + r < g;
}

/* Different iterations of the loops par[k] never meet. */
static bool iterations_disjoint(const Accesses *v, const Access *a, const Access *b, int k)
{
    const KBuf *x = &v->k->buf[a->node->buf], *y = &v->k->buf[b->node->buf];
    for (int d = 0; d < x->rank; d++) {
        const Along *p = &a->dim[d].along[k], *q = &b->dim[d].along[k];
        bool last = d == x->rank - 1;
        if (p->linear && q->linear && p->coef == q->coef && p->coef != 0 &&
            llabs(p->coef) >
                reach(p->rest, q->rest, last ? a->node->lanes : 1, last ? b->node->lanes : 1))
            return true;
    }
    for (int from = 0; from < x->rank; from++) {
        Ix fa = a->node->ix[from], fb = b->node->ix[from];
        for (int d = from;; d++) {
            bool last = d == x->rank - 1;
            if (number_separates(v, a->par[k]->var, b->par[k]->var, fa, fb,
                                 last ? a->node->lanes : 1, last ? b->node->lanes : 1))
                return true;
            if (last)
                break;
            int64_t n = max64(x->shape[d + 1], y->shape[d + 1]);
            fa = ix_add(v->pool, ix_scale(v->pool, fa, n), a->node->ix[d + 1]);
            fb = ix_add(v->pool, ix_scale(v->pool, fb, n), b->node->ix[d + 1]);
        }
    }
    return false;
}

static bool wholly_disjoint(const Accesses *v, const Access *a, const Access *b)
{
    for (int d = 0; d < v->k->buf[a->node->buf].rank; d++)
        if (a->dim[d].range.hi < b->dim[d].range.lo || b->dim[d].range.hi < a->dim[d].range.lo)
            return true;
    return false;
}

/* Whatever both touch, the same iteration of the loops par[from .. to) touches, that over `met` (if
 * not 0) left out. */
static bool same_iteration(const Accesses *v, const Access *a, const Access *b, int from, int to,
                           Var met)
{
    for (int k = from; k < to; k++) {
        if (met && a->par[k]->var == met)
            continue;
        const int64_t count = ix_var_count(v->pool, a->par[k]->var);
        const IxRange p = a->at[k], q = b->at[k];
        if (ix_var_count(v->pool, b->par[k]->var) != count)
            return false;
        if (count > 1 && (p.lo != p.hi || q.lo != q.hi || p.lo != q.lo) &&
            !iterations_disjoint(v, a, b, k))
            return false;
    }
    return true;
}

/* The loop whose blocks have all come to a last one between the two accesses, or have only that one
 * do both; 0: there is none. */
static Var loop_met(const Access *a, const Access *b)
{
    const Access *in = a->last ? a : b, *other = a->last ? b : a;
    if (!in->last || (other->last && other->last != in->last))
        return 0;
    return in->last->var;
}

/* Whatever both touch, the same member of the team touches: on a GPU those of another loop are
 * others, and blocks that have met in a last one are ordered. */
static bool same_thread(const Accesses *v, const Access *a, const Access *b)
{
    return (a->team && b->team && a->nteam == b->nteam && (a->team == b->team || !v->k->threads) &&
            same_iteration(v, a, b, 0, a->nteam, loop_met(a, b))) ||
           wholly_disjoint(v, a, b);
}

/* Between two syncs of one block. */
static bool same_thread_of_block(const Accesses *v, const Access *a, const Access *b)
{
    return (a->npar == b->npar && a->npar > a->nteam &&
            same_iteration(v, a, b, a->nteam, a->npar, 0)) ||
           wholly_disjoint(v, a, b);
}

/* Of one member of the team, and of nobody else. */
static bool is_own(const KBuf *b)
{
    return b->cls == BUF_PRIVATE || b->cls == BUF_REGISTERS;
}

static bool is_argument(const KBuf *b)
{
    return b->cls == BUF_IN || b->cls == BUF_OUT;
}

/* How two buffers may meet in memory. */
typedef enum Meet { MEET_NEVER, MEET_EQUAL, MEET_ANYHOW } Meet;

static int64_t buf_bytes(const KBuf *b)
{
    int64_t last = 0;
    for (int d = 0; d < b->rank; d++) {
        if (b->shape[d] == 0)
            return 0;
        last = size_add(last, size_mul(b->shape[d] - 1, b->stride[d]));
    }
    return size_mul(last + 1, dtype_bytes(b->dt));
}

static Meet buffers_meet(const Accesses *v, BufId x, BufId y)
{
    const KBuf *a = &v->k->buf[x], *b = &v->k->buf[y];
    if (x == y)
        return MEET_EQUAL;
    if (!a->aliased || !b->aliased)
        return MEET_NEVER;
    bool equal = a->rank == b->rank && a->offset == b->offset && a->dt == b->dt &&
                 !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) &&
                 !memcmp(a->stride, b->stride, (size_t)a->rank * sizeof *a->stride);
    if (a->cls != b->cls) /* in place: an input and an output of one shape */
        return equal && is_argument(a) && is_argument(b) ? MEET_EQUAL : MEET_NEVER;
    bool apart = is_argument(a) ? a->arg != b->arg
                                : a->offset + buf_bytes(a) <= b->offset ||
                                      b->offset + buf_bytes(b) <= a->offset;
    return apart ? MEET_NEVER : equal ? MEET_EQUAL : MEET_ANYHOW;
}

/* ---- pairs */

static Status check_shared_pair(const Accesses *v, const Access *a, const Access *b)
{
    const KBuf *x = &v->k->buf[a->node->buf], *y = &v->k->buf[b->node->buf];
    if (a->segment != b->segment || (!a->write && !b->write))
        return ST_OK;
    Meet meet = buffers_meet(v, a->node->buf, b->node->buf);
    if (meet == MEET_NEVER || (meet == MEET_EQUAL && same_thread(v, a, b)))
        return ST_OK;
    int d = x->rank ? x->rank - 1 : 0;
    if (a == b)
        return REFUSE(v, "different iterations of %s store to the same element of %s[..%s]",
                      ix_var_name(v->pool, a->team->var), x->name,
                      x->rank ? kir_ix_text(v->k, a->node->ix[0]) : "");
    const Access *w = a->write ? a : b, *o = a->write ? b : a;
    return REFUSE(v,
                  "no barrier between a store to %s[..%s] by one thread and a %s of %s[..%s] by "
                  "another",
                  v->k->buf[w->node->buf].name, x->rank ? kir_ix_text(v->k, w->node->ix[d]) : "",
                  o->write ? "store" : "load", (o == a ? x : y)->name,
                  v->k->buf[o->node->buf].rank ? kir_ix_text(v->k, o->node->ix[d < y->rank ? d : 0])
                                               : "");
}

/* The slot is the number of the step, or that and a constant, modulo the slots: another at the next
 * step. */
static bool slot_changes(const Accesses *v, const Access *a, const Access *b)
{
    const KBuf *x = &v->k->buf[a->node->buf];
    if (!x->slots || a->node->buf != b->node->buf || x->shape[0] < 2 || a->turn == b->turn ||
        !a->inner || a->inner != b->inner || !a->inner->step || a->node->ix[0] != b->node->ix[0])
        return false;
    bool found = false;
    const Ix step = ix_var(v->pool, a->inner->var);
    for (int64_t c = 0; c < x->shape[0] && !found; c++)
        found = a->node->ix[0] == ix_mod(v->pool, ix_shift(v->pool, step, c), x->shape[0]);
    return found;
}

/* The threads of a block, between two of its syncs. */
static Status check_block_pair(const Accesses *v, const Access *a, const Access *b)
{
    if (!a->team || a->team->bind != BIND_TEAM || a->team != b->team || a->sync != b->sync ||
        (!a->write && !b->write))
        return ST_OK;
    const Meet meet = buffers_meet(v, a->node->buf, b->node->buf);
    if (meet == MEET_NEVER || (meet == MEET_EQUAL && same_thread_of_block(v, a, b)))
        return ST_OK;
    const Access *w = a->write ? a : b, *o = a->write ? b : a;
    const KBuf *x = &v->k->buf[w->node->buf];
    if (x->slots && a->again == b->again && a->node->buf == b->node->buf &&
        a->node->ix[0] != b->node->ix[0])
        return ST_OK; /* other slots at every step: kir_verify_slots */
    if (slot_changes(v, a, b))
        return ST_OK;
    return REFUSE(
        v, "no sync between a store to %s[..%s] by one thread of a block and a %s by another",
        x->name, x->rank ? kir_ix_text(v->k, w->node->ix[x->rank - 1]) : "",
        o->write ? "store" : "load");
}

static bool before(const Access *w, const Access *r)
{
    return w->seq < r->seq || (w->outer && w->outer == r->outer);
}

/* A write of r's buffer after the team loop that w is in, on the way to r. */
static bool written_again(const Accesses *v, const Access *w, const Access *r)
{
    for (uint32_t i = 0; i < v->naccess; i++) {
        const Access *x = &v->access[i];
        if (!x->write || x->node->buf != r->node->buf || x->team == w->team ||
            wholly_disjoint(v, x, r))
            continue;
        if (x->seq > w->seq && x->seq < r->seq)
            return true;
        if (x->team == r->team && x->inner && x->inner == r->inner)
            return true;
    }
    return false;
}

static Status check_private_read(const Accesses *v, const Access *r)
{
    const KBuf *b = &v->k->buf[r->node->buf];
    for (uint32_t i = 0; i < v->naccess; i++) {
        const Access *w = &v->access[i];
        if (!w->write || w->node->buf != r->node->buf || !w->team || w->team == r->team ||
            w->seq > r->seq || same_thread(v, w, r) || written_again(v, w, r))
            continue;
        return REFUSE(v,
                      "private %s: %s is read outside of the team loop over %s, where each thread "
                      "wrote its own share",
                      b->name, b->rank ? kir_ix_text(v->k, r->node->ix[b->rank - 1]) : "it",
                      ix_var_name(v->pool, w->team->var));
    }
    return ST_OK;
}

/* What a block keeps for itself differs from block to block of those that have met. */
static Status check_last_read(const Accesses *v, const Access *r)
{
    for (uint32_t i = 0; i < v->naccess; i++) {
        const Access *w = &v->access[i];
        if (w->write && w->node->buf == r->node->buf && w->team == r->team && w->last != r->last &&
            r->last)
            return REFUSE(v, "%s is the last block's own, whichever that is",
                          v->k->buf[r->node->buf].name);
    }
    return ST_OK;
}

/* Something must have been written before workspaces and outputs are read. */
static Status check_written(const Accesses *v, const Access *r)
{
    for (uint32_t i = 0; i < v->naccess; i++) {
        const Access *w = &v->access[i];
        if (w->write && before(w, r) && buffers_meet(v, w->node->buf, r->node->buf) != MEET_NEVER)
            return ST_OK;
    }
    return REFUSE(v, "%s is read before it is written", v->k->buf[r->node->buf].name);
}

static bool places_equal(const Access *a, const Access *b, int rank)
{
    bool same = true;
    for (int d = 0; d < rank && same; d++) {
        const Place *p = &a->dim[d], *q = &b->dim[d];
        same = p->range.lo == q->range.lo && p->range.hi == q->range.hi &&
               a->node->ix[d] == b->node->ix[d];
        for (int k = 0; k < a->npar && same; k++)
            same = p->along[k].rest.lo == q->along[k].rest.lo &&
                   p->along[k].rest.hi == q->along[k].rest.hi;
    }
    return same;
}

/* Equal accesses of one iteration need to be compared once. */
static bool access_repeats(const Accesses *v, const Access *a, const Access *b)
{
    const KBuf *x = &v->k->buf[a->node->buf];
    return a->team && a->node->buf == b->node->buf && a->team == b->team && a->npar == b->npar &&
           !memcmp(a->par, b->par, sizeof *a->par * (size_t)a->npar) &&
           !memcmp(a->at, b->at, sizeof *a->at * (size_t)a->npar) && a->sync == b->sync &&
           a->again == b->again && a->segment == b->segment && a->write == b->write &&
           a->node->lanes == b->node->lanes && a->last == b->last && a->outer == b->outer &&
           a->inner == b->inner && places_equal(a, b, x->rank);
}

static int order_access(const void *pa, const void *pb)
{
    const Access *a = *(const Access *const *)pa, *b = *(const Access *const *)pb;
    if (a->node->buf != b->node->buf)
        return a->node->buf < b->node->buf ? -1 : 1;
    return a->seq < b->seq ? -1 : a->seq > b->seq;
}

/* Two buffers of one block's shared memory may take each other's place from launch to launch. */
static Status check_apart(const Accesses *v, const Access *a, const Access *b)
{
    const KBuf *x = &v->k->buf[a->node->buf], *y = &v->k->buf[b->node->buf];
    if (x == y || x->cls != BUF_PRIVATE || y->cls != BUF_PRIVATE || a->segment != b->segment ||
        x->offset + buf_bytes(x) <= y->offset || y->offset + buf_bytes(y) <= x->offset)
        return ST_OK;
    return REFUSE(v, "%s and %s share memory in one launch", x->name, y->name);
}

Status kir_verify_accesses(const Accesses *v)
{
    const Access **a = arena_array(v->k->arena, const Access *, v->naccess);
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->naccess; i++)
        a[i] = &v->access[i];
    qsort(a, v->naccess, sizeof *a, order_access);
    for (uint32_t i = 0; i < v->naccess; i++)
        if (n == 0 || !access_repeats(v, a[n - 1], a[i]))
            a[n++] = a[i];
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = i + 1; j < n && v->k->buf[a[i]->node->buf].cls == BUF_PRIVATE; j++)
            if (v->k->threads)
                TRY(check_apart(v, a[i], a[j]));
    for (uint32_t i = 0; i < n; i++) {
        const KBuf *b = &v->k->buf[a[i]->node->buf];
        if (!a[i]->write && b->cls != BUF_IN)
            TRY(check_written(v, a[i]));
        if (is_own(b) && !a[i]->write) {
            TRY(check_private_read(v, a[i]));
            TRY(check_last_read(v, a[i]));
        }
        if (b->cls == BUF_PRIVATE && !v->k->threads)
            continue;
        for (uint32_t j = i; j < n; j++) {
            if (a[j]->node->buf != a[i]->node->buf && !b->aliased)
                break; /* sorted by buffer */
            if (!is_own(b))
                TRY(check_shared_pair(v, a[i], a[j]));
            if (v->k->threads)
                TRY(check_block_pair(v, a[i], a[j]));
        }
    }
    return ST_OK;
}

/* ---- buffers */

static Status check_register_buffer(const Accesses *v, const KBuf *b)
{
    int64_t stride = 1;
    if (!v->k->threads || b->threads < 0 || b->threads > b->rank || b->aliased || b->slots)
        return REFUSE(v, "%s: registers of %d loops over threads", b->name, b->threads);
    for (int d = b->rank - 1; d >= 0; d--) {
        if (b->shape[d] < 1 || b->stride[d] != (d < b->threads ? 0 : stride))
            return REFUSE(v, "%s, dimension %d: extent %lld, stride %lld in registers", b->name, d,
                          (long long)b->shape[d], (long long)b->stride[d]);
        stride = size_mul(stride, b->shape[d]);
    }
    return ST_OK;
}

static Status check_buffer(const Accesses *v, BufId id)
{
    const KBuf *b = &v->k->buf[id];
    if (b->rank < 0 || b->rank > MAX_RANK)
        return REFUSE(v, "%s: rank %d", b->name, b->rank);
    if (b->cls == BUF_REGISTERS)
        return check_register_buffer(v, b);
    for (int d = 0; d < b->rank; d++) {
        bool last = d == b->rank - 1;
        int64_t inner = last ? 1 : size_mul(b->shape[d + 1], b->stride[d + 1]);
        if (b->shape[d] < 0 || (last && b->stride[d] != 1) ||
            (!last && b->shape[d] > 1 && b->stride[d] < inner))
            return REFUSE(v, "%s, dimension %d: extent %lld, stride %lld", b->name, d,
                          (long long)b->shape[d], (long long)b->stride[d]);
    }
    if (is_argument(b))
        return ST_OK;
    int64_t room = b->cls == BUF_SHARED ? v->k->shared_bytes : v->k->private_bytes;
    if (b->offset < 0 || b->offset % dtype_bytes(b->dt) || b->offset + buf_bytes(b) > room)
        return REFUSE(v, "%s: bytes [%lld,%lld) of a workspace of %lld", b->name,
                      (long long)b->offset, (long long)(b->offset + buf_bytes(b)), (long long)room);
    return ST_OK;
}

/* Buffers in the same memory say so. */
static Status check_overlap(const Accesses *v, const KBuf *a, const KBuf *b)
{
    if (a->cls != b->cls || (a->aliased && b->aliased) || (v->k->threads && is_own(a)))
        return ST_OK;
    if (!is_argument(a)
            ? a->offset < b->offset + buf_bytes(b) && b->offset < a->offset + buf_bytes(a)
            : a->arg == b->arg)
        return REFUSE(v, "%s and %s share memory and do not say so", a->name, b->name);
    return ST_OK;
}

Status kir_verify_buffers(const Accesses *v)
{
    for (uint32_t i = 0; i < v->k->nbuf; i++)
        TRY(check_buffer(v, (BufId)i));
    for (uint32_t i = 0; i < v->k->nbuf; i++)
        for (uint32_t j = i + 1; j < v->k->nbuf; j++)
            TRY(check_overlap(v, &v->k->buf[i], &v->k->buf[j]));
    return ST_OK;
}
