/* SPDX-License-Identifier: Apache-2.0 */
/* app: a program written down as C that needs no gtc.
 *
 *     Makefile      as gtc compiles, so that the bits are the same
 *     app.h         sizes, and what lies where
 *     steps.c       the steps in order, each a line: kernel, and addresses in one block of memory
 *     kernels       as gtc emit prints them, behind their prelude
 *     main.c        the same for every model: reads the data, runs steps, prints losses
 *     start.bin     the first bytes of memory: parameters and states
 *     batches.bin   batches, each as the bytes of all inputs
 *
 * The memory plan is gtc's own.  What gtc has in many blocks lies here in one: the store's tensors,
 * the batch, the rest; a step's pointers are looked up in that list.
 *
 * Names of layers and tensors are other people's text: they stand in comments only, with what could
 * end or open one, or end its line, made harmless. */
#include "runtime/app.h"

#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"
#include "ir/base/size.h"

enum { TENSOR_ALIGN = 256, BLOCK_ALIGN = 4096 };

/* ------------------------------------------------------------ where things are */

static int64_t part_add(AppWriter *w, const void *at, int64_t bytes, int64_t align)
{
    const int64_t offset = size_round_up(w->memory, align);
    w->part[w->npart++] = (AppPart){ at, bytes, offset };
    w->memory = size_add(offset, bytes);
    return offset;
}

static bool is_input(const GtcProgram *p, const void *at)
{
    for (int i = 0; i < gtc_program_input_count(p); i++)
        if (gtc_program_input(p, i).data == at)
            return true;
    return false;
}

static int by_address(const void *pa, const void *pb)
{
    const char *a = ((const AppPart *)pa)->at, *b = ((const AppPart *)pb)->at;
    return a < b ? -1 : a > b;
}

static void lay_out(AppWriter *w, GtcStore *s)
{
    const int nstore = gtc_store_count(s), nin = gtc_program_input_count(w->p);
    w->part = arena_array(w->arena, AppPart, nstore + w->view.nblock);
    for (int i = 0; i < nstore; i++) {
        const GtcTensor *t = gtc_store_at(s, i);
        part_add(w, t->data, type_bytes(&t->type), TENSOR_ALIGN);
    }
    w->start_bytes = w->memory;
    w->input_at = w->memory = size_round_up(w->memory, TENSOR_ALIGN);
    for (int i = 0; i < nin; i++) {
        const GtcTensor t = gtc_program_input(w->p, i);
        part_add(w, t.data, type_bytes(&t.type), TENSOR_ALIGN);
    }
    w->input_bytes = w->memory - w->input_at;
    for (int i = 0; i < w->view.nblock; i++) {
        const ProgramBlock *b = &w->view.block[i];
        if (!is_input(w->p, b->at))
            part_add(w, b->at, b->bytes, BLOCK_ALIGN);
    }
    w->memory = size_round_up(w->memory + 1, BLOCK_ALIGN);
    qsort(w->part, (size_t)w->npart, sizeof *w->part, by_address);
}

int64_t app_offset(const AppWriter *w, const void *p)
{
    const char *at = p;
    int lo = 0, hi = w->npart;
    while (hi - lo > 1) {
        const int mid = lo + (hi - lo) / 2;
        *(w->part[mid].at <= at ? &lo : &hi) = mid;
    }
    const AppPart *part = &w->part[lo];
    gtc_assert(at >= part->at && at <= part->at + part->bytes, "an address in no block");
    return part->offset + (at - part->at);
}

/* ------------------------------------------------------------ text that both kinds have */

/* Other people's text inside a comment, on its line. */
static void put_name(Strbuf *out, const char *s)
{
    strbuf_putc(out, '"');
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        const bool comment = (c == '*' && s[1] == '/') || (c == '/' && s[1] == '*');
        strbuf_putc(out, c < ' ' || c == 127 || c == '\\' || c == '?' || comment ? '.' : (char)c);
    }
    strbuf_putc(out, '"');
}

