/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes, one row of attr_rows a kind: how it prints, parses, and which numbers it is.
 *
 * Attributes are equal when their numbers are (attr_normalise has made parts without a meaning 0),
 * and hash by them, so a kind lists its members once for both.  Only scan and fusion carry more, a
 * body, which attr_eq and attr_hash treat apart.  A number prints so that it parses to the same
 * bits: reals as hex floats, inf or nan. */
#include "ir/attr.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/hash.h"

enum { MAX_WORDS = 32 };

typedef struct Words {
    int64_t at[MAX_WORDS];
    int n;
} Words;

static void word(Words *w, int64_t x)
{
    gtc_assert(w->n < MAX_WORDS, "attribute of more than %d numbers", MAX_WORDS);
    w->at[w->n++] = x;
}

static void word_real(Words *w, double x)
{
    int64_t bits;
    memcpy(&bits, &x, sizeof bits);
    word(w, bits);
}

static void words64(Words *w, const int64_t *x, int n)
{
    for (int i = 0; i < n; i++)
        word(w, x[i]);
}

static void words8(Words *w, const uint8_t *x, int n)
{
    for (int i = 0; i < n; i++)
        word(w, x[i]);
}

/* Printing. */

static void print_real(Strbuf *out, double x)
{
    if (isnan(x))
        strbuf_add(out, "nan");
    else
        strbuf_printf(out, "%a", x);
}

static void print_list(Strbuf *out, const char *key, const int64_t *x, int n)
{
    strbuf_printf(out, " %s=[", key);
    for (int i = 0; i < n; i++)
        strbuf_printf(out, "%s%" PRId64, i ? "," : "", x[i]);
    strbuf_putc(out, ']');
}

static void print_pairs(Strbuf *out, const char *key, const uint8_t *a, const uint8_t *b, int n)
{
    strbuf_printf(out, " %s=[[", key);
    for (int i = 0; i < n; i++)
        strbuf_printf(out, "%s%d", i ? "," : "", a[i]);
    strbuf_add(out, "],[");
    for (int i = 0; i < n; i++)
        strbuf_printf(out, "%s%d", i ? "," : "", b[i]);
    strbuf_add(out, "]]");
}

static bool all_are(const int64_t *x, int n, int64_t value)
{
    for (int i = 0; i < n; i++)
        if (x[i] != value)
            return false;
    return true;
}

/* Parsing. */

static bool refuse(AttrText *t, const char *at, const char *fmt, const char *what)
{
    t->bad = at;
    snprintf(t->why, sizeof t->why, fmt, what);
    return false;
}

static AttrField *find_field(AttrText *t, const char *key)
{
    for (int i = 0; i < t->n; i++) {
        AttrField *f = &t->field[i];
        if (!f->used && (size_t)f->nkey == strlen(key) && !memcmp(f->key, key, strlen(key))) {
            f->used = true;
            return f;
        }
    }
    return NULL;
}

