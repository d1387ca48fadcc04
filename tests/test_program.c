/* SPDX-License-Identifier: Apache-2.0 */
/* Programs from fused graphs and kernels written by hand: compiled, cached and interpreted runs
 * agree with what the graph says, on any number of threads; barriers stand where they must and only
 * there; states are replaced in place, by copy, and swapped; faults end in the interpreter. */
#include "runtime/program.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "ir/base/os.h"
#include "ir/text.h"

enum { N = 1000 };

static char heard[4096];
static char cache[64];

static void hear(void *arg, LogLevel level, const char *text)
{
    (void)arg, (void)level;
    snprintf(heard + strlen(heard), sizeof heard - strlen(heard), "%s\n", text);
}

static Ctx fresh(void)
{
    Ctx cx;
    ctx_init(&cx);
    cx.log = hear;
    heard[0] = '\0';
    return cx;
}

static int clear_cache(void **state)
{
    (void)state;
    Ctx cx = fresh();
    GtcCacheInfo info;
    setenv("GTC_CACHE_DIR", cache, 1);
    unsetenv("CC");
    return gtc_cache_clear(&cx, &info) != ST_OK;
}

/* One kernel a function of all threads: FOR runs over this thread's share of N. */
#define TYPE       "f32[1000]"
#define HEAD(name) "void " name "(void *const *arg, const gtc_team *team) {\n"
#define FOR                                                                                        \
    "  const long lo = 1000L * team->tid / team->nt, hi = 1000L * (team->tid + 1) / team->nt;\n"   \
    "  for (long i = lo; i < hi; i++)\n"
#define F(i) "((float *)arg[" #i "])[i]"

static const int32_t no_place[4] = { -1, -1, -1, -1 };

static Kernel kernel(const char *name, const char *source, uint32_t nin, uint32_t nout)
{
    return (Kernel){ .name = name,
                     .label = name,
                     .source = source,
                     .plan = "",
                     .planner = "hand",
                     .nin = nin,
                     .nout = nout,
                     .inplace = no_place };
}

typedef struct Fixture {
    Ctx cx;
    Arena *arena;
    GtcDevice *d;
    GtcStore *s;
    GtcProgram *p;
} Fixture;

static Fixture start(int threads)
{
    Fixture f = { .cx = fresh(), .arena = arena_new() };
    assert_int_equal(gtc_device_open(&f.cx, "cpu", threads, &f.d), ST_OK);
    assert_int_equal(gtc_device_threads(f.d), threads);
    assert_int_equal(gtc_store_create(&f.cx, f.d, &f.s), ST_OK);
    return f;
}

static void build(Fixture *f, const char *text, const Kernel *k, int n)
{
    Graph *g = NULL;
    const Status parsed = graph_parse(&f->cx, f->arena, "test", text, &g);
    if (parsed != ST_OK)
        fail_msg("%d: %s", f->cx.line, f->cx.msg);
    const Status s = program_create(&f->cx, f->d, f->s, g, k, n, &(GtcOptions){ 0 }, &f->p);
    if (s != ST_OK)
        fail_msg("%s", f->cx.msg);
}

static void stop(Fixture *f)
{
    gtc_program_destroy(f->p);
    gtc_store_destroy(f->s);
    gtc_device_close(f->d);
    arena_free(f->arena);
}

static float *stored(Fixture *f, const char *name)
{
    GtcTensor *t = gtc_store_find(f->s, name);
    assert_non_null(t);
    return t->data;
}

static float *input(Fixture *f, const char *name)
{
    const int i = gtc_program_find_input(f->p, name);
    assert_true(i >= 0);
    return gtc_program_input(f->p, i).data;
}

static float *output(Fixture *f, const char *name)
{
    const int i = gtc_program_find_output(f->p, name);
    assert_true(i >= 0);
    return gtc_program_output(f->p, i).data;
}

/* ------------------------------------------------------------ one training step, small */

