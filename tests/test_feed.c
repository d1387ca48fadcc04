/* SPDX-License-Identifier: Apache-2.0 */
/* Batches that the device makes of tables have the very bits of those that data_fetch makes: of
 * every kind of data, on the CPU and in a GPU's place.  And two graphs that do not fit are not
 * joined. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/strbuf.h"
#include "ir/build.h"
#include "tests/data_folder.h"
#include "train/feed.h"
#include "train/loader.h"

enum { BATCH = 5, MOST_INPUTS = 4 };

#define OK(f, call)                                                                                \
    do {                                                                                           \
        if ((call) != ST_OK)                                                                       \
            fail_msg("%s", (f)->cx.msg);                                                           \
    } while (0)

static Shape batched(Shape row)
{
    Shape s = { .rank = (int8_t)(row.rank + 1), .dim = { BATCH } };
    memcpy(s.dim + 1, row.dim, sizeof s.dim - sizeof s.dim[0]);
    return s;
}

/* Batch inputs that are outputs as they stand. */
static Graph *echo_graph(Folder *f, Arena *arena, const DataShape *s)
{
    Graph *g = graph_new(arena);
    Builder b = build_start(&f->cx, g);
    Ref in[MOST_INPUTS + 1];
    for (int i = 0; i < s->ninput; i++)
        in[i] = build_input(&b, INPUT_batch, s->input[i].name, i == 0 && s->words ? DT_I32 : DT_F32,
                            batched(s->input[i].shape));
    in[s->ninput] =
        build_input(&b, INPUT_batch, "y", s->classification ? DT_I32 : DT_F32, batched(s->target));
    for (int i = 0; i <= s->ninput; i++)
        build_output(&b, in[i], arena_printf(arena, "out%d", i));
    OK(f, b.status);
    return g;
}

typedef struct Echo {
    GtcDevice *d;
    GtcStore *s;
    GtcProgram *p;
} Echo;

static void echo_open(Folder *f, const char *device, const Data *data, Echo *e)
{
    Arena *arena = arena_new();
    const DataShape *s = data_shape(data);
    Graph *g = echo_graph(f, arena, s), *feed;
    OK(f, gtc_device_open(&f->cx, device, 2, &e->d));
    OK(f, gtc_store_create(&f->cx, e->d, &e->s));
    OK(f, feed_tables(&f->cx, s, true, e->s));
    OK(f, feed_graph(&f->cx, s, g, BATCH, arena, &feed));
    const GtcOptions opt = { .mode = GTC_DEFAULT, .feed = feed, .verify = true };
    OK(f, gtc_compile(&f->cx, e->d, e->s, g, &opt, &e->p));
    OK(f, feed_write(&f->cx, data, true, e->s));
    assert_int_equal(gtc_program_info(e->p).kernels, 1);
    assert_true(gtc_program_info(e->p).data_bytes == feed_bytes(s));
    assert_int_equal(gtc_store_count(e->s), 0);
    arena_free(arena);
}

static void echo_close(Echo *e)
{
    gtc_program_destroy(e->p);
    gtc_store_destroy(e->s);
    gtc_device_close(e->d);
}

static int64_t bytes_of(const Shape *s)
{
    return 4 * BATCH * shape_count(s);
}

static void same(const Echo *e, int i, const void *want, const Shape *s)
{
    const GtcTensor t = gtc_program_output(e->p, i);
    assert_int_equal(type_bytes(&t.type), bytes_of(s));
    assert_memory_equal(t.data, want, (size_t)bytes_of(s));
}

/* Every sample of a split, in a shuffled order. */
static int64_t compare_split(Folder *f, const Echo *e, const Data *d, Split split)
{
    const DataShape *s = data_shape(d);
    void *x[MOST_INPUTS], *y = malloc((size_t)bytes_of(&s->target) + 1);
    int32_t *at = gtc_program_input(e->p, gtc_program_find_input(e->p, FEED_AT)).data;
    Loader *l;
    int64_t done = 0;
    int rows;
    for (int i = 0; i < s->ninput; i++)
        x[i] = malloc((size_t)bytes_of(&s->input[i].shape));
    OK(f, loader_open(&f->cx, d, split, BATCH, true, 3, &l));
    for (;; done += rows) {
        OK(f, loader_next(&f->cx, l, x, y, &rows));
        if (rows == 0)
            break;
        OK(f, data_locate(&f->cx, d, split, loader_index(l), BATCH, at));
        OK(f, gtc_program_run(&f->cx, e->p));
        for (int i = 0; i < s->ninput; i++)
            same(e, i, x[i], &s->input[i].shape);
        same(e, s->ninput, y, &s->target);
    }
    loader_close(l);
    for (int i = 0; i < s->ninput; i++)
        free(x[i]);
    free(y);
    return done;
}

