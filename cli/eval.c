/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/work.h"
#include "train/score.h"

static Status eval(Cli *c, Work *w)
{
    Split split;
    Metrics m;
    Strbuf text = { 0 };
    TRY(work_open_run(c, w, c->o->arg));
    TRY(work_choose_rows(c, w, &split));
    TRY(work_open_data(c, w));
    if (!data_has_targets(w->data))
        return FAIL(&c->cx, DATA, "the data have no target column: there is nothing to score");
    TRY(work_open_session(c, w, SESSION_EVAL));
    const char *dir = strbuf_str(&w->dir);
    TRY(bundle_weights(&c->cx, dir, options_flag(c->o, OPT_last), w->session->store));
    cli_catch_signals();
    const ScoreStop stop = { cli_stop_asked, NULL };
    TRY(score_split(&c->cx, w->session, w->data, split, stop, c->o->arena, &m, NULL));
    if (m.rows == 0)
        return FAIL(&c->cx, DATA, "there are no rows to score");
    if (cli_talks(c)) {
        metrics_text(&m, &text);
        printf("%lld rows: %s\n", (long long)m.rows, strbuf_str(&text));
        strbuf_free(&text);
    }
    strbuf_printf(&c->json, "{\"rows\":%lld,", (long long)m.rows);
    metrics_json(&m, &c->json);
    strbuf_putc(&c->json, '}');
    return ST_OK;
}

Status cli_eval(Cli *c)
{
    Work w = { 0 };
    const Status st = eval(c, &w);
    work_close(&w);
    return st;
}