static const char step_text[] =
    "graph (%x: " TYPE ", param %w: " TYPE ", state %a: " TYPE ", state %b: " TYPE ") {\n"
    "  %1 = fusion %x, %w kind=loop (%x: " TYPE ", %w: " TYPE ") {\n"
    "    %1 = mul %x, %w : " TYPE "  @dense.3\n"
    "    return %1\n"
    "  }\n"
    "  %y = get %1 index=0 : " TYPE "\n"
    "  %2 = fusion %y, %w kind=loop (%y: " TYPE ", %w: " TYPE ") {\n"
    "    %1 = sub %w, %y : " TYPE "  @dense.1\n"
    "    %2 = add %1, %y : " TYPE "  @dense.3.bwd\n"
    "    return %1, %2\n"
    "  }\n"
    "  %w2 = get %2 index=0 : " TYPE "\n"
    "  %t = get %2 index=1 : " TYPE "\n"
    "  return y: %y, %w := %w2, t: %t, %a := %b, again: %t, echo: %x, new: %w2\n"
    "}\n";
static const char mul_source[] = HEAD("mul_1") FOR "    " F(2) " = " F(0) " * " F(1) ";\n}\n";
static const char sub_source[] = HEAD("sub_1") FOR "    {\n    const float w = " F(1) " - " F(
    0) ";\n"
       "    " F(3) " = w + " F(0) ";\n    " F(2) " = w;\n    }\n}\n";

static void step_kernels(Kernel k[2])
{
    static const int32_t place[2] = { 1, -1 };
    k[0] = kernel("mul_1", mul_source, 2, 1);
    k[1] = kernel("sub_1", sub_source, 2, 2);
    k[1].inplace = place;
    k[1].private_bytes = 4096;
    k[1].shared_bytes = 128;
}

static void run_step(Fixture *f)
{
    float *x = input(f, "x"), *w = stored(f, "w"), *a = stored(f, "a"), *b = stored(f, "b");
    float want_w[N];
    for (int i = 0; i < N; i++) {
        x[i] = (float)(i % 7) * 0.125f;
        want_w[i] = w[i] = (float)i;
        a[i] = 1;
        b[i] = 2;
    }
    for (int run = 1; run <= 3; run++) {
        assert_int_equal(gtc_program_run(&f->cx, f->p), ST_OK);
        for (int i = 0; i < N; i++) {
            const float y = x[i] * want_w[i];
            want_w[i] -= y;
            assert_true(output(f, "y")[i] == y);
            assert_true(w[i] == want_w[i]);
            assert_true(output(f, "new")[i] == w[i]);
            assert_true(output(f, "t")[i] == w[i] + y);
            assert_true(output(f, "again")[i] == w[i] + y);
            assert_true(output(f, "echo")[i] == x[i]);
            assert_true(a[i] == 2 && b[i] == 2);
        }
    }
}

static void program_runs_compiled_and_cached(void **state)
{
    (void)state;
    Kernel k[2];
    step_kernels(k);
    for (int nt = 1; nt <= 3; nt++)
        for (int again = 0; again < 2; again++) {
            Fixture f = start(nt);
            build(&f, step_text, k, 2);
            run_step(&f);
            const GtcProgramInfo info = gtc_program_info(f.p);
            const bool cached = nt > 1 || again; /* the text does not know of threads */
            assert_int_equal(info.kernels, 2);
            assert_int_equal(info.compiled, cached ? 0 : 2);
            assert_int_equal(info.cached, cached ? 2 : 0);
            assert_int_equal(info.interpreted, 0);
            /* the second kernel, and then the copies: all that they read is theirs or done */
            assert_int_equal(program_barriers(f.p), nt == 1 ? 0 : 2);
            assert_int_equal(info.weight_bytes, 3 * 4 * N);
            assert_int_equal(info.peak_bytes,
                             info.arena_bytes + info.weight_bytes + info.workspace_bytes);
            assert_int_equal(info.workspace_bytes, 4096 * nt + 128);
            assert_int_equal(gtc_program_output_count(f.p), 7);
            assert_null(gtc_program_output(f.p, 1).data);
            assert_string_equal(gtc_program_output(f.p, 1).name, "w");
            assert_string_equal(gtc_program_kernel(f.p, 1).layers, "1,3");
            assert_string_equal(heard, "");
            double ms[2] = { -1, -1 };
            assert_int_equal(gtc_program_profile(&f.cx, f.p, 3, ms), ST_OK);
            assert_true(ms[0] > 0 && ms[1] > 0);
            stop(&f);
        }
}