static void compare(Folder *f, const DataConfig *cfg)
{
    static const char *const device[] = { "cpu", "simt" };
    Data *d = folder_open(f, cfg, NULL);
    const DataShape *s = data_shape(d);
    assert_null(s->rows.why);
    assert_true(s->rows.n > 0 && s->ninput <= MOST_INPUTS);
    for (int i = 0; i < 2; i++) {
        Echo e = { 0 };
        int64_t done = 0;
        echo_open(f, device[i], d, &e);
        for (int k = 0; k < SPLIT_COUNT; k++) {
            const int64_t n = compare_split(f, &e, d, (Split)k);
            assert_true(n == data_rows(d, (Split)k));
            done += n;
        }
        assert_true(done > BATCH);
        echo_close(&e);
    }
    data_close(d);
}

/* ------------------------------------------------------------ data */

static const char *const features[] = { "u", "v", "w" }, *const pair[] = { "v", "u" },
                         *const word[] = { "w" }, *const csv[] = { "a.csv" },
                         *const more[] = { "b.csv" };

static StrList strs(const char *const *at, int n)
{
    return (StrList){ (const char **)(uintptr_t)at, n };
}

/* Numbers, a hole, a word of three and two groups. */
static void put_rows(Folder *f, const char *name, int rows, int shift, bool hole)
{
    Strbuf b = { 0 };
    strbuf_add(&b, "u,v,w,g\n");
    for (int r = 0; r < rows; r++) {
        strbuf_printf(&b, "%.3f,", 0.37 * (r + shift) - 0.01 * r * r);
        if (r == 11 && hole)
            strbuf_add(&b, ",");
        else
            strbuf_printf(&b, "%d,", (7 * r + shift) % 13);
        strbuf_printf(&b, "%c,%d\n", "abc"[(r + r / 5) % 3], r / 20);
    }
    folder_put(f, name, b.s, b.n);
    strbuf_free(&b);
}

static DataConfig config_series(Folder *f)
{
    put_rows(f, "a.csv", 43, 0, true);
    return (DataConfig){ .format = DATA_CSV,
                         .files = strs(csv, 1),
                         .features = strs(features, 3),
                         .categories = strs(word, 1),
                         .group = "g",
                         .targets = strs(pair, 2),
                         .window = 4,
                         .missing = MISSING_DROP,
                         .split = { 0.6, 0.2, 0.2 },
                         .scaler = SCALER_STANDARD,
                         .target_scaler = SCALER_MINMAX };
}

static void series(void **state)
{
    static int horizons[] = { 3, 1 };
    DataConfig cfg = config_series(*state);
    cfg.horizons = horizons;
    cfg.nhorizons = 2;
    compare(*state, &cfg);
    cfg.nhorizons = 0;
    cfg.horizon = 2;
    cfg.target_rows = TARGET_EACH;
    compare(*state, &cfg);
    cfg.window = 0;
    cfg.target_rows = TARGET_LAST;
    compare(*state, &cfg);
}

static void a_test_source(void **state)
{
    DataConfig cfg = config_series(*state);
    put_rows(*state, "b.csv", 31, 5, false);
    cfg.horizon = 1;
    cfg.test_files = strs(more, 1);
    compare(*state, &cfg);
    cfg.targets = strs(word, 1);
    cfg.classification = true;
    cfg.target_rows = TARGET_MAJORITY;
    compare(*state, &cfg);
}

static void words(void **state)
{
    static const char *const file[] = { "t.txt" };
    folder_put_text(*state, "t.txt", "abracadabra, said the magician, and vanished into a cab\n");
    DataConfig cfg = { .format = DATA_TEXT,
                       .files = strs(file, 1),
                       .window = 6,
                       .stride = 2,
                       .target_rows = TARGET_EACH,
                       .split = { 0.7, 0.15, 0.15 } };
    compare(*state, &cfg);
    cfg.category_as = CATEGORY_INDEX;
    cfg.split[0] = 1, cfg.split[1] = cfg.split[2] = 0; /* so that all are known */
    compare(*state, &cfg);
}

static void pixels(void **state)
{
    enum { COUNT = 12 };
    static const char *const image[] = { "i.idx" }, *const label[] = { "l.idx" };
    unsigned char i[16 + 6 * COUNT] = { 0, 0, 8, 3, 0, 0, 0, COUNT, 0, 0, 0, 2, 0, 0, 0, 3 };
    unsigned char l[8 + COUNT] = { 0, 0, 8, 1, 0, 0, 0, COUNT };
    for (int k = 0; k < 6 * COUNT; k++)
        i[16 + k] = (unsigned char)(37 * k);
    for (int k = 0; k < COUNT; k++)
        l[8 + k] = (unsigned char)(k % 3);
    folder_put(*state, "i.idx", i, sizeof i);
    folder_put(*state, "l.idx", l, sizeof l);
    const DataConfig cfg = { .format = DATA_IDX,
                             .files = strs(image, 1),
                             .target_files = strs(label, 1),
                             .classification = true,
                             .pixel_scale = 1 / 255.0,
                             .scaler = SCALER_STANDARD,
                             .split = { 0.5, 0.25, 0.25 } };
    compare(*state, &cfg);
}