static const char *skip_blanks(const char *s, const char *end)
{
    while (s < end && (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r'))
        s++;
    return s;
}

/* One integer of the range at *s, which moves behind it. */
static bool read_int(AttrText *t, const char **s, const char *end, int64_t lo, int64_t hi,
                     int64_t *out)
{
    const char *p = skip_blanks(*s, end);
    bool negative = p < end && *p == '-';
    int64_t x = 0;

    const char *digit = p + negative;
    if (digit >= end || *digit < '0' || *digit > '9')
        return refuse(t, p, "wants an integer%s", "");
    for (; digit < end && *digit >= '0' && *digit <= '9'; digit++) {
        const int d = *digit - '0';
        if (__builtin_mul_overflow(x, 10, &x) || __builtin_add_overflow(x, negative ? -d : d, &x))
            return refuse(t, p, "the integer does not fit 64 bits%s", "");
    }
    if (x < lo || x > hi) {
        char range[64];
        snprintf(range, sizeof range, "%" PRId64 " to %" PRId64, lo, hi);
        return refuse(t, p, "wants an integer in %s", range);
    }
    *s = skip_blanks(digit, end);
    *out = x;
    return true;
}

static bool read_char(AttrText *t, const char **s, const char *end, char c)
{
    const char want[2] = { c, '\0' };
    *s = skip_blanks(*s, end);
    if (*s >= end || **s != c)
        return refuse(t, *s, "wants '%s'", want);
    (*s)++;
    return true;
}

static bool read_list(AttrText *t, const char **s, const char *end, int64_t lo, int64_t hi, int cap,
                      int64_t *out, int *n)
{
    *n = 0;
    if (!read_char(t, s, end, '['))
        return false;
    *s = skip_blanks(*s, end);
    if (*s < end && **s == ']') {
        (*s)++;
        return true;
    }
    for (;;) {
        if (*n == cap)
            return refuse(t, *s, "the list is too long%s", "");
        if (!read_int(t, s, end, lo, hi, &out[*n]))
            return false;
        ++*n;
        if (*s < end && **s == ',')
            ++*s;
        else
            return read_char(t, s, end, ']');
    }
}

static bool read_end(AttrText *t, const char *s, const char *end)
{
    s = skip_blanks(s, end);
    return s >= end || refuse(t, s, "bad number%s", "");
}

/* The named field, which must be there. */
static bool parse_int(AttrText *t, const char *key, int64_t lo, int64_t hi, int64_t *out)
{
    const AttrField *f = find_field(t, key);
    if (!f)
        return refuse(t, NULL, "wants %s=", key);
    const char *s = f->value, *end = s + f->nvalue;
    return read_int(t, &s, end, lo, hi, out) && read_end(t, s, end);
}

/* A list of *n entries, or of any number if *n is -1.  Absent: filled with fallback where that is
 * not NULL. */
static bool parse_list(AttrText *t, const char *key, int64_t lo, int64_t hi, int cap,
                       const int64_t *fallback, int64_t *out, int *n)
{
    const AttrField *f = find_field(t, key);
    int have = 0;
    if (!f && !fallback)
        return refuse(t, NULL, "wants %s=", key);
    if (!f) {
        for (int i = 0; i < *n; i++)
            out[i] = *fallback;
        return true;
    }
    const char *s = f->value, *end = s + f->nvalue;
    if (!read_list(t, &s, end, lo, hi, cap, out, &have) || !read_end(t, s, end))
        return false;
    if (*n >= 0 && have != *n)
        return refuse(t, f->value, "%s= has another number of entries than the list before", key);
    *n = have;
    return true;
}

static bool parse_pairs(AttrText *t, const char *key, uint8_t *a, uint8_t *b, uint8_t *n)
{
    const AttrField *f = find_field(t, key);
    int64_t x[4] = { 0 }, y[4] = { 0 };
    int nx = 0, ny = 0;
    if (!f)
        return true;
    const char *s = f->value, *end = s + f->nvalue;
    if (!read_char(t, &s, end, '[') || !read_list(t, &s, end, 0, MAX_RANK - 1, 4, x, &nx) ||
        !read_char(t, &s, end, ',') || !read_list(t, &s, end, 0, MAX_RANK - 1, 4, y, &ny) ||
        !read_char(t, &s, end, ']') || !read_end(t, s, end))
        return false;
    if (nx != ny)
        return refuse(t, f->value, "%s= wants two lists of one length", key);
    *n = (uint8_t)nx;
    for (int i = 0; i < nx; i++) {
        a[i] = (uint8_t)x[i];
        b[i] = (uint8_t)y[i];
    }
    return true;
}

static bool read_real(AttrText *t, const AttrField *f, double *out)
{
    char text[64], *end = text;
    char *digits = text;
    if ((size_t)f->nvalue >= sizeof text)
        return refuse(t, f->value, "the number is too long%s", "");
    memcpy(text, f->value, (size_t)f->nvalue);
    text[f->nvalue] = '\0';
    if (*digits == '-' || *digits == '+')
        digits++;
    if (strcmp(digits, "inf") && strcmp(digits, "nan") &&
        strspn(digits, "0123456789abcdefABCDEFxXpP.+-") != strlen(digits))
        return refuse(t, f->value, "wants a number, got \"%s\"", text);
    *out = strtod(text, &end);
    if (end == text || *end)
        return refuse(t, f->value, "wants a number, got \"%s\"", text);
    if (isinf(*out) && strcmp(digits, "inf"))
        return refuse(t, f->value, "%s is too large for a number", text);
    return true;
}

/* Rows.  none, fill, axis, axes, get: */

static void none_print(const Node *n, Strbuf *out)
{
    (void)n, (void)out;
}
static bool none_parse(AttrText *t, Attr *a)
{
    return (void)t, (void)a, true;
}
static void none_words(const Attr *a, Words *w)
{
    (void)a, (void)w;
}

static void fill_print(const Node *n, Strbuf *out)
{
    strbuf_putc(out, ' ');
    print_real(out, n->attr.fill.value);
}
static bool fill_parse(AttrText *t, Attr *a)
{
    const AttrField *f = find_field(t, "");
    return f ? read_real(t, f, &a->fill.value) : refuse(t, NULL, "wants a value%s", "");
}
static void fill_words(const Attr *a, Words *w)
{
    word_real(w, a->fill.value);
}

static void axis_print(const Node *n, Strbuf *out)
{
    strbuf_printf(out, " axis=%d", n->attr.axis.axis);
}
static bool axis_parse(AttrText *t, Attr *a)
{
    int64_t axis = 0;
    if (!parse_int(t, "axis", 0, MAX_RANK - 1, &axis))
        return false;
    a->axis.axis = (int8_t)axis;
    return true;
}
static void axis_words(const Attr *a, Words *w)
{
    word(w, a->axis.axis);
}

static void axes_print(const Node *n, Strbuf *out)
{
    int64_t axis[MAX_RANK] = { 0 };
    int count = 0;
    for (int i = 0; i < MAX_RANK; i++)
        if (n->attr.axes.mask & 1u << i)
            axis[count++] = i;
    print_list(out, "axes", axis, count);
}
static bool axes_parse(AttrText *t, Attr *a)
{
    int64_t axis[MAX_RANK] = { 0 };
    int n = -1;
    if (!parse_list(t, "axes", 0, MAX_RANK - 1, MAX_RANK, NULL, axis, &n))
        return false;
    for (int i = 0; i < n; i++) {
        if (i && axis[i] <= axis[i - 1])
            return refuse(t, NULL, "axes= wants %s", "ascending axes");
        a->axes.mask |= (uint8_t)(1u << axis[i]);
    }
    return true;
}
static void axes_words(const Attr *a, Words *w)
{
    word(w, a->axes.mask);
}

static void get_print(const Node *n, Strbuf *out)
{
    strbuf_printf(out, " index=%u", n->attr.get.index);
}
static bool get_parse(AttrText *t, Attr *a)
{
    int64_t index = 0;
    if (!parse_int(t, "index", 0, UINT32_MAX, &index))
        return false;
    a->get.index = (uint32_t)index;
    return true;
}
static void get_words(const Attr *a, Words *w)
{
    word(w, a->get.index);
}

/* input */

const char *attr_input_kind(InputKind kind)
{
    static const char *const name[] = { [INPUT_batch] = "batch",
                                        [INPUT_param] = "param",
                                        [INPUT_state] = "state",
                                        [INPUT_const] = "const" };
    return (unsigned)kind <= INPUT_const ? name[kind] : NULL;
}

static void input_print(const Node *n, Strbuf *out)
{
    strbuf_printf(out, " kind=%s", attr_input_kind(n->attr.input.kind));
}
static bool input_parse(AttrText *t, Attr *a)
{
    const AttrField *f = find_field(t, "kind");
    if (!f)
        return refuse(t, NULL, "wants kind=%s", "");
    for (InputKind k = INPUT_batch; k <= INPUT_const; k++)
        if (strlen(attr_input_kind(k)) == (size_t)f->nvalue &&
            !memcmp(attr_input_kind(k), f->value, (size_t)f->nvalue)) {
            a->input.kind = k;
            return true;
        }
    return refuse(t, f->value, "wants kind=%s", "batch, param, state or const");
}
static void input_words(const Attr *a, Words *w)
{
    word(w, a->input.kind);
}

/* perm, slice, pad: a list with an entry for each axis */

static void perm_print(const Node *n, Strbuf *out)
{
    int64_t dim[MAX_RANK] = { 0 };
    for (int i = 0; i < n->type.shape.rank; i++)
        dim[i] = n->attr.perm.dim[i];
    print_list(out, "perm", dim, n->type.shape.rank);
}
static bool perm_parse(AttrText *t, Attr *a)
{
    int64_t dim[MAX_RANK] = { 0 };
    if (!parse_list(t, "perm", 0, MAX_RANK - 1, MAX_RANK, NULL, dim, &t->rank))
        return false;
    for (int i = 0; i < t->rank; i++)
        a->perm.dim[i] = (int8_t)dim[i];
    return true;
}
static void perm_words(const Attr *a, Words *w)
{
    for (int i = 0; i < MAX_RANK; i++)
        word(w, a->perm.dim[i]);
}

static void slice_print(const Node *n, Strbuf *out)
{
    const int rank = n->type.shape.rank;
    print_list(out, "lo", n->attr.slice.lo, rank);
    if (!all_are(n->attr.slice.step, rank, 1))
        print_list(out, "step", n->attr.slice.step, rank);
}
static bool slice_parse(AttrText *t, Attr *a)
{
    const int64_t one = 1;
    return parse_list(t, "lo", 0, INT64_MAX, MAX_RANK, NULL, a->slice.lo, &t->rank) &&
           parse_list(t, "step", INT64_MIN, INT64_MAX, MAX_RANK, &one, a->slice.step, &t->rank);
}
static void slice_words(const Attr *a, Words *w)
{
    words64(w, a->slice.lo, MAX_RANK);
    words64(w, a->slice.step, MAX_RANK);
}

static void pad_print(const Node *n, Strbuf *out)
{
    const int rank = n->type.shape.rank;
    const double zero = 0;
    print_list(out, "lo", n->attr.pad.lo, rank);
    print_list(out, "hi", n->attr.pad.hi, rank);
    if (!all_are(n->attr.pad.step, rank, 1))
        print_list(out, "step", n->attr.pad.step, rank);
    if (memcmp(&n->attr.pad.value, &zero, sizeof zero)) {
        strbuf_add(out, " value=");
        print_real(out, n->attr.pad.value);
    }
}
static bool pad_parse(AttrText *t, Attr *a)
{
    const int64_t one = 1;
    if (!parse_list(t, "lo", 0, INT64_MAX, MAX_RANK, NULL, a->pad.lo, &t->rank) ||
        !parse_list(t, "hi", 0, INT64_MAX, MAX_RANK, NULL, a->pad.hi, &t->rank) ||
        !parse_list(t, "step", 1, INT64_MAX, MAX_RANK, &one, a->pad.step, &t->rank))
        return false;
    const AttrField *f = find_field(t, "value");
    return !f || read_real(t, f, &a->pad.value);
}
static void pad_words(const Attr *a, Words *w)
{
    words64(w, a->pad.lo, MAX_RANK);
    words64(w, a->pad.hi, MAX_RANK);
    words64(w, a->pad.step, MAX_RANK);
    word_real(w, a->pad.value);
}

/* window and fold; a window's extents are its argument's, so only fold's are written */

static void window_print(const Node *n, Strbuf *out)
{
    const int count = n->attr.window.n;
    int64_t axis[3] = { 0 };
    for (int i = 0; i < count; i++)
        axis[i] = n->attr.window.axis[i];
    print_list(out, "axes", axis, count);
    print_list(out, "kernel", n->attr.window.kernel, count);
    if (!all_are(n->attr.window.stride, count, 1))
        print_list(out, "stride", n->attr.window.stride, count);
    if (!all_are(n->attr.window.dilation, count, 1))
        print_list(out, "dilation", n->attr.window.dilation, count);
    if (n->op == OP_fold)
        print_list(out, "extent", n->attr.window.extent, count);
}
static bool window_parse(AttrText *t, Attr *a)
{
    const int64_t one = 1, none = 0;
    int64_t axis[3] = { 0 };
    int n = -1;
    if (!parse_list(t, "axes", 0, MAX_RANK - 1, 3, NULL, axis, &n) ||
        !parse_list(t, "kernel", 1, INT64_MAX, 3, NULL, a->window.kernel, &n) ||
        !parse_list(t, "stride", 1, INT64_MAX, 3, &one, a->window.stride, &n) ||
        !parse_list(t, "dilation", 1, INT64_MAX, 3, &one, a->window.dilation, &n) ||
        !parse_list(t, "extent", 0, INT64_MAX, 3, &none, a->window.extent, &n))
        return false;
    a->window.n = (uint8_t)n;
    for (int i = 0; i < n; i++)
        a->window.axis[i] = (uint8_t)axis[i];
    return true;
}
static void window_words(const Attr *a, Words *w)
{
    word(w, a->window.n);
    words8(w, a->window.axis, 3);
    words64(w, a->window.kernel, 3);
    words64(w, a->window.stride, 3);
    words64(w, a->window.dilation, 3);
    words64(w, a->window.extent, 3);
}

/* scatter */

static void scatter_print(const Node *n, Strbuf *out)
{
    strbuf_printf(out, " axis=%d extent=%" PRId64, n->attr.scatter.axis, n->attr.scatter.extent);
}
static bool scatter_parse(AttrText *t, Attr *a)
{
    int64_t axis = 0;
    if (!parse_int(t, "axis", 0, MAX_RANK - 1, &axis) ||
        !parse_int(t, "extent", 0, INT64_MAX, &a->scatter.extent))
        return false;
    a->scatter.axis = (int8_t)axis;
    return true;
}
static void scatter_words(const Attr *a, Words *w)
{
    word(w, a->scatter.axis);
    word(w, a->scatter.extent);
}

/* contract: without over= it sums the plain matrix product's pair (1, 0) */

static void contract_print(const Node *n, Strbuf *out)
{
    const Attr *a = &n->attr;
    if (a->contract.nover != 1 || a->contract.over_a[0] != 1 || a->contract.over_b[0] != 0)
        print_pairs(out, "over", a->contract.over_a, a->contract.over_b, a->contract.nover);
    if (a->contract.nbatch)
        print_pairs(out, "batch", a->contract.batch_a, a->contract.batch_b, a->contract.nbatch);
}
static bool contract_parse(AttrText *t, Attr *a)
{
    a->contract.nover = 1;
    a->contract.over_a[0] = 1;
    return parse_pairs(t, "over", a->contract.over_a, a->contract.over_b, &a->contract.nover) &&
           parse_pairs(t, "batch", a->contract.batch_a, a->contract.batch_b, &a->contract.nbatch);
}
static void contract_words(const Attr *a, Words *w)
{
    word(w, a->contract.nover);
    word(w, a->contract.nbatch);
    words8(w, a->contract.over_a, 4);
    words8(w, a->contract.over_b, 4);
    words8(w, a->contract.batch_a, 4);
    words8(w, a->contract.batch_b, 4);
}

/* scan, fusion: what stands before the body */

static void scan_print(const Node *n, Strbuf *out)
{
    strbuf_printf(out, " carry=%u step=%u trip=%" PRId64, n->attr.scan.ncarry, n->attr.scan.nstep,
                  n->attr.scan.trip);
    if (n->attr.scan.reverse)
        strbuf_add(out, " reverse=1");
}
static bool scan_parse(AttrText *t, Attr *a)
{
    int64_t ncarry = 0, nstep = 0, reverse = 0;
    if (!parse_int(t, "carry", 0, UINT32_MAX, &ncarry) ||
        !parse_int(t, "step", 0, UINT32_MAX, &nstep) ||
        !parse_int(t, "trip", 0, INT64_MAX, &a->scan.trip))
        return false;
    for (int i = 0; i < t->n; i++)
        if (t->field[i].nkey == 7 && !memcmp(t->field[i].key, "reverse", 7) &&
            !parse_int(t, "reverse", 0, 1, &reverse))
            return false;
    a->scan.ncarry = (uint32_t)ncarry;
    a->scan.nstep = (uint32_t)nstep;
    a->scan.reverse = reverse;
    return true;
}
static void scan_words(const Attr *a, Words *w)
{
    word(w, a->scan.ncarry);
    word(w, a->scan.nstep);
    word(w, a->scan.trip);
    word(w, a->scan.reverse);
}

/* The kind is a span of the text and not NUL-terminated: the graph parser copies it. */
static void fusion_print(const Node *n, Strbuf *out)
{
    strbuf_printf(out, " kind=%s", n->attr.fusion.kind);
}
static bool fusion_parse(AttrText *t, Attr *a)
{
    const AttrField *f = find_field(t, "kind");
    if (!f || f->nvalue == 0)
        return refuse(t, f ? f->value : NULL, "wants kind=%s", "a name");
    a->fusion.kind = f->value;
    return true;
}

typedef struct AttrRow {
    void (*print)(const Node *n, Strbuf *out);
    bool (*parse)(AttrText *t, Attr *a);
    void (*words)(const Attr *a, Words *w);
} AttrRow;

static const AttrRow attr_rows[] = {
    [ATTR_none] = { none_print, none_parse, none_words },
    [ATTR_input] = { input_print, input_parse, input_words },
    [ATTR_fill] = { fill_print, fill_parse, fill_words },
    [ATTR_axis] = { axis_print, axis_parse, axis_words },
    [ATTR_perm] = { perm_print, perm_parse, perm_words },
    [ATTR_axes] = { axes_print, axes_parse, axes_words },
    [ATTR_slice] = { slice_print, slice_parse, slice_words },
    [ATTR_pad] = { pad_print, pad_parse, pad_words },
    [ATTR_window] = { window_print, window_parse, window_words },
    [ATTR_scatter] = { scatter_print, scatter_parse, scatter_words },
    [ATTR_contract] = { contract_print, contract_parse, contract_words },
    [ATTR_scan] = { scan_print, scan_parse, scan_words },
    [ATTR_fusion] = { fusion_print, fusion_parse, none_words },
    [ATTR_get] = { get_print, get_parse, get_words },
};

void attr_print(const Node *n, Strbuf *out)
{
    attr_rows[op_info[n->op].attr].print(n, out);
}

bool attr_parse(AttrKind kind, AttrText *t, Attr *out)
{
    memset(out, 0, sizeof *out);
    t->rank = -1;
    if (!attr_rows[kind].parse(t, out))
        return false;
    for (int i = 0; i < t->n; i++) {
        char key[40];
        snprintf(key, sizeof key, "%.*s", t->field[i].nkey, t->field[i].key);
        if (!t->field[i].used)
            return refuse(
                t, t->field[i].nkey ? t->field[i].key : t->field[i].value,
                t->field[i].nkey ? "unknown or repeated attribute %s=" : "unexpected value%s", key);
    }
    return true;
}

static const Graph *body_of(AttrKind kind, const Attr *a)
{
    return kind == ATTR_scan ? a->scan.body : kind == ATTR_fusion ? a->fusion.body : NULL;
}

bool attr_eq(AttrKind kind, const Attr *a, const Attr *b)
{
    Words x = { .n = 0 }, y = { .n = 0 };
    const Graph *body = body_of(kind, a), *other = body_of(kind, b);

    attr_rows[kind].words(a, &x);
    attr_rows[kind].words(b, &y);
    if (x.n != y.n || memcmp(x.at, y.at, sizeof *x.at * (size_t)x.n))
        return false;
    if (kind == ATTR_fusion && strcmp(a->fusion.kind, b->fusion.kind))
        return false;
    return body == other || (body && other && graph_eq(body, other));
}

/* Bodies hash by their ops alone: equal bodies hash equally, and others rarely do. */
uint64_t attr_hash(AttrKind kind, const Attr *a)
{
    Words w = { .n = 0 };
    const Graph *body = body_of(kind, a);

    attr_rows[kind].words(a, &w);
    uint64_t h = hash_bytes(w.at, sizeof *w.at * (size_t)w.n, (uint64_t)kind);
    for (Ref r = 1; body && r < body->nnode; r++)
        h = hash_bytes(&body->node[r].op, sizeof body->node[r].op, h);
    return h;
}

static void clear64(int64_t *x, int from, int to)
{
    for (int i = from; i < to; i++)
        x[i] = 0;
}

void attr_normalise(Node *n, const Type *arg0)
{
    Attr *a = &n->attr;
    const int rank = n->type.shape.rank;

    switch ((AttrKind)op_info[n->op].attr) {
    case ATTR_fill:
        if (isnan(a->fill.value))
            a->fill.value = __builtin_nan("");
        break;
    case ATTR_perm:
        for (int i = rank; i < MAX_RANK; i++)
            a->perm.dim[i] = 0;
        break;
    case ATTR_slice:
        clear64(a->slice.lo, rank, MAX_RANK);
        clear64(a->slice.step, rank, MAX_RANK);
        break;
    case ATTR_pad:
        clear64(a->pad.lo, rank, MAX_RANK);
        clear64(a->pad.hi, rank, MAX_RANK);
        clear64(a->pad.step, rank, MAX_RANK);
        if (isnan(a->pad.value))
            a->pad.value = __builtin_nan("");
        break;
    case ATTR_window:
        for (int i = 0; i < 3; i++) {
            const bool on = i < a->window.n;
            a->window.axis[i] = on ? a->window.axis[i] : 0;
            a->window.kernel[i] = on ? a->window.kernel[i] : 0;
            a->window.stride[i] = on ? a->window.stride[i] : 0;
            a->window.dilation[i] = on ? a->window.dilation[i] : 0;
            if (n->op == OP_window)
                a->window.extent[i] = on ? arg0->shape.dim[a->window.axis[i]] : 0;
            else
                a->window.extent[i] = on ? a->window.extent[i] : 0;
        }
        break;
    case ATTR_contract:
        for (int i = a->contract.nover; i < 4; i++)
            a->contract.over_a[i] = a->contract.over_b[i] = 0;
        for (int i = a->contract.nbatch; i < 4; i++)
            a->contract.batch_a[i] = a->contract.batch_b[i] = 0;
        break;
    default:
        break;
    }
}
