/* SPDX-License-Identifier: Apache-2.0 */
/* The fault table: a tiny training run in which the k-th call of one kind fails, once or from then
 * on, for every k and every kind that a run makes.  Whatever fails, the run ends with a Status
 * whose exit code says "environment" (or goes on where that is right), nothing leaks, and the
 * folder holds a whole checkpoint that is not older than the one it began with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ir/base/os.h"
#include "train/loop.h"

typedef enum Call {
    ALLOC,
    OPEN,
    READ,
    WRITE,
    FSYNC,
    CLOSE,
    RENAME,
    MKDIR,
    STAT,
    FSTAT,
    DLOPEN,
    CALLS
} Call;

static const char *const call_name[CALLS] = { "alloc",  "open",  "read", "write", "fsync", "close",
                                              "rename", "mkdir", "stat", "fstat", "dlopen" };

static struct Faults {
    int64_t count[CALLS]; /* calls made so far */
    Call call;
    int64_t at; /* 0: none */
    bool for_ever, short_io;
    enum { FAIL_IT, DIE_BEFORE, DIE_AFTER } how;
    int error;
} faults;

enum { DIED = 99 };

/* What a power cut leaves of a process: nothing is flushed, closed or cleaned up. */
static void done(Call call)
{
    if (faults.how == DIE_AFTER && call == faults.call && faults.count[call] == faults.at)
        _exit(DIED);
}

static bool fails(Call call)
{
    const int64_t k = ++faults.count[call];
    if (call == faults.call && k == faults.at && faults.how == DIE_BEFORE)
        _exit(DIED);
    if (faults.how != FAIL_IT)
        return false;
    if (call != faults.call || faults.at == 0 || (faults.for_ever ? k < faults.at : k != faults.at))
        return false;
    errno = faults.error;
    return true;
}

static void *f_alloc(size_t n)
{
    return fails(ALLOC) ? NULL : os_default()->alloc(n);
}
static int f_open(const char *path, int flags, int mode)
{
    if (fails(OPEN))
        return -1;
    const int rc = os_default()->open(path, flags, mode);
    done(OPEN);
    return rc;
}
static ssize_t f_read(int fd, void *buf, size_t n)
{
    if (fails(READ))
        return -1;
    return os_default()->read(fd, buf, faults.short_io && n > 1 ? n / 2 : n);
}
static ssize_t f_write(int fd, const void *buf, size_t n)
{
    if (fails(WRITE))
        return -1;
    const ssize_t rc = os_default()->write(fd, buf, faults.short_io && n > 1 ? n / 2 : n);
    done(WRITE);
    return rc;
}
static int f_fsync(int fd)
{
    if (fails(FSYNC))
        return -1;
    const int rc = os_default()->fsync(fd);
    done(FSYNC);
    return rc;
}
static int f_close(int fd)
{
    const int rc = os_default()->close(fd); /* a close that fails has closed all the same */
    return fails(CLOSE) ? -1 : rc;
}
static int f_rename(const char *from, const char *to)
{
    if (fails(RENAME))
        return -1;
    const int rc = os_default()->rename(from, to);
    done(RENAME);
    return rc;
}
static int f_mkdir(const char *path, int mode)
{
    return fails(MKDIR) ? -1 : os_default()->mkdir(path, mode);
}
static int f_stat(const char *path, struct stat *st)
{
    return fails(STAT) ? -1 : os_default()->stat(path, st);
}
static int f_fstat(int fd, struct stat *st)
{
    return fails(FSTAT) ? -1 : os_default()->fstat(fd, st);
}
static void *f_dlopen(const char *path)
{
    return fails(DLOPEN) ? NULL : os_default()->dlopen(path);
}

static Os faulty_os(void)
{
    Os os = *os_default();
    os.alloc = f_alloc;
    os.open = f_open;
    os.read = f_read;
    os.write = f_write;
    os.fsync = f_fsync;
    os.close = f_close;
    os.rename = f_rename;
    os.mkdir = f_mkdir;
    os.stat = f_stat;
    os.fstat = f_fstat;
    os.dlopen = f_dlopen;
    return os;
}