static void several_inputs(void **state)
{
    static NamedShape in[] = { { "x", { .rank = 2, .dim = { 3, 2 } } },
                               { "z", { .rank = 1, .dim = { 1 } } } };
    const DataConfig cfg = { .format = DATA_RANDOM,
                             .random_inputs = in,
                             .nrandom = 2,
                             .random_rows = 23,
                             .random_target = { .rank = 1, .dim = { 2 } },
                             .split = { 0.5, 0.25, 0.25 } };
    compare(*state, &cfg);
}

/* What is put into a hole depends on the window that it is seen in. */
static void holes_have_no_tables(void **state)
{
    Folder *f = *state;
    DataConfig cfg = config_series(f);
    cfg.horizon = 1;
    cfg.missing = MISSING_INTERPOLATE;
    Data *d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_shape(d)->rows.n, 0);
    assert_non_null(strstr(data_shape(d)->rows.why, "missing"));
    assert_int_equal(feed_bytes(data_shape(d)), 0);
    data_close(d);
}

/* ------------------------------------------------------------ what does not fit */

static void feeds_that_do_not_fit(void **state)
{
    static const struct {
        Type type;
        const char *name, *say;
        Status code;
    } bad[] = {
        { { DT_F32, { 1, { 3 } } }, "z", "no batch input z", ST_VALUE },
        { { DT_F32, { 1, { 3 } } }, "w", "no batch input w", ST_VALUE },
        { { DT_F32, { 1, { 2 } } }, "x", "the input x is f32[3] and is fed with f32[2]", ST_TYPE },
    };
    Folder *f = *state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Arena *arena = arena_new();
        Echo e = { 0 };
        Graph *g = graph_new(arena), *feed = graph_new(arena);
        Builder b = build_start(&f->cx, g);
        const Ref x = build_input(&b, INPUT_batch, "x", DT_F32, shape_of(1, (int64_t)3));
        const Ref w = build_input(&b, INPUT_param, "w", DT_F32, shape_of(1, (int64_t)3));
        build_output(&b, build_op2(&b, OP_add, x, w), "sum");
        OK(f, b.status);
        b = build_start(&f->cx, feed);
        build_output(&b, build_input(&b, INPUT_batch, "at", bad[i].type.dt, bad[i].type.shape),
                     bad[i].name);
        OK(f, b.status);
        OK(f, gtc_device_open(&f->cx, "cpu", 1, &e.d));
        OK(f, gtc_store_create(&f->cx, e.d, &e.s));
        const GtcOptions opt = { .mode = GTC_DEFAULT, .feed = feed };
        assert_int_equal(gtc_compile(&f->cx, e.d, e.s, g, &opt, &e.p), bad[i].code);
        assert_non_null(strstr(f->cx.msg, bad[i].say));
        gtc_store_destroy(e.s);
        gtc_device_close(e.d);
        arena_free(arena);
    }
}

static void tables_are_written_within(void **state)
{
    Folder *f = *state;
    const Type t = { DT_U8, { 1, { 10 } } };
    const char some[10] = "0123456789";
    Echo e = { 0 };
    OK(f, gtc_device_open(&f->cx, "simt", 1, &e.d));
    OK(f, gtc_store_create(&f->cx, e.d, &e.s));
    const int64_t room = gtc_device_room(e.d);
    OK(f, gtc_store_table(&f->cx, e.s, "t", &t));
    assert_true(gtc_device_room(e.d) == room - 10);
    assert_int_equal(gtc_store_table(&f->cx, e.s, "t", &t), ST_VALUE);
    OK(f, gtc_store_write(&f->cx, e.s, "t", 4, some, 6));
    assert_int_equal(gtc_store_write(&f->cx, e.s, "t", 5, some, 6), ST_VALUE);
    assert_int_equal(gtc_store_write(&f->cx, e.s, "t", -1, some, 2), ST_VALUE);
    assert_int_equal(gtc_store_write(&f->cx, e.s, "u", 0, some, 2), ST_VALUE);
    assert_null(gtc_store_find(e.s, "t"));
    gtc_store_destroy(e.s);
    assert_true(gtc_device_room(e.d) == room);
    gtc_device_close(e.d);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {
        TEST(series),
        TEST(a_test_source),
        TEST(words),
        TEST(pixels),
        TEST(several_inputs),
        TEST(holes_have_no_tables),
        TEST(feeds_that_do_not_fit),
        TEST(tables_are_written_within),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
