/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/work.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ir/base/os.h"
#include "models/json.h"
#include "train/report.h"

static void add_dir(Cli *c, Work *w, const char *dir)
{
    const char **at = arena_array(c->o->arena, const char *, w->dirs.n + 1);
    for (int i = 0; i < w->dirs.n; i++) {
        if (strcmp(w->dirs.at[i], dir) == 0)
            return;
        at[i] = w->dirs.at[i];
    }
    at[w->dirs.n++] = arena_strdup(c->o->arena, dir);
    w->dirs.at = at;
}

/* Absolute, so that a plan or a run can be used from another folder. */
static void add_real_dir(Cli *c, Work *w, const char *dir)
{
    char real[PATH_MAX];
    add_dir(c, w, realpath(dir, real) ? real : dir);
}

static Status open_options(Cli *c, Work *w, const char *mode)
{
    const Options *o = c->o;
    const int64_t ahead = options_int(o, OPT_ahead, 32);
    mode = options_text(o, OPT_mode, mode);
    if (ahead < 1 || ahead > 4096)
        return FAIL(&c->cx, USAGE, "--ahead: wants 1 to 4096, got %lld", (long long)ahead);
    if (strcmp(mode, "default") != 0 && strcmp(mode, "eager") != 0)
        return FAIL(&c->cx, USAGE, "--mode: wants default or eager, got '%s'", mode);
    static const char *const uses[] = { "auto", "all", "none" };
    const char *use = options_text(o, OPT_libraries, uses[0]);
    int libraries = 0;
    while (libraries < 3 && strcmp(use, uses[libraries]) != 0)
        libraries++;
    if (libraries == 3)
        return FAIL(&c->cx, USAGE, "--libraries: wants auto, all or none, got '%s'", use);
    w->opt = (GtcOptions){
        .libraries = (GtcLibraryUse)libraries,
        .mode = strcmp(mode, "eager") == 0 ? GTC_EAGER : GTC_DEFAULT,
        .passes = options_text(o, OPT_passes, NULL),
        .skip_passes = options_text(o, OPT_skip_passes, NULL),
        .verify = options_flag(o, OPT_verify),
        .no_cache = options_flag(o, OPT_no_cache),
        .depth = (int)ahead,
    };
    cli_pass_reports(c, &w->opt);
    return ST_OK;
}

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static const char *duration_text(Arena *a, double s)
{
    if (s < 120)
        return arena_printf(a, "%.0f seconds", s);
    if (s < 7200)
        return arena_printf(a, "%.0f minutes", s / 60);
    if (s < 172800)
        return arena_printf(a, "%.0f hours", s / 3600);
    return arena_printf(a, "%.0f days", s / 86400);
}

static Status newest_plan(Cli *c, const char **out)
{
    DIR *dir = opendir(".gtc");
    struct stat st, best = { 0 };
    *out = NULL;
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        if (!ends_with(e->d_name, ".plan.json"))
            continue;
        const char *path = arena_printf(c->o->arena, ".gtc/%s", e->d_name);
        if (c->cx.os->stat(path, &st) != 0)
            continue;
        const double newer = difftime(st.st_mtim.tv_sec, best.st_mtim.tv_sec);
        if (*out && (newer < 0 || (newer == 0 && st.st_mtim.tv_nsec <= best.st_mtim.tv_nsec)))
            continue;
        best = st;
        *out = path;
    }
    if (dir)
        closedir(dir);
    if (!*out)
        return FAIL(&c->cx, USAGE,
                    "there is no plan under .gtc/: name a model, or gtc compile MODEL.json first");
    const double age = difftime(time(NULL), best.st_mtim.tv_sec);
    log_say(&c->cx, LOG_INFO, "plan %s, %s old", *out,
            duration_text(c->o->arena, age < 0 ? 0 : age));
    return ST_OK;
}

static Status plan_strings(Cli *c, Work *w, const Json *root, const char **mode)
{
    const Json *m = json_member(root, "mode"), *dirs = json_member(root, "data_dirs");
    if (!m || m->kind != JSON_STRING || !dirs || dirs->kind != JSON_ARRAY)
        return json_fail(&c->cx, ST_DATA, root, NULL, "is no plan of gtc: compile the model again");
    *mode = m->string;
    for (const Json *d = dirs->first; d; d = d->next)
        if (d->kind == JSON_STRING)
            add_dir(c, w, d->string);
    return ST_OK;
}