static void program_runs_without_compiler(void **state)
{
    (void)state;
    Kernel k[2];
    step_kernels(k);
    setenv("CC", "/nonexistent", 1);
    for (int nt = 1; nt <= 2; nt++) {
        Fixture f = start(nt);
        build(&f, step_text, k, 2);
        run_step(&f);
        assert_int_equal(gtc_program_info(f.p).interpreted, 2);
        assert_true(gtc_program_kernel(f.p, 0).interpreted);
        assert_string_equal(
            heard, "CC=/nonexistent: not found; 2 kernels run in the interpreter, slowly\n");
        assert_non_null(strstr(gtc_device_describe(f.d), "CC=/nonexistent: not found"));
        stop(&f);
    }

    unsetenv("CC"); /* fill the cache */
    Fixture f = start(1);
    build(&f, step_text, k, 2);
    assert_int_equal(gtc_program_info(f.p).compiled, 2);
    stop(&f);
    setenv("CC", "/nonexistent", 1); /* what others compiled is good enough */
    f = start(2);
    build(&f, step_text, k, 2);
    run_step(&f);
    assert_int_equal(gtc_program_info(f.p).cached, 2);
    assert_string_equal(heard, "");
    stop(&f);
}

static void program_interprets_a_bad_kernel(void **state)
{
    (void)state;
    Kernel k[2];
    step_kernels(k);
    k[1].source = HEAD("sub_1") "this is not C\n";
    Fixture f = start(2);
    build(&f, step_text, k, 2);
    run_step(&f);
    assert_int_equal(gtc_program_info(f.p).compiled, 1);
    assert_int_equal(gtc_program_info(f.p).interpreted, 1);
    assert_non_null(strstr(heard, "sub_1: no C compiler makes a kernel of it"));
    assert_non_null(strstr(heard, "/log/sub_1.txt"));
    stop(&f);
}

static void program_reads_the_old_value_first(void **state)
{
    (void)state;
    /* w is read after its new value exists, so that the new one goes through a copy */
    static const char text[] = "graph (param %w: " TYPE ") {\n"
                               "  %1 = fusion %w kind=loop (%w: " TYPE ") {\n"
                               "    %1 = add %w, %w : " TYPE "\n"
                               "    return %1\n"
                               "  }\n"
                               "  %w2 = get %1 index=0 : " TYPE "\n"
                               "  %2 = fusion %w, %w2 kind=loop (%w: " TYPE ", %v: " TYPE ") {\n"
                               "    %1 = mul %w, %v : " TYPE "\n"
                               "    return %1\n"
                               "  }\n"
                               "  %y = get %2 index=0 : " TYPE "\n"
                               "  return %w := %w2, y: %y\n"
                               "}\n";
    static const int32_t place[1] = { 0 };
    Kernel k[2] = { kernel("dbl_1", HEAD("dbl_1") FOR F(1) " = 2 * " F(0) ";\n}\n", 1, 1),
                    kernel("mul_1", mul_source, 2, 1) };
    k[0].inplace = place;
    for (int serial = 0; serial < 2; serial++) {
        Fixture f = start(2);
        k[0].serial = k[1].serial = serial;
        build(&f, text, k, 2);
        for (int i = 0; i < N; i++)
            stored(&f, "w")[i] = (float)i;
        assert_int_equal(gtc_program_run(&f.cx, f.p), ST_OK);
        for (int i = 0; i < N; i++) {
            assert_true(output(&f, "y")[i] == 2.0f * (float)i * (float)i);
            assert_true(stored(&f, "w")[i] == 2.0f * (float)i);
        }
        /* two serial kernels need none between them; the shared copy after them does */
        assert_int_equal(program_barriers(f.p), serial ? 1 : 2);
        stop(&f);
    }
}

