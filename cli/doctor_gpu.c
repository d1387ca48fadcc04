/* SPDX-License-Identifier: Apache-2.0 */
/* doctor --test-gpu: may this GPU be trusted?
 *
 * Three questions, from small to large: does each intrinsic do what it says; does each kernel of a
 * small model with a layer of every kind give what the evaluator gives; and do five steps of its
 * training have the losses that they have on the CPU. */
#include <math.h>
#include <stdio.h>

#include "cli/work.h"
#include "models/json.h"
#include "train/loader.h"
#include "train/verify.h"

static const char model_text[] =
    "{ \"name\": \"doctor\", \"data\": { \"random\": { \"x\": [8, 4], \"y\": [1], \"rows\": 64 } "
    "},\n"
    "  \"layers\": [\n"
    "  { \"name\": \"conv\", \"type\": \"conv1d\", \"filters\": 6, \"kernel\": 3 },\n"
    "  { \"name\": \"norm\", \"type\": \"batch_norm\", \"activation\": \"relu\" },\n"
    "  { \"name\": \"drop\", \"type\": \"dropout\", \"rate\": 0.2 },\n"
    "  { \"name\": \"lstm\", \"type\": \"lstm\", \"units\": 8 },\n"
    "  { \"name\": \"gru\", \"type\": \"gru\", \"units\": 8 },\n"
    "  { \"name\": \"heads\", \"type\": \"multi_head_attention\", \"heads\": 2 },\n"
    "  { \"name\": \"layer\", \"type\": \"layer_norm\" },\n"
    "  { \"name\": \"pool\", \"type\": \"attention_pool\" },\n"
    "  { \"name\": \"y\", \"type\": \"dense\", \"units\": 1 } ],\n"
    "  \"loss\": { \"type\": \"mse\", \"prediction\": \"y\" },\n"
    "  \"optimizer\": { \"type\": \"adam\", \"learning_rate\": 0.01 },\n"
    "  \"train\": { \"clip_norm\": 1.0, \"seed\": 3, \"batch_size\": 16 } }\n";

enum { MOST = 48, STEPS = 5, VERIFIED_BATCH = 4, VERIFIED_STEPS = 3 };

static void put_check(Cli *c, const GtcCheck *k)
{
    const char *sep = c->json.n && c->json.s[c->json.n - 1] == '}' ? "," : "";
    strbuf_printf(&c->json, "%s{\"name\":", sep);
    json_print_string(k->name, &c->json);
    strbuf_printf(&c->json, ",\"ok\":%s,\"text\":", k->ok ? "true" : "false");
    json_print_string(k->text, &c->json);
    strbuf_putc(&c->json, '}');
    if (cli_talks(c))
        printf("%-6s    %s: %s\n", k->ok ? "right" : "WRONG", k->name, k->text);
}

static Status losses(Ctx *cx, const Model *m, const Data *data, GtcDevice *d, double loss[STEPS])
{
    const GtcOptions opt = { .mode = GTC_DEFAULT };
    Session *s = NULL;
    Loader *loader = NULL;
    void *const *x;
    GtcTensor out;
    int rows;
    Status st = session_open(cx, m, data_shape(data), d, &opt, SESSION_TRAIN, &s);
    if (st == ST_OK)
        st = session_init(cx, s);
    if (st == ST_OK)
        st = session_inputs(cx, s, BUILD_TRAIN, &x);
    if (st == ST_OK)
        st = loader_open(cx, data, SPLIT_TRAIN, m->train.batch_size, true, 1, &loader);
    for (int i = 0; st == ST_OK && i < STEPS; i++) {
        loader_start(loader, i); /* the first rows of each epoch's order */
        st = loader_next(cx, loader, x, session_input(s, BUILD_TRAIN, "y"), &rows);
        *(float *)session_input(s, BUILD_TRAIN, "lr") = 0.01f;
        int32_t *valid = session_input(s, BUILD_TRAIN, "rows");
        if (valid)
            *valid = rows;
        if (st == ST_OK)
            st = gtc_program_run(cx, s->program[BUILD_TRAIN]);
        if (st == ST_OK)
            loss[i] = (double)*(const float *)session_output(s, BUILD_TRAIN, "loss", &out)->data;
    }
    loader_close(loader);
    session_close(s);
    return st;
}

static Status check_losses(Cli *c, const Model *m, const Data *data, GtcDevice *d, GtcCheck *out)
{
    double there[STEPS], here[STEPS], worst = 0;
    GtcDevice *cpu;
    TRY(losses(&c->cx, m, data, d, there));
    TRY(gtc_device_open(&c->cx, "cpu", 0, &cpu));
    const Status st = losses(&c->cx, m, data, cpu, here);
    gtc_device_close(cpu);
    TRY(st);
    for (int i = 0; i < STEPS; i++)
        worst = fmax(worst, fabs(there[i] - here[i]) / fabs(here[i]));
    *out = (GtcCheck){ .name = "five steps", .ok = worst < 1e-4 };
    snprintf(out->text, sizeof out->text, "loss %.7g, on the CPU %.7g; at most %.1e apart",
             there[STEPS - 1], here[STEPS - 1], worst);
    return ST_OK;
}

static Status check_kernels(Cli *c, const Model *m, const Data *data, GtcDevice *d, GtcCheck *out)
{
    const GtcOptions opt = { .mode = GTC_DEFAULT };
    const VerifyWork work = { m, data_shape(data), d, &opt, VERIFIED_BATCH, VERIFIED_STEPS };
    VerifyReport r;
    TRY(verify_model(&c->cx, &work, &r));
    *out = (GtcCheck){ .name = "kernels", .ok = r.wrong == 0 };
    if (r.wrong)
        snprintf(out->text, sizeof out->text, "%.60s: %.120s", r.kernel, r.what);
    else
        snprintf(out->text, sizeof out->text,
                 "%lld kernels alone, %lld tensors, error %.2f of its "
                 "bound",
                 (long long)r.kernels, (long long)r.checked, r.worst);
    return ST_OK;
}

static Status check_model(Cli *c, GtcDevice *d, GtcCheck out[2])
{
    Model *m = NULL;
    Data *data = NULL;
    TRY(model_parse(&c->cx, "doctor", model_text, NULL, 0, &m));
    Status st = data_open(&c->cx, &m->data, NULL, 0, m->train.seed, NULL, &data);
    if (st == ST_OK)
        st = check_kernels(c, m, data, d, &out[0]);
    if (st == ST_OK)
        st = check_losses(c, m, data, d, &out[1]);
    if (data)
        data_close(data);
    model_free(m);
    return st;
}

Status doctor_gpu(Cli *c, GtcDevice *d, bool *ok)
{
    GtcCheck *check = arena_array(c->o->arena, GtcCheck, MOST);
    int n = 0;
    *ok = true;
    TRY(gtc_device_check(&c->cx, d, check, MOST - 2, &n));
    for (int i = 0; i < n; i++)
        *ok &= check[i].ok;
    if (*ok) { /* else a model says nothing new, and the device may be lost */
        TRY(check_model(c, d, check + n));
        *ok = check[n].ok && check[n + 1].ok;
        n += 2;
    }
    for (int i = 0; i < n; i++)
        put_check(c, &check[i]);
    return ST_OK;
}
