/* SPDX-License-Identifier: Apache-2.0 */
#include "train/report.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ir/base/os.h"

static bool has_run(Ctx *cx, const char *dir, struct stat *st)
{
    Strbuf path = { 0 };
    strbuf_printf(&path, "%s/model.json", dir);
    const bool yes = cx->os->stat(strbuf_str(&path), st) == 0;
    strbuf_free(&path);
    return yes;
}

/* What may stand in a folder's name; the rest becomes '_'. */
static void add_plain(Strbuf *b, const char *s)
{
    for (; *s; s++) {
        const char ch = *s;
        const bool plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                           (ch >= '0' && ch <= '9') || ch == '-' || ch == '.' || ch == '_';
        strbuf_putc(b, plain ? ch : '_');
    }
}

Status report_make_run(Ctx *cx, const char *out, const char *name, const char *suffix, Strbuf *dir)
{
    struct stat st;
    if (out) {
        if (has_run(cx, out, &st))
            return FAIL(cx, USAGE, "%s already holds a run: choose another --out, or --resume=%s",
                        out, out);
        strbuf_add(dir, out);
        return os_make_dirs(cx, out);
    }
    TRY(os_make_dirs(cx, "runs"));
    char when[32];
    const time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(when, sizeof when, "%Y%m%d-%H%M%S", &tm);
    strbuf_printf(dir, "runs/%s-", when);
    add_plain(dir, name);
    if (suffix) {
        strbuf_putc(dir, '-');
        add_plain(dir, suffix);
    }
    const size_t base = dir->n;
    for (int i = 2; cx->os->mkdir(strbuf_str(dir), 0777) != 0; i++) {
        if (errno != EEXIST || i > 1000)
            return FAIL(cx, IO, "cannot make %s: %s", strbuf_str(dir), strerror(errno));
        dir->s[base] = '\0';
        dir->n = base;
        strbuf_printf(dir, "-%d", i);
    }
    return ST_OK;
}

static bool newer(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec != b->st_mtim.tv_sec ? a->st_mtim.tv_sec > b->st_mtim.tv_sec
                                                  : a->st_mtim.tv_nsec > b->st_mtim.tv_nsec;
}

static bool named_run(Ctx *cx, Strbuf *dir)
{
    char *text;
    size_t n;
    struct stat st;
    if (cx->os->stat(".gtc/run", &st) != 0 || os_read_file(cx, ".gtc/run", &text, &n) != ST_OK)
        return false;
    text[strcspn(text, "\n")] = '\0';
    const bool yes = *text && has_run(cx, text, &st);
    if (yes)
        strbuf_add(dir, text);
    free(text);
    return yes;
}