/* A long chain needs two buffers, however long; ends in an output. */
static void program_plans_a_chain(void **state)
{
    (void)state;
    enum { LENGTH = 12 };
    Kernel k[LENGTH];
    Strbuf s = { 0 };
    strbuf_add(&s, "graph (%x: " TYPE ") {\n");
    for (int i = 0; i < LENGTH; i++) {
        k[i] = kernel("dbl_1", HEAD("dbl_1") FOR F(1) " = 2 * " F(0) ";\n}\n", 1, 1);
        strbuf_printf(&s, "  %%f%d = fusion %%%c%.0d kind=loop (%%x: " TYPE ") {\n", i,
                      i ? 'v' : 'x', i);
        strbuf_add(&s, "    %1 = add %x, %x : " TYPE "\n    return %1\n  }\n");
        strbuf_printf(&s, "  %%v%d = get %%f%d index=0 : " TYPE "\n", i + 1, i);
    }
    strbuf_printf(&s, "  return y: %%v%d\n}\n", LENGTH);
    for (int nt = 1; nt <= 2; nt++) {
        Fixture f = start(nt);
        build(&f, strbuf_str(&s), k, LENGTH);
        for (int i = 0; i < N; i++)
            input(&f, "x")[i] = (float)i;
        for (int run = 0; run < 2; run++)
            assert_int_equal(gtc_program_run(&f.cx, f.p), ST_OK);
        for (int i = 0; i < N; i++)
            assert_true(output(&f, "y")[i] == (float)i * (1 << LENGTH));
        assert_int_equal(program_barriers(f.p), nt == 1 ? 0 : LENGTH - 1);
        const int64_t one = 4 * N, planned = (one + 63) / 64 * 64 + one;
        assert_int_equal(gtc_program_info(f.p).arena_bytes, 2 * one + (planned + 63) / 64 * 64);
        stop(&f);
    }
    strbuf_free(&s);
}

/* ------------------------------------------------------------ system calls that fail by number */

static _Atomic int calls;
static int fail_at;
static bool fail_once, spare_memory;

static bool fails(void)
{
    const int k = calls++;
    errno = ENOSPC;
    return fail_once ? k == fail_at : k >= fail_at;
}
static void *f_alloc(size_t n)
{
    return !spare_memory && fails() ? NULL : os_default()->alloc(n);
}
static int f_open(const char *path, int flags, int mode)
{
    return fails() ? -1 : os_default()->open(path, flags, mode);
}
static ssize_t f_read(int fd, void *b, size_t n)
{
    return fails() ? -1 : os_default()->read(fd, b, n);
}
static ssize_t f_write(int fd, const void *b, size_t n)
{
    return fails() ? -1 : os_default()->write(fd, b, n);
}
static int f_mkdir(const char *path, int mode)
{
    return fails() ? -1 : os_default()->mkdir(path, mode);
}
static int f_spawn(const char *const *argv, int fd)
{
    return fails() ? -1 : os_default()->spawn(argv, fd);
}
static void *f_dlopen(const char *path)
{
    return fails() ? NULL : os_default()->dlopen(path);
}
static void *f_dlsym(void *handle, const char *name)
{
    return fails() ? NULL : os_default()->dlsym(handle, name);
}

static Status whole_way(Fixture *f, const Os *os)
{
    Graph *g = NULL;
    Kernel k[2];
    step_kernels(k);
    *f = (Fixture){ .cx = fresh(), .arena = arena_new() };
    TRY(graph_parse(&f->cx, f->arena, "test", step_text, &g));
    f->cx.os = os;
    TRY(gtc_device_open(&f->cx, "cpu", 2, &f->d));
    TRY(gtc_store_create(&f->cx, f->d, &f->s));
    return program_create(&f->cx, f->d, f->s, g, k, 2, &(GtcOptions){ 0 }, &f->p);
}

/* Whatever fails, there is a right result or an error that says what is missing; no leak. */
static void program_survives_failing_calls(void **state)
{
    Os os = *os_default();
    os.alloc = f_alloc, os.open = f_open, os.read = f_read, os.write = f_write;
    os.mkdir = f_mkdir, os.spawn = f_spawn, os.dlopen = f_dlopen, os.dlsym = f_dlsym;
    int right = 0, refused = 0, interpreted = 0;
    for (int mode = 0; mode < 4; mode++) {
        const bool warm = mode < 2;
        bool more = true;
        for (int k = 0; more && k < 100; k += warm ? 1 : 3) {
            Fixture f;
            if (!warm)
                clear_cache(state);
            calls = 0;
            fail_at = k;
            fail_once = mode == 1 || mode == 2;
            spare_memory = mode == 3;
            const Status s = whole_way(&f, &os);
            more = calls > k;
            if (s == ST_OK) {
                right++;
                interpreted += gtc_program_info(f.p).interpreted > 0;
                run_step(&f);
            } else {
                refused++;
                assert_int_equal(s, ST_MEMORY);
                assert_true(strlen(f.cx.msg) > 10);
            }
            stop(&f);
        }
        assert_false(more);
    }
    printf("%d right (%d in the interpreter), %d refused\n", right, interpreted, refused);
    assert_true(right > 20 && refused > 10 && interpreted > 0);
}