static void put_layers(const AppWriter *w, const char *ordinals, Strbuf *out)
{
    const char *lead = ", for ";
    while (*ordinals) {
        char *end;
        const long k = strtol(ordinals, &end, 10);
        if (end == ordinals)
            return;
        if (k >= 0 && k < w->app->nlayer) {
            strbuf_add(out, lead);
            put_name(out, w->app->layer[k]);
            lead = ", ";
        }
        ordinals = *end == ',' ? end + 1 : end;
    }
}

void app_put_step(const AppWriter *w, int i, Strbuf *out)
{
    const Step *s = &w->view.schedule->step[i];
    strbuf_printf(out, "\n    /* %d: ", i);
    if (s->kernel < 0) {
        strbuf_add(out, "a new value takes the old one's place");
    } else {
        strbuf_add(out, w->view.kernel[s->kernel].label);
        put_layers(w, gtc_program_kernel(w->p, s->kernel).layers, out);
    }
    strbuf_add(out, " */\n");
}

void app_put_args(const AppWriter *w, const Step *s, Strbuf *out)
{
    const uint32_t n = s->nin + s->nout + 2;
    for (uint32_t i = 0; i < n; i++) {
        const bool none = !s->arg[i] || (i >= n - 2 && s->bytes[i] == 0); /* no workspace */
        strbuf_printf(out, "%sm + %lld", i ? ", " : "",
                      none ? 0LL : (long long)app_offset(w, s->arg[i]));
    }
}

static void put_place(const AppWriter *w, const char *what, const GtcTensor *t, Strbuf *out)
{
    strbuf_printf(out, " * %10lld  %-9s %-16s ", (long long)app_offset(w, t->data), what,
                  type_str(&t->type));
    put_name(out, t->name);
    strbuf_putc(out, '\n');
}

static void put_places(const AppWriter *w, Strbuf *out)
{
    strbuf_add(out, "/* Of the memory, from its first byte:\n *\n");
    for (int i = 0; i < gtc_program_input_count(w->p); i++) {
        const GtcTensor t = gtc_program_input(w->p, i);
        put_place(w, "input", &t, out);
    }
    for (int i = 0; i < gtc_program_output_count(w->p); i++) {
        const GtcTensor t = gtc_program_output(w->p, i);
        if (t.data)
            put_place(w, "output", &t, out);
    }
    strbuf_add(out, " *\n * start.txt has the parameters and states. */\n");
}

void app_put_sizes(const AppWriter *w, Strbuf *out)
{
    strbuf_printf(
        out,
        "#define APP_MEMORY %lldLL      /* bytes */\n"
        "#define APP_START_BYTES %lldLL /* of start.bin, which goes to the first of them */\n"
        "#define APP_INPUT_AT %lldLL    /* where a batch goes */\n"
        "#define APP_INPUT_BYTES %lldLL /* its bytes */\n"
        "#define APP_BATCHES %d         /* of batches.bin */\n"
        "#define APP_LOSS_AT %lldLL     /* a float */\n\n",
        (long long)w->memory, (long long)w->start_bytes, (long long)w->input_at,
        (long long)w->input_bytes, w->app->batches, (long long)w->loss_at);
    put_places(w, out);
}

/* ------------------------------------------------------------ files */

static Status write_bytes(const AppWriter *w, const char *name, const void *bytes, size_t n)
{
    return os_write_file(w->cx, arena_printf(w->arena, "%s/%s", w->app->dir, name), bytes, n);
}

Status app_file(const AppWriter *w, const char *name, const char *text)
{
    return write_bytes(w, name, text, strlen(text));
}

static Status buffer(const AppWriter *w, int64_t bytes, char **out)
{
    *out = w->cx->os->alloc(bytes > 0 ? (size_t)bytes : 1);
    return *out ? ST_OK
                : FAIL(w->cx, MEMORY, "no memory for the app's data: %lld bytes", (long long)bytes);
}