Status report_newest_run(Ctx *cx, Strbuf *dir)
{
    if (named_run(cx, dir))
        return ST_OK;
    DIR *runs = opendir("runs");
    struct stat best = { 0 }, st;
    Strbuf path = { 0 };
    for (struct dirent *e; runs && (e = readdir(runs)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        strbuf_clear(&path);
        strbuf_printf(&path, "runs/%s", e->d_name);
        if (!has_run(cx, strbuf_str(&path), &st) || !newer(&st, &best))
            continue;
        best = st;
        strbuf_clear(dir);
        strbuf_add(dir, strbuf_str(&path));
    }
    if (runs)
        closedir(runs);
    strbuf_free(&path);
    if (dir->n == 0)
        return FAIL(cx, USAGE, "there is no run under runs/; gtc train makes one");
    return ST_OK;
}

struct ReportLog {
    int fd;
    int why; /* errno of the first line that could not be written */
    void (*next)(void *arg, LogLevel level, const char *text);
    void *next_arg;
    const Os *os;
};

static void write_line(ReportLog *l, LogLevel level, const char *text)
{
    char when[32];
    const time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    Strbuf line = { 0 };
    strbuf_printf(&line, "%s %s%s\n", when, level == LOG_WARN ? "warning: " : "", text);
    const char *s = strbuf_str(&line);
    for (size_t n = line.n; n && !l->why;) {
        const ssize_t put = l->os->write(l->fd, s, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            l->why = put < 0 ? errno : EIO;
            break;
        }
        s += put;
        n -= (size_t)put;
    }
    strbuf_free(&line);
}

void report_log_note(ReportLog *l, const char *text)
{
    write_line(l, LOG_INFO, text);
}

static void log_line(void *arg, LogLevel level, const char *text)
{
    ReportLog *l = arg;
    write_line(l, level, text);
    if (l->next)
        l->next(l->next_arg, level, text);
}

Status report_log_open(Ctx *cx, const char *dir, ReportLog **out)
{
    Strbuf path = { 0 };
    strbuf_printf(&path, "%s/training.log", dir);
    const int fd = cx->os->open(strbuf_str(&path), O_WRONLY | O_CREAT | O_APPEND, 0666);
    ReportLog *l = fd < 0 ? NULL : calloc(1, sizeof *l);
    Status st = ST_OK;
    if (fd < 0)
        st = FAIL(cx, IO, "cannot open %s: %s", strbuf_str(&path), strerror(errno));
    else if (!l) {
        cx->os->close(fd);
        st = FAIL(cx, MEMORY, "no memory for the log");
    }
    strbuf_free(&path);
    TRY(st);
    *l = (ReportLog){ .fd = fd, .next = cx->log, .next_arg = cx->log_arg, .os = cx->os };
    cx->log = log_line;
    cx->log_arg = l;
    *out = l;
    return ST_OK;
}

void report_log_close(Ctx *cx, ReportLog *l)
{
    cx->log = l->next;
    cx->log_arg = l->next_arg;
    cx->os->close(l->fd);
    if (l->why)
        log_say(cx, LOG_WARN, "training.log is not complete: %s", strerror(l->why));
    free(l);
}

static void metrics_header(Strbuf *b, const char *score_name)
{
    strbuf_printf(b,
                  "epoch,step,train_loss,val_loss,val_%s,lr,grad_norm,ms_per_batch,"
                  "samples_per_s,epoch_s,total_s,peak_bytes,gpu_percent,gpu_bytes,gpu_celsius,"
                  "gpu_watts,gpu_others\n",
                  score_name);
}

/* Lines of epochs that will be trained again go, and so does a last line that is cut short. */
static void metrics_keep(Strbuf *b, char *text, int64_t kept)
{
    for (char *line = strchr(text, '\n'); line && *++line;) {
        char *end = strchr(line, '\n');
        if (!end || strtoll(line, NULL, 10) > kept)
            return;
        strbuf_addn(b, line, (size_t)(end + 1 - line));
        line = end;
    }
}

Status report_metrics_start(Ctx *cx, const char *dir, int64_t kept, const char *score_name)
{
    Strbuf path = { 0 }, b = { 0 };
    struct stat st;
    char *old = NULL;
    size_t n;
    Status status = ST_OK;
    strbuf_printf(&path, "%s/metrics.csv", dir);
    if (kept > 0 && cx->os->stat(strbuf_str(&path), &st) == 0)
        status = os_read_file(cx, strbuf_str(&path), &old, &n);
    metrics_header(&b, score_name);
    if (old)
        metrics_keep(&b, old, kept);
    free(old);
    if (status == ST_OK)
        status = os_write_file(cx, strbuf_str(&path), b.s, b.n);
    strbuf_free(&b);
    strbuf_free(&path);
    return status;
}

static void put_cell(Strbuf *b, double v)
{
    strbuf_putc(b, ',');
    if (!isnan(v))
        strbuf_printf(b, "%.7g", v);
}

static void put_known(Strbuf *b, int64_t v)
{
    strbuf_putc(b, ',');
    if (v >= 0)
        strbuf_printf(b, "%lld", (long long)v);
}

static Status append(Ctx *cx, const char *path, const Strbuf *b)
{
    const int fd = cx->os->open(path, O_WRONLY | O_APPEND, 0666);
    if (fd < 0)
        return FAIL(cx, IO, "cannot open %s: %s", path, strerror(errno));
    int why = 0;
    for (size_t at = 0; at < b->n && !why;) {
        const ssize_t put = cx->os->write(fd, b->s + at, b->n - at);
        if (put > 0)
            at += (size_t)put;
        else if (put == 0 || errno != EINTR)
            why = put == 0 ? EIO : errno;
    }
    if (cx->os->close(fd) != 0 && !why)
        why = errno;
    return why ? FAIL(cx, IO, "cannot write %s: %s", path, strerror(why)) : ST_OK;
}

Status report_metrics_add(Ctx *cx, const char *dir, const EpochRow *r)
{
    Strbuf path = { 0 }, b = { 0 };
    strbuf_printf(&path, "%s/metrics.csv", dir);
    strbuf_printf(&b, "%lld,%lld", (long long)r->epoch, (long long)r->step);
    const double cells[] = { r->train_loss, r->val_loss,     r->val_score,     r->lr,
                             r->grad_norm,  r->ms_per_batch, r->samples_per_s, r->epoch_s,
                             r->total_s };
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        put_cell(&b, cells[i]);
    strbuf_printf(&b, ",%lld", (long long)r->peak_bytes);
    const GtcGpuLoad *g = &r->gpu;
    put_known(&b, g->percent);
    put_known(&b, g->bytes);
    put_cell(&b, g->celsius);
    put_cell(&b, g->watts);
    put_known(&b, g->others);
    strbuf_putc(&b, '\n');
    const Status st = append(cx, strbuf_str(&path), &b);
    strbuf_free(&b);
    strbuf_free(&path);
    return st;
}

/* What is known of a GPU. */
static void put_gpu(const GtcGpuLoad *g, Strbuf *out)
{
    if (g->percent < 0 && g->bytes < 0 && isnan(g->celsius) && isnan(g->watts) && g->others < 1)
        return;
    strbuf_add(out, "  gpu");
    if (g->percent >= 0)
        strbuf_printf(out, " %d %%", g->percent);
    if (g->bytes >= 0)
        strbuf_printf(out, " %.2f GiB", (double)g->bytes / (1 << 30));
    if (!isnan(g->celsius))
        strbuf_printf(out, " %.0f C", g->celsius);
    if (!isnan(g->watts))
        strbuf_printf(out, " %.0f W", g->watts);
    if (g->others > 0)
        strbuf_printf(out, ", %d other process%s on it", g->others, g->others == 1 ? "" : "es");
}

void report_epoch_text(const EpochRow *r, int64_t epochs, Strbuf *out)
{
    strbuf_printf(out, "epoch %lld/%lld  loss %.5g", (long long)r->epoch, (long long)epochs,
                  r->train_loss);
    if (!isnan(r->val_loss))
        strbuf_printf(out, "  val_loss %.5g  val_%s %.5g", r->val_loss, r->score_name,
                      r->val_score);
    strbuf_printf(out, "  grad_norm %.3g  lr %.3g  %.3g ms/batch  %.0f samples/s  %.1f s%s",
                  r->grad_norm, r->lr, r->ms_per_batch, r->samples_per_s, r->epoch_s,
                  r->best ? "  *" : "");
    put_gpu(&r->gpu, out);
}