static void *no_library(const char *path)
{
    (void)path;
    return NULL;
}

static void program_refuses(void **state)
{
    (void)state;
    Fixture f = start(1);
    Kernel k[2];
    Graph *g = NULL;
    void *t = NULL;
    GtcDevice *d = NULL;
    const Type other = { DT_F32, shape_of(1, (int64_t)3) };
    step_kernels(k);

    assert_int_equal(graph_parse(&f.cx, f.arena, "test", step_text, &g), ST_OK);
    assert_int_equal(program_create(&f.cx, f.d, f.s, g, k, 1, &(GtcOptions){ 0 }, &f.p), ST_INTERNAL);
    assert_null(f.p);
    gtc_store_destroy(f.s);
    assert_int_equal(gtc_store_create(&f.cx, f.d, &f.s), ST_OK);
    assert_int_equal(store_tensor(&f.cx, f.s, "w", INPUT_param, &other, &t), ST_OK);
    assert_int_equal(program_create(&f.cx, f.d, f.s, g, k, 2, &(GtcOptions){ 0 }, &f.p), ST_TYPE);
    assert_string_equal(f.cx.msg, "w is f32[3] in the store, the graph wants f32[1000]");

    assert_int_equal(gtc_device_open(&f.cx, "tpu", 0, &d), ST_USAGE);
    assert_int_equal(gtc_device_open(&f.cx, "cuda:x", 0, &d), ST_USAGE);
    assert_int_equal(gtc_device_open(&f.cx, "cuda:", 0, &d), ST_USAGE);
    assert_int_equal(gtc_device_open_with(&f.cx, "cuda:1", &(GtcDeviceOptions){ .gpu_id = 1 }, &d),
                     ST_USAGE);
    assert_int_equal(gtc_device_open_with(&f.cx, "cuda", &(GtcDeviceOptions){ .no_gpu = true }, &d),
                     ST_USAGE);
    Os os = *os_default();
    os.dlopen = no_library;
    f.cx.os = &os;
    assert_int_equal(gtc_device_open(&f.cx, "cuda", 0, &d), ST_ENV);
    assert_non_null(strstr(f.cx.msg, "libcuda.so.1 is nowhere"));
    assert_int_equal(gtc_device_open(&f.cx, "auto", 1, &d), ST_OK);
    assert_string_equal(gtc_device_name(d), "cpu");
    assert_non_null(strstr(gtc_device_describe(d), "; no GPU driver"));
    gtc_device_close(d);
    f.cx.os = os_default();
    gtc_device_close(NULL);
    gtc_program_destroy(NULL);
    gtc_store_destroy(NULL);
    stop(&f);
}

static int finish(void **state)
{
    clear_cache(state);
    const char *sub[] = { "tu", "cc", "log", "" };
    for (int i = 0; i < 4; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", cache, sub[i]);
        rmdir(path);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(program_runs_compiled_and_cached, clear_cache),
        cmocka_unit_test_setup(program_runs_without_compiler, clear_cache),
        cmocka_unit_test_setup(program_interprets_a_bad_kernel, clear_cache),
        cmocka_unit_test_setup(program_reads_the_old_value_first, clear_cache),
        cmocka_unit_test_setup(program_plans_a_chain, clear_cache),
        cmocka_unit_test_setup(program_survives_failing_calls, clear_cache),
        cmocka_unit_test_setup(program_refuses, clear_cache),
    };
    snprintf(cache, sizeof cache, "/tmp/gtc-program-test-%ld", (long)getpid());
    return cmocka_run_group_tests(tests, NULL, finish);
}