static Status write_start(const AppWriter *w, GtcStore *s)
{
    char *bytes;
    Strbuf list = { 0 };
    TRY(buffer(w, w->start_bytes, &bytes));
    strbuf_add(&list, "offset bytes type name\n");
    for (int i = 0; i < gtc_store_count(s); i++) {
        const GtcTensor *t = gtc_store_at(s, i);
        const int64_t n = type_bytes(&t->type), at = app_offset(w, t->data);
        memcpy(bytes + at, t->data, (size_t)n);
        strbuf_printf(&list, "%lld %lld %s ", (long long)at, (long long)n, type_str(&t->type));
        put_name(&list, t->name);
        strbuf_putc(&list, '\n');
    }
    Status st = write_bytes(w, "start.bin", bytes, (size_t)w->start_bytes);
    if (st == ST_OK)
        st = app_file(w, "start.txt", strbuf_str(&list));
    w->cx->os->release(bytes);
    strbuf_free(&list);
    return st;
}

static Status take_batches(const AppWriter *w, char *bytes)
{
    for (int b = 0; b < w->app->batches; b++, bytes += w->input_bytes) {
        TRY(w->app->fill(w->cx, w->app->arg, b));
        for (int i = 0; i < gtc_program_input_count(w->p); i++) {
            const GtcTensor t = gtc_program_input(w->p, i);
            memcpy(bytes + app_offset(w, t.data) - w->input_at, t.data,
                   (size_t)type_bytes(&t.type));
        }
    }
    return ST_OK;
}

static Status write_batches(const AppWriter *w)
{
    const int64_t n = size_mul(w->input_bytes, w->app->batches);
    char *bytes;
    TRY(buffer(w, n, &bytes));
    Status st = take_batches(w, bytes);
    if (st == ST_OK)
        st = write_bytes(w, "batches.bin", bytes, (size_t)n);
    w->cx->os->release(bytes);
    return st;
}

/* ------------------------------------------------------------ the whole */

/* A kernel that only the evaluator takes has no text to write down. */
static Status find_kernels(AppWriter *w)
{
    w->kernel = arena_array(w->arena, const Kernel *, w->view.nkernel);
    for (int i = 0; i < w->view.nkernel; i++) {
        const Kernel *k = &w->view.kernel[i];
        int same = 0;
        if (!k->source[0])
            return FAIL(w->cx, VALUE, "%s has no text: gtc runs it in the evaluator", k->name);
        while (same < w->nkernel && strcmp(w->kernel[same]->name, k->name) != 0)
            same++;
        if (same == w->nkernel)
            w->kernel[w->nkernel++] = k;
    }
    return ST_OK;
}

static Status find_loss(AppWriter *w)
{
    const int i = gtc_program_find_output(w->p, "loss");
    const GtcTensor t = i < 0 ? (GtcTensor){ 0 } : gtc_program_output(w->p, i);
    if (!t.data || t.type.dt != DT_F32)
        return FAIL(w->cx, USAGE, "an app is a training step: this program has no loss");
    w->loss_at = app_offset(w, t.data);
    return ST_OK;
}

static Status write_all(AppWriter *w, GtcStore *s)
{
    TRY(find_kernels(w));
    lay_out(w, s);
    TRY(find_loss(w));
    TRY(os_make_dirs(w->cx, w->app->dir));
    TRY(w->view.d->target.smem_bytes > 0 ? app_write_cuda(w) : app_write_c(w));
    TRY(write_start(w, s));
    return write_batches(w);
}

Status gtc_program_write(Ctx *cx, GtcProgram *p, GtcStore *s, const GtcApp *app)
{
    AppWriter w = { .cx = cx, .arena = arena_new(), .p = p, .app = app, .view = program_view(p) };
    const bool text = w.view.d->ops->copy == NULL;
    const Status st = text && app->batches >= 1
                          ? write_all(&w, s)
                          : FAIL(cx, USAGE,
                                 "an app is written of a program of a device of text, "
                                 "with at least one batch");
    arena_free(w.arena);
    return st;
}