/* ---- the run ---- */

static const char model_text[] =
    "{ \"name\": \"tiny\", \"data\": { \"random\": { \"x\": [3], \"y\": [1], \"rows\": 40 } },"
    "  \"layers\": [ { \"name\": \"h\", \"type\": \"dense\", \"units\": 4 },"
    "               { \"name\": \"o\", \"type\": \"dense\", \"units\": 1 } ],"
    "  \"loss\": { \"type\": \"mse\" }, \"optimizer\": { \"type\": \"adam\" },"
    "  \"train\": { \"epochs\": 2, \"batch_size\": 16, \"seed\": 1 } }";

static char folder[] = "/tmp/gtc-faults-XXXXXX";
static char run_dir[64];

/* Device and programs: opened once, without faults, for all trials; test_compile opens its own. */
typedef struct Opened {
    Model *model;
    Data *data;
    GtcDevice *device;
    Session *session;
} Opened;
static Opened shared;

static Status open_session(Ctx *cx, Opened *o)
{
    const GtcOptions opt = { .mode = GTC_DEFAULT };
    TRY(model_parse(cx, "tiny.json", model_text, NULL, 0, &o->model));
    TRY(data_open(cx, &o->model->data, NULL, 0, 1, NULL, &o->data));
    TRY(gtc_device_open(cx, "cpu", 1, &o->device));
    return session_open(cx, o->model, data_shape(o->data), o->device, &opt,
                        SESSION_TRAIN | SESSION_EVAL, &o->session);
}

static void close_session(Opened *o)
{
    session_close(o->session);
    if (o->device)
        gtc_device_close(o->device);
    if (o->data)
        data_close(o->data);
    if (o->model)
        model_free(o->model);
}

static Status train_with(Ctx *cx, Data **data, Arena *arena, bool resume)
{
    const TrainCall call = { .dir = run_dir, .resume = resume };
    const StrList no_dirs = { 0 };
    TrainResult result;
    TRY(data_open(cx, &shared.model->data, NULL, 0, 1, NULL, data));
    TRY(os_make_dirs(cx, run_dir));
    TRY(bundle_write(cx, run_dir, shared.model, data_fit(*data), &no_dirs, "default"));
    return train_run(cx, shared.session, *data, &call, arena, &result);
}

static Status train_once(Ctx *cx, bool resume, int epochs)
{
    Arena *arena = arena_new();
    Data *data = NULL;
    shared.model->train.epochs = epochs;
    const Status st = train_with(cx, &data, arena, resume);
    if (data)
        data_close(data);
    arena_free(arena);
    return st;
}

/* ---- the folder before each trial: a run of one epoch ---- */

static const char *const file_name[] = { "model.json",       "fit.json",     "last.safetensors",
                                         "best.safetensors", "metrics.csv",  "previous.safetensors",
                                         "new.safetensors",  "training.log", "predictions.csv",
                                         "result.json" };
enum { FILES = sizeof file_name / sizeof *file_name };
static char *file_data[FILES];
static size_t file_size[FILES];

static const char *file_path(int i)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", run_dir, file_name[i]);
    return path;
}

static void remember_files(void)
{
    Ctx cx;
    ctx_init(&cx);
    for (int i = 0; i < FILES; i++)
        if (access(file_path(i), R_OK) == 0)
            assert_int_equal(os_read_file(&cx, file_path(i), &file_data[i], &file_size[i]), ST_OK);
}