static Status read_plan(Cli *c, Work *w, const char *path)
{
    char *text;
    size_t n;
    Json *root;
    const char *mode = "default";
    Strbuf config = { 0 };
    TRY(os_read_file(&c->cx, path, &text, &n));
    Status st = json_parse(&c->cx, c->o->arena, path, text, n, &root);
    const Json *model = st == ST_OK ? json_member(root, "config") : NULL;
    if (st == ST_OK && !model)
        st = json_fail(&c->cx, ST_DATA, root, NULL, "is no plan of gtc: compile the model again");
    if (st == ST_OK)
        st = plan_strings(c, w, root, &mode);
    if (st == ST_OK) {
        json_print(model, &config);
        st = model_parse(&c->cx, path, strbuf_str(&config), c->o->overrides.at, c->o->overrides.n,
                         &w->model);
    }
    if (st == ST_OK)
        st = open_options(c, w, mode);
    strbuf_free(&config);
    free(text);
    return st;
}

Status work_open_model(Cli *c, Work *w, const char *arg)
{
    for (int i = 0; i < c->o->data_dirs.n; i++)
        add_real_dir(c, w, c->o->data_dirs.at[i]);
    if (!arg)
        TRY(newest_plan(c, &arg));
    if (ends_with(arg, ".plan.json"))
        return read_plan(c, w, arg);
    TRY(model_load(&c->cx, arg, c->o->overrides.at, c->o->overrides.n, &w->model));
    add_real_dir(c, w, w->model->dir && *w->model->dir ? w->model->dir : ".");
    return open_options(c, w, "default");
}

Status work_open_run(Cli *c, Work *w, const char *arg)
{
    if (arg && *arg)
        strbuf_add(&w->dir, arg);
    else
        TRY(report_newest_run(&c->cx, &w->dir));
    while (w->dir.n > 1 && w->dir.s[w->dir.n - 1] == '/')
        w->dir.s[--w->dir.n] = '\0';
    if (!arg || !*arg)
        log_say(&c->cx, LOG_INFO, "run %s", strbuf_str(&w->dir));
    for (int i = 0; i < c->o->data_dirs.n; i++)
        add_real_dir(c, w, c->o->data_dirs.at[i]);
    TRY(bundle_read(&c->cx, strbuf_str(&w->dir), c->o->overrides.at, c->o->overrides.n,
                    &w->bundle));
    w->model = w->bundle->model;
    for (int i = 0; i < w->bundle->data_dirs.n; i++)
        add_dir(c, w, w->bundle->data_dirs.at[i]);
    add_real_dir(c, w, strbuf_str(&w->dir));
    return open_options(c, w, w->bundle->mode);
}

static void take_all_rows(DataConfig *d)
{
    d->split_by = SPLIT_CHRONOLOGICAL;
    d->split[SPLIT_TRAIN] = d->split[SPLIT_VAL] = 0;
    d->split[SPLIT_TEST] = 1;
    for (int s = 0; s < SPLIT_COUNT; s++)
        d->split_groups[s] = (StrList){ 0 };
    d->test_files = d->test_target_files = (StrList){ 0 };
}

Status work_choose_rows(Cli *c, Work *w, Split *split)
{
    static const char *const names[] = { "train", "val", "test" };
    const char *data = options_text(c->o, OPT_data, NULL);
    const char *name = options_text(c->o, OPT_split, data ? "all" : "test");
    DataConfig *d = &w->model->data;
    if (data) {
        if (d->format == DATA_RANDOM || d->target_files.n > 0)
            return FAIL(&c->cx, USAGE,
                        "--data: this model's samples come from arrays or numbers of its own; "
                        "use --set data.... instead");
        char real[PATH_MAX];
        const char **at = arena_array(c->o->arena, const char *, 1);
        at[0] = arena_strdup(c->o->arena, realpath(data, real) ? real : data);
        d->files = (StrList){ at, 1 };
        d->noise_files = (StrList){ 0 };
        d->test_files = d->test_target_files = (StrList){ 0 };
        d->future = c->o->verb == VERB_predict;
    }
    *split = SPLIT_TEST;
    if (strcmp(name, "all") == 0) {
        take_all_rows(d);
        return ST_OK;
    }
    for (int s = 0; s < SPLIT_COUNT; s++)
        if (strcmp(name, names[s]) == 0) {
            *split = (Split)s;
            return ST_OK;
        }
    return FAIL(&c->cx, USAGE, "--split: wants train, val, test or all, got '%s'", name);
}

Status work_open_data(Cli *c, Work *w)
{
    TRY(data_open(&c->cx, &w->model->data, w->dirs.at, w->dirs.n, w->model->train.seed,
                  w->bundle ? &w->bundle->fit : NULL, &w->data));
    w->shape = data_shape(w->data);
    return ST_OK;
}

Status work_open_shape(Cli *c, Work *w)
{
    w->shape = shape_read(c, work_plan_path(c, w), shape_stamp(c, w));
    return w->shape ? ST_OK : work_open_data(c, w);
}

