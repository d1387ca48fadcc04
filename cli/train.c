/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/work.h"
#include "ir/base/os.h"
#include "train/loop.h"

/* On a terminal only: one line that is written over. */
static void progress(void *arg, const TrainProgress *p)
{
    enum { WIDTH = 30 };
    Cli *c = arg;
    char bar[WIDTH + 1];
    const int done = (int)(WIDTH * p->batch / (p->batches ? p->batches : 1));
    if (p->batch != p->batches && p->batch % (p->batches / 200 + 1))
        return;
    for (int i = 0; i < WIDTH; i++)
        bar[i] = i < done ? '#' : '.';
    bar[WIDTH] = '\0';
    fprintf(stderr, "\repoch %lld/%lld [%s] %lld/%lld  loss %.5g\033[K", (long long)p->epoch,
            (long long)p->epochs, bar, (long long)p->batch, (long long)p->batches, p->loss);
    c->bar = true;
}

/* The run that predict and eval take when none is named.  A run that cannot be remembered, in a
 * folder that one may only read, is as good as another. */
static void remember_run(Cli *c, const char *dir)
{
    const char *line = arena_printf(c->o->arena, "%s\n", dir);
    Status st = os_make_dirs(&c->cx, ".gtc");
    if (st == ST_OK)
        st = os_write_file(&c->cx, ".gtc/run", line, strlen(line));
    if (st == ST_OK)
        return;
    log_say(&c->cx, LOG_WARN, "%s; later verbs will want the name of this run", c->cx.msg);
    c->cx.code = ST_OK;
}

typedef struct Describe {
    Cli *c;
    const Work *w;
    const char *dir;
} Describe;

static Status describe(void *arg)
{
    const Describe *d = arg;
    const Work *w = d->w;
    TRY(bundle_write(&d->c->cx, d->dir, w->model, data_fit(w->data), &w->dirs,
                     w->opt.mode == GTC_EAGER ? "eager" : "default"));
    remember_run(d->c, d->dir);
    return ST_OK;
}

static void print_result(const TrainCall *call, const TrainResult *r)
{
    Strbuf text = { 0 };
    if (r->has_test)
        metrics_text(&r->test, &text);
    printf("%lld epochs (best %lld) in %.1f s", (long long)r->epochs_run, (long long)r->best_epoch,
           r->seconds);
    if (r->step_ms >= 0) /* no number where a resumed run had nothing left to do */
        printf(", %.3g ms a step", r->step_ms);
    putchar('\n');
    printf("test: %s\n", r->has_test ? strbuf_str(&text) : "no rows");
    printf("run: %s\n", call->dir);
    strbuf_free(&text);
}

static Status train(Cli *c, Work *w)
{
    const Options *o = c->o;
    const char *resume = options_text(o, OPT_resume, NULL);
    if (resume && !*resume && o->arg)
        resume = o->arg;
    else if (resume && o->arg)
        return FAIL(&c->cx, USAGE,
                    "gtc train: --resume=%s goes on with that run; what is '%s' for?", resume,
                    o->arg);
    if (resume && options_text(o, OPT_out, NULL) && o->set_by[OPT_out] == 2)
        return FAIL(&c->cx, USAGE,
                    "gtc train: --resume goes on in the run's own folder; drop --out");
    TRY(resume ? work_open_run(c, w, resume) : work_open_model(c, w, o->arg));
    TRY(work_open_data(c, w));
    TRY(work_open_session(c, w, SESSION_TRAIN | SESSION_EVAL));
    if (!resume)
        TRY(report_make_run(&c->cx, options_text(o, OPT_out, NULL), w->model->name,
                            options_text(o, OPT_run_suffix, NULL), &w->dir));
    const char *dir = strbuf_str(&w->dir);
    Describe bundle = { c, w, dir };
    cli_catch_signals();
    const TrainCall call = {
        .dir = dir,
        .resume = resume != NULL,
        .save_every_s = 60,
        .stop = { cli_stop_asked, NULL },
        .ready = describe,
        .ready_arg = &bundle,
        .progress = isatty(STDERR_FILENO) && !options_flag(o, OPT_quiet) ? progress : NULL,
        .progress_arg = c,
    };
    TrainResult result;
    TRY(train_run(&c->cx, w->session, w->data, &call, o->arena, &result));
    cli_bar_clear(c);
    if (cli_talks(c))
        print_result(&call, &result);
    train_json(w->session, &call, &result, &c->json);
    return ST_OK;
}

Status cli_train(Cli *c)
{
    Work w = { 0 };
    const Status st = train(c, &w);
    work_close(&w);
    return st;
}
