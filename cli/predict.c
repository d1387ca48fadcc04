/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/work.h"
#include "ir/base/os.h"
#include "models/json.h"
#include "train/score.h"
#include "train/text.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* To a file, or to stdout when no file is named and stdout is not wanted for the object. */
static Status put(Cli *c, const Work *w, const char *name, const Strbuf *csv, Strbuf *output)
{
    const char *out = options_text(c->o, OPT_out, NULL);
    if ((!out && cli_talks(c)) || (out && strcmp(out, "-") == 0)) {
        strbuf_add(output, "-");
        if (fwrite(csv->s, 1, csv->n, stdout) != csv->n)
            return FAIL(&c->cx, IO, "cannot write to stdout");
        return ST_OK;
    }
    if (out)
        strbuf_add(output, out);
    else
        strbuf_printf(output, "%s/%s", strbuf_str(&w->dir), name);
    return os_write_file(&c->cx, strbuf_str(output), csv->s, csv->n);
}

static Status predict(Cli *c, Work *w, Strbuf *csv, Strbuf *output)
{
    Split split;
    int64_t rows;
    TRY(work_open_run(c, w, c->o->arg));
    TRY(work_choose_rows(c, w, &split));
    TRY(work_open_data(c, w));
    TRY(work_open_session(c, w, SESSION_PREDICT));
    TRY(bundle_weights(&c->cx, strbuf_str(&w->dir), options_flag(c->o, OPT_last),
                       w->session->store));
    cli_catch_signals();
    const ScoreStop stop = { cli_stop_asked, NULL };
    const double t0 = now();
    TRY(score_predict(&c->cx, w->session, w->data, split, stop, csv, &rows));
    const double seconds = now() - t0;
    if (rows == 0)
        return FAIL(&c->cx, DATA, "there are no rows to predict");
    TRY(put(c, w, "predict.csv", csv, output));
    log_say(&c->cx, LOG_INFO, "%lld rows in %.3g s (%.0f rows/s) to %s", (long long)rows, seconds,
            (double)rows / seconds, strbuf_str(output));
    strbuf_printf(&c->json, "{\"rows\":%lld,\"output\":", (long long)rows);
    json_print_string(strbuf_str(output), &c->json);
    strbuf_printf(&c->json, ",\"seconds\":%.6g,\"rows_per_s\":%.6g}", seconds,
                  (double)rows / seconds);
    return ST_OK;
}

/* One text at a time, and a window may end at any of its characters. */
static Status generate(Cli *c, Work *w, int64_t n, Strbuf *text, Strbuf *output)
{
    Split split;
    if (n < 1 || n > 100000000)
        return FAIL(&c->cx, USAGE, "--generate: wants 1 to 100000000 characters, got %lld",
                    (long long)n);
    TRY(work_open_run(c, w, c->o->arg));
    TRY(work_choose_rows(c, w, &split));
    w->model->data.stride = w->model->data.eval_stride = 1;
    w->model->train.batch_size = 1;
    TRY(work_open_data(c, w));
    TRY(work_open_session(c, w, SESSION_PREDICT));
    TRY(bundle_weights(&c->cx, strbuf_str(&w->dir), options_flag(c->o, OPT_last),
                       w->session->store));
    cli_catch_signals();
    const ScoreStop stop = { cli_stop_asked, NULL };
    const double t0 = now();
    TRY(text_generate(&c->cx, w->session, w->data, split, n, w->model->train.seed, stop, text));
    const double seconds = now() - t0;
    TRY(put(c, w, "generated.txt", text, output));
    strbuf_printf(&c->json, "{\"rows\":%lld,\"output\":", (long long)n);
    json_print_string(strbuf_str(output), &c->json);
    strbuf_printf(&c->json, ",\"seconds\":%.6g,\"rows_per_s\":%.6g}", seconds, (double)n / seconds);
    return ST_OK;
}

Status cli_predict(Cli *c)
{
    Work w = { 0 };
    Strbuf csv = { 0 }, output = { 0 };
    const int64_t n = options_int(c->o, OPT_generate, -1);
    const bool asked = options_text(c->o, OPT_generate, NULL) != NULL;
    const Status st = asked ? generate(c, &w, n, &csv, &output) : predict(c, &w, &csv, &output);
    strbuf_free(&csv);
    strbuf_free(&output);
    work_close(&w);
    return st;
}