Status work_device(Cli *c, GtcDevice **out)
{
    const int64_t threads = options_int(c->o, OPT_threads, 0), gpu = options_int(c->o, OPT_gpu_id, -1);
    const char *fraction = options_text(c->o, OPT_gpu_memory_fraction, NULL);
    GtcDeviceOptions opt = { .no_gpu = options_flag(c->o, OPT_no_gpu) };
    char *end = NULL;
    if (threads < 0 || threads > 4096)
        return FAIL(&c->cx, USAGE, "--threads: wants 0 (one a core) to 4096, got %lld",
                    (long long)threads);
    if (gpu < -1 || gpu > 1023)
        return FAIL(&c->cx, USAGE, "--gpu-id: wants 0 to 1023, got %lld", (long long)gpu);
    if (gpu >= 0 && opt.no_gpu)
        return FAIL(&c->cx, USAGE, "--gpu-id and --no-gpu contradict each other");
    if (fraction)
        opt.gpu_memory_fraction = strtod(fraction, &end);
    if (fraction && (end == fraction || *end || !(opt.gpu_memory_fraction > 0) ||
                     opt.gpu_memory_fraction > 1))
        return FAIL(&c->cx, USAGE,
                    "--gpu-memory-fraction: wants more than 0 and at most 1, got %.40s", fraction);
    opt.threads = (int)threads;
    opt.gpu_id = (int)gpu + 1;
    return gtc_device_open_with(&c->cx, options_text(c->o, OPT_device, "auto"), &opt, out);
}

Status work_open_device(Cli *c, Work *w)
{
    return work_device(c, &w->device);
}

static Status data_place(Cli *c, DataPlace *out)
{
    static const char *const name[] = { "auto", "device", "host" };
    const char *text = options_text(c->o, OPT_data_on, "auto");
    if (options_text(c->o, OPT_generate, NULL)) /* what it draws is in no file */
        text = "host";
    for (int i = 0; i < 3; i++)
        if (strcmp(text, name[i]) == 0) {
            *out = (DataPlace)i;
            return ST_OK;
        }
    return FAIL(&c->cx, USAGE, "--data-on: wants auto, device or host, got '%s'", text);
}

/* A GPU that nobody asked for and that does not take the model is left for the CPU. */
static Status leave_gpu(Cli *c, Work *w, unsigned kinds, DataPlace place)
{
    const int64_t threads = options_int(c->o, OPT_threads, 0);
    log_say(&c->cx, LOG_WARN, "%s; the run goes on on the CPU", c->cx.msg);
    c->cx.code = ST_OK;
    gtc_device_close(w->device);
    w->device = NULL;
    TRY(gtc_device_open(&c->cx, "cpu", (int)threads, &w->device));
    return session_open_fed(&c->cx, w->model, w->shape, w->device, &w->opt, kinds, place,
                            &w->session);
}

Status work_open_session(Cli *c, Work *w, unsigned kinds)
{
    DataPlace place = DATA_AUTO;
    TRY(data_place(c, &place));
    if (!w->device)
        TRY(work_open_device(c, w));
    const Status st = session_open_fed(&c->cx, w->model, w->shape, w->device, &w->opt, kinds,
                                       place, &w->session);
    if (st == ST_ENV && gtc_device_is_chosen(w->device))
        return leave_gpu(c, w, kinds, place);
    return st;
}

void work_close(Work *w)
{
    session_close(w->session);
    if (w->device)
        gtc_device_close(w->device);
    if (w->data)
        data_close(w->data);
    if (w->bundle)
        bundle_free(w->bundle);
    else if (w->model)
        model_free(w->model);
    strbuf_free(&w->dir);
}

const char *work_plan_path(Cli *c, const Work *w)
{
    const char *out = c->o->verb == VERB_compile ? options_text(c->o, OPT_out, NULL) : NULL;
    if (!out)
        return arena_printf(c->o->arena, ".gtc/%s.plan.json", w->model->name);
    return ends_with(out, ".plan.json") ? out : arena_printf(c->o->arena, "%s.plan.json", out);
}

Status work_write_plan(Cli *c, const Work *w)
{
    const char *path = work_plan_path(c, w);
    Strbuf text = { 0 };
    if (strncmp(path, ".gtc/", 5) == 0)
        TRY(os_make_dirs(&c->cx, ".gtc"));
    strbuf_printf(&text, "{\"gtc_plan\":1,\n\"mode\":\"%s\",\n\"data_dirs\":[",
                  w->opt.mode == GTC_EAGER ? "eager" : "default");
    for (int i = 0; i < w->dirs.n; i++) {
        if (i)
            strbuf_putc(&text, ',');
        json_print_string(w->dirs.at[i], &text);
    }
    strbuf_printf(&text, "],\n\"stamp\":\"%s\",\n\"shape\":", shape_stamp(c, w));
    shape_print(w->shape, &text);
    strbuf_printf(&text, ",\n\"config\":%s}\n", model_json(w->model));
    const Status st = os_write_file(&c->cx, path, text.s, text.n);
    strbuf_free(&text);
    return st;
}
