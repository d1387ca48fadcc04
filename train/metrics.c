/* SPDX-License-Identifier: Apache-2.0 */
#include "train/metrics.h"

#include <math.h>
#include <string.h>

typedef struct Column { /* Welford's running mean and squared deviation of the truth */
    int64_t n, nbase;
    double mean, m2, sse, sae, base_sse;
} Column;

struct MetricsSum {
    Arena *arena;
    int ntarget, nclass;
    Column *column;
    int64_t *confusion; /* [truth][predicted] */
    int64_t rows, loss_rows;
    double loss_sum;
};

MetricsSum *metrics_start(Arena *a, int ntarget, int nclass)
{
    MetricsSum *s = arena_alloc(a, sizeof *s);
    s->arena = a;
    s->ntarget = ntarget;
    s->nclass = nclass;
    s->column = arena_array(a, Column, ntarget + 1);
    s->confusion = arena_array(a, int64_t, (size_t)nclass * (size_t)nclass + 1);
    return s;
}

void metrics_add_loss(MetricsSum *s, double mean_loss, int rows)
{
    s->loss_sum += mean_loss * rows;
    s->loss_rows += rows;
}

void metrics_add_value(MetricsSum *s, int target, double truth, double predicted, double baseline)
{
    Column *c = &s->column[target];
    const double error = predicted - truth, before = truth - c->mean;
    c->n++;
    c->mean += before / (double)c->n;
    c->m2 += before * (truth - c->mean);
    c->sse += error * error;
    c->sae += fabs(error);
    if (!isnan(baseline)) {
        c->nbase++;
        c->base_sse += (baseline - truth) * (baseline - truth);
    }
}

void metrics_add_class(MetricsSum *s, int truth, int predicted)
{
    s->confusion[truth * s->nclass + predicted]++;
    s->rows++;
}

static double ratio(double num, double den)
{
    return den > 0 ? num / den : NAN;
}

static void finish_classes(const MetricsSum *s, Metrics *m)
{
    int64_t right = 0;
    int seen = 0;
    double f1 = 0;
    for (int k = 0; k < s->nclass; k++) {
        const int64_t hit = s->confusion[k * s->nclass + k];
        int64_t truths = 0, predicted = 0;
        for (int j = 0; j < s->nclass; j++) {
            truths += s->confusion[k * s->nclass + j];
            predicted += s->confusion[j * s->nclass + k];
        }
        right += hit;
        if (truths + predicted > 0) {
            seen++;
            f1 += 2.0 * (double)hit / (double)(truths + predicted);
        }
    }
    m->rows = s->rows;
    m->accuracy = ratio((double)right, (double)s->rows);
    m->macro_f1 = ratio(f1, seen);
}

Metrics metrics_finish(const MetricsSum *s)
{
    Metrics m = { .classification = s->nclass > 0, .baseline_rmse = NAN, .ntarget = s->ntarget };
    m.loss = ratio(s->loss_sum, (double)s->loss_rows);
    if (m.classification) {
        finish_classes(s, &m);
        return m;
    }
    Column all = { 0 };
    m.target_rmse = arena_array(s->arena, double, s->ntarget + 1);
    m.target_mae = arena_array(s->arena, double, s->ntarget + 1);
    for (int k = 0; k < s->ntarget; k++) {
        const Column *c = &s->column[k];
        all.n += c->n;
        all.nbase += c->nbase;
        all.sse += c->sse;
        all.sae += c->sae;
        all.m2 += c->m2;
        all.base_sse += c->base_sse;
        m.target_rmse[k] = sqrt(ratio(c->sse, (double)c->n));
        m.target_mae[k] = ratio(c->sae, (double)c->n);
    }
    m.rows = s->ntarget ? s->column[0].n : 0;
    m.rmse = sqrt(ratio(all.sse, (double)all.n));
    m.mae = ratio(all.sae, (double)all.n);
    m.r2 = all.m2 > 0 ? 1 - all.sse / all.m2 : NAN;
    m.baseline_rmse = sqrt(ratio(all.base_sse, (double)all.nbase));
    return m;
}

bool metrics_named(const Metrics *m, const char *name, double *value, bool *larger)
{
    const struct {
        const char *name;
        double value;
        bool larger, classes, values;
    } all[] = {
        { "loss", m->loss, false, true, true },
        { "rmse", m->rmse, false, false, true },
        { "mae", m->mae, false, false, true },
        { "r2", m->r2, true, false, true },
        { "accuracy", m->accuracy, true, true, false },
        { "macro_f1", m->macro_f1, true, true, false },
    };
    if (strncmp(name, "val_", 4) == 0)
        name += 4;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, name) == 0 &&
            (m->classification ? all[i].classes : all[i].values)) {
            *value = all[i].value;
            *larger = all[i].larger;
            return true;
        }
    return false;
}

void metrics_json_number(Strbuf *out, const char *key, double value)
{
    if (isfinite(value))
        strbuf_printf(out, "\"%s\":%.9g", key, value);
    else
        strbuf_printf(out, "\"%s\":null", key);
}

void metrics_json(const Metrics *m, Strbuf *out)
{
    metrics_json_number(out, "loss", m->loss);
    strbuf_putc(out, ',');
    if (m->classification) {
        metrics_json_number(out, "accuracy", m->accuracy);
        strbuf_putc(out, ',');
        metrics_json_number(out, "macro_f1", m->macro_f1);
        return;
    }
    metrics_json_number(out, "rmse", m->rmse);
    strbuf_putc(out, ',');
    metrics_json_number(out, "mae", m->mae);
    strbuf_putc(out, ',');
    metrics_json_number(out, "r2", m->r2);
    if (!isnan(m->baseline_rmse)) {
        strbuf_putc(out, ',');
        metrics_json_number(out, "baseline_rmse", m->baseline_rmse);
    }
    if (m->ntarget < 2)
        return;
    strbuf_add(out, ",\"rmse_each\":[");
    for (int k = 0; k < m->ntarget; k++)
        strbuf_printf(out, isfinite(m->target_rmse[k]) ? "%s%.9g" : "%snull", k ? "," : "",
                      m->target_rmse[k]);
    strbuf_putc(out, ']');
}

void metrics_text(const Metrics *m, Strbuf *out)
{
    strbuf_printf(out, "loss %.5g", m->loss);
    if (m->classification) {
        strbuf_printf(out, "  accuracy %.4f  macro_f1 %.4f", m->accuracy, m->macro_f1);
        return;
    }
    strbuf_printf(out, "  rmse %.5g  mae %.5g  r2 %.4f", m->rmse, m->mae, m->r2);
    if (!isnan(m->baseline_rmse))
        strbuf_printf(out, "  (persistence: rmse %.5g, ratio %.3f)", m->baseline_rmse,
                      ratio(m->rmse, m->baseline_rmse));
}