/* Temporary files of a trial that could not even unlink are swept too. */
static void restore_files(bool empty)
{
    for (int i = 0; i < FILES; i++) {
        unlink(file_path(i));
        if (empty || !file_data[i])
            continue;
        FILE *f = fopen(file_path(i), "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(file_data[i], 1, file_size[i], f), file_size[i]);
        fclose(f);
    }
}

static int64_t steps_of(Ctx *cx, Status *st)
{
    Checkpoint *c = NULL;
    *st = bundle_resume(cx, run_dir, &c);
    const int64_t n = *st == ST_OK ? strtoll(checkpoint_get(c, "train.step"), NULL, 10) : -1;
    checkpoint_free(c);
    return n;
}

/* One trial; *reached: the call was made. */
static void trial(bool resume, bool *reached, int64_t *ended)
{
    const Os os = faulty_os();
    Ctx cx, clean;
    ctx_init(&cx);
    ctx_init(&clean);
    cx.os = &os;
    restore_files(!resume);
    memset(faults.count, 0, sizeof faults.count);
    const Status st = train_once(&cx, resume, 2);
    *reached = faults.at > 0 && faults.count[faults.call] >= faults.at;
    *ended += st != ST_OK;
    if (st != ST_OK && (status_exit_code(st) != 4 || !cx.msg[0] || strchr(cx.msg, '\n')))
        fail_msg("%s %s %lld%s (%s): status %d: %s", resume ? "resume" : "run",
                 call_name[faults.call], (long long)faults.at, faults.for_ever ? " on" : "",
                 strerror(faults.error), (int)st, cx.msg);
    faults.at = 0;
    Status whole;
    const int64_t steps = steps_of(&clean, &whole);
    if (resume && (whole != ST_OK || steps < 2))
        fail_msg("%s %lld%s (%s): the checkpoint is lost: %s", call_name[faults.call],
                 (long long)faults.at, faults.for_ever ? " on" : "", strerror(faults.error),
                 clean.msg);
    if (st == ST_OK && steps != 4)
        fail_msg("%s: a run that went well ends at step %lld", call_name[faults.call],
                 (long long)steps);
}

static void every_call(bool resume)
{
    static const int errors[CALLS][2] = {
        [ALLOC] = { ENOMEM, 0 },   [OPEN] = { EACCES, EMFILE }, [READ] = { EIO, 0 },
        [WRITE] = { ENOSPC, EIO }, [FSYNC] = { EIO, ENOSPC },   [CLOSE] = { EIO, 0 },
        [RENAME] = { EACCES, 0 },  [MKDIR] = { EROFS, 0 },      [STAT] = { EACCES, 0 },
        [FSTAT] = { EIO, 0 },      [DLOPEN] = { ENOENT, 0 }
    };
    const int most = getenv("GTC_FAULTS") ? 2 : 1; /* set: a second reason for each call */
    int64_t trials = 0, ended = 0;
    for (int call = 0; call < CALLS; call++)
        for (int e = 0; e < most && errors[call][e]; e++)
            for (int for_ever = 0; for_ever < 2; for_ever++) {
                bool reached = true;
                for (int64_t k = 1; reached; k++, trials++) {
                    faults = (struct Faults){
                        .call = (Call)call, .at = k, .for_ever = for_ever, .error = errors[call][e]
                    };
                    trial(resume, &reached, &ended);
                }
            }
    print_message("%lld trials, %lld ended the run\n", (long long)trials, (long long)ended);
    assert_true(ended > 20);
}

static void test_resume(void **state)
{
    (void)state;
    every_call(true);
}

static void test_fresh_run(void **state)
{
    (void)state;
    every_call(false);
}

/* What is no fault: a write that takes half, a call that a signal interrupts. */
static void test_no_faults(void **state)
{
    (void)state;
    static const struct {
        Call call;
        int64_t at;
        bool short_io;
    } cases[] = { { READ, 0, true },
                  { READ, 1, true },
                  { READ, 2, false },
                  { WRITE, 1, false },
                  { WRITE, 3, true } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int resume = 0; resume < 2; resume++) {
            bool reached;
            int64_t ended = 0;
            faults = (struct Faults){ .call = cases[i].call,
                                      .at = cases[i].at,
                                      .error = EINTR,
                                      .short_io = cases[i].short_io };
            trial(resume, &reached, &ended);
            assert_int_equal(ended, 0);
        }
}

/* Killed before and after each call of a run that writes: a resume, without faults, ends with the
 * very bytes of a run that was not disturbed. */
static void test_killed(void **state)
{
    (void)state;
    static const Call calls[] = { OPEN, WRITE, FSYNC, RENAME };
    const Os os = faulty_os();
    Ctx clean;
    ctx_init(&clean);
    restore_files(false);
    assert_int_equal(train_once(&clean, true, 2), ST_OK);
    char *want, *got;
    size_t nwant, ngot;
    Checkpoint *a, *b;
    assert_int_equal(os_read_file(&clean, file_path(2), &want, &nwant), ST_OK);
    assert_int_equal(checkpoint_parse(&clean, "want", want, nwant, &a), ST_OK);
    int64_t trials = 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (int how = DIE_BEFORE; how <= DIE_AFTER; how++)
            for (int64_t k = 1;; k++, trials++) {
                restore_files(false);
                const pid_t child = fork();
                assert_true(child >= 0);
                if (child == 0) {
                    Ctx cx;
                    ctx_init(&cx);
                    cx.os = &os;
                    faults = (struct Faults){ .call = calls[i], .at = k, .how = how };
                    _exit(train_once(&cx, true, 2) == ST_OK ? 0 : 1);
                }
                int status;
                assert_int_equal(waitpid(child, &status, 0), child);
                assert_true(WIFEXITED(status));
                if (WEXITSTATUS(status) == 0)
                    break;
                assert_int_equal(WEXITSTATUS(status), DIED);
                if (train_once(&clean, true, 2) != ST_OK)
                    fail_msg("%s %lld, %s: %s", call_name[calls[i]], (long long)k,
                             how == DIE_BEFORE ? "before" : "after", clean.msg);
                assert_int_equal(os_read_file(&clean, file_path(2), &got, &ngot), ST_OK);
                assert_int_equal(checkpoint_parse(&clean, "got", got, ngot, &b), ST_OK);
                for (int t = 0; t < a->ntensor; t++)
                    assert_memory_equal(a->tensor[t].data, b->tensor[t].data,
                                        (size_t)type_bytes(&a->tensor[t].type));
                checkpoint_free(b);
                free(got);
            }
    checkpoint_free(a);
    free(want);
    print_message("killed %lld times\n", (long long)trials);
    assert_true(trials > 20);
}

/* Compiling, with the cache full and with nothing of it readable.  Slow (each trial that the cache
 * cannot help runs the C compiler), so only a few calls of each kind unless GTC_FAULTS is set. */
static void test_compile(void **state)
{
    (void)state;
    static const Call calls[] = { ALLOC, OPEN, READ, STAT, DLOPEN };
    const int64_t most = getenv("GTC_FAULTS") ? 1000 : 3;
    const Os os = faulty_os();
    int64_t trials = 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (int64_t k = 1; k <= most; k++, trials++) {
            Ctx cx;
            Opened o = { 0 };
            ctx_init(&cx);
            cx.os = &os;
            faults = (struct Faults){ .call = calls[i], .at = k, .error = EIO };
            const Status st = open_session(&cx, &o);
            const bool reached = faults.count[calls[i]] >= k;
            close_session(&o);
            if (st != ST_OK && (status_exit_code(st) != 4 || !cx.msg[0]))
                fail_msg("compile: %s %lld: status %d: %s", call_name[calls[i]], (long long)k,
                         (int)st, cx.msg);
            if (!reached)
                break;
        }
    print_message("%lld trials\n", (long long)trials);
}

static int set_up(void **state)
{
    (void)state;
    Ctx cx;
    ctx_init(&cx);
    char cache[64];
    if (!mkdtemp(folder))
        return -1;
    snprintf(cache, sizeof cache, "%s/cache", folder);
    snprintf(run_dir, sizeof run_dir, "%s/run", folder);
    setenv("GTC_CACHE_DIR", cache, 1);
    if (open_session(&cx, &shared) != ST_OK || train_once(&cx, false, 1) != ST_OK) {
        fprintf(stderr, "%s\n", cx.msg);
        return -1;
    }
    remember_files();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < FILES; i++)
        free(file_data[i]);
    close_session(&shared);
    const char *const argv[] = { "rm", "-rf", folder, NULL };
    return os_default()->spawn(argv, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_no_faults),
                                        cmocka_unit_test(test_resume),
                                        cmocka_unit_test(test_fresh_run),
                                        cmocka_unit_test(test_killed),
                                        cmocka_unit_test(test_compile) };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
