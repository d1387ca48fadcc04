/* SPDX-License-Identifier: Apache-2.0 */
/* The CSV reader: what it takes, and where it says that something is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "ir/base/os.h"
#include "ir/base/rng.h"
#include "ir/base/strbuf.h"
#include "train/data.h"
#include "train/data_csv.h"

typedef struct Parsed {
    Ctx cx;
    Source src;
    Csv csv;
} Parsed;

static Status parse_n(Parsed *p, const char *text, size_t n, const char *separator)
{
    *p = (Parsed){ 0 };
    ctx_init(&p->cx);
    p->src = (Source){ .os = p->cx.os, .arena = arena_new() };
    char *copy = arena_alloc(p->src.arena, n + 1); /* readers are given a NUL behind the text */
    memcpy(copy, text, n);
    return csv_open(&p->cx, &p->src, "f.csv", (unsigned char *)copy, n, separator, &p->csv);
}

static void parse_ok(Parsed *p, const char *text)
{
    if (parse_n(p, text, strlen(text), NULL) != ST_OK)
        fail_msg("%d:%d: %s", p->cx.line, p->cx.col, p->cx.msg);
}

static void parse_fails(const char *text, int line, int col, const char *part)
{
    Parsed p;
    assert_int_equal(parse_n(&p, text, strlen(text), NULL), ST_DATA);
    if (p.cx.line != line || p.cx.col != col || !strstr(p.cx.msg, part) ||
        strcmp(p.cx.file, "f.csv"))
        fail_msg("wants %d:%d \"%s\", got %s:%d:%d \"%s\"", line, col, part, p.cx.file, p.cx.line,
                 p.cx.col, p.cx.msg);
    source_free(&p.src);
}

static void cell_is(const Parsed *p, int64_t row, int col, const char *want)
{
    char buf[128];
    csv_text(&p->csv, row, col, buf, sizeof buf);
    assert_string_equal(buf, want);
}

static void quotes(void **state)
{
    Parsed p;
    (void)state;
    parse_ok(&p, "\"a\",\"b,c\", \"d\"\"e\" \n\"x\ny\",\"\"\"\", \"1\"\n,\"\",z z \n");
    assert_int_equal(p.csv.ncol, 3);
    assert_int_equal(p.csv.rows, 2);
    assert_string_equal(p.csv.name[1], "b,c");
    assert_string_equal(p.csv.name[2], "d\"e");
    cell_is(&p, 0, 0, "x\ny");
    cell_is(&p, 0, 1, "\"");
    cell_is(&p, 0, 2, "1");
    cell_is(&p, 1, 0, "");
    cell_is(&p, 1, 2, "z z");
    double v;
    assert_int_equal(csv_number(&p.csv, 0, 2, &v), CELL_NUMBER);
    assert_float_equal(v, 1, 0);
    source_free(&p.src);
}

static void line_ends_and_separators(void **state)
{
    static const char *const text[] = {
        "a,b\n1,2\n3,4\n",
        "a,b\r\n1,2\r\n3,4",
        "a,b\r1,2\r3,4\r",
        "\xEF\xBB\xBF\x61;b\n1;2\n\n3;4\n\n",
        "a\tb\n1\t2\n \n3\t4",
        "a|b\n1|2\n3|4\n",
        "\n\na , b\n 1 ,2 \n3,\t4\n",
        "\"a\",\"b\"\n1,2\n3,4",
    };
    (void)state;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        Parsed p;
        parse_ok(&p, text[i]);
        assert_int_equal(p.csv.ncol, 2);
        assert_int_equal(p.csv.rows, 2);
        assert_string_equal(p.csv.name[0], "a");
        assert_string_equal(p.csv.name[1], "b");
        for (int k = 0; k < 4; k++) {
            double v;
            assert_int_equal(csv_number(&p.csv, k / 2, k % 2, &v), CELL_NUMBER);
            assert_float_equal(v, k + 1, 0);
        }
        source_free(&p.src);
    }
    Parsed p;
    parse_ok(&p, "one\n1\n2\n");
    assert_int_equal(p.csv.ncol, 1);
    source_free(&p.src);
    parse_ok(&p, ",x\n0,1\n");
    assert_string_equal(p.csv.name[0], "column1");
    source_free(&p.src);
    assert_int_equal(parse_n(&p, "a b\n1 2\n", 8, " "), ST_OK);
    assert_int_equal(p.csv.ncol, 2);
    source_free(&p.src);
    assert_int_equal(parse_n(&p, "a,b\n1,2\n", 8, "ab"), ST_VALUE);
    source_free(&p.src);
}

static void missing_values(void **state)
{
    static const char *const word[] = { "",     "NA", "NaN", "nan",    "null", "NULL",
                                        "None", "?",  "N/A", "\"NA\"", "\"\"", "  " };
    (void)state;
    for (size_t i = 0; i < sizeof word / sizeof *word; i++) {
        Parsed p;
        char text[64];
        double v;
        snprintf(text, sizeof text, "a,b\n%s,1\n", word[i]);
        parse_ok(&p, text);
        assert_int_equal(csv_number(&p.csv, 0, 0, &v), CELL_MISSING);
        source_free(&p.src);
    }
}

static void errors_have_places(void **state)
{
    Parsed p;
    (void)state;
    parse_fails("a,b,c\n1,2,3\n1,2\n", 3, 4, "wants 3 columns as in the header, got 2");
    parse_fails("a,b\r\n1,2\r\n1,2,3,4\r\n", 3, 5, "wants 2 columns as in the header, got 4");
    parse_fails("a,b\n\"x\n\ny\",2\n1\n", 5, 2, "got 1");
    parse_fails("a,b\n1,\"2\n3,4\n", 2, 3, "never closed");
    parse_fails("a,b\n\"1\"x,2\n", 2, 4, "after the closing quote");
    parse_fails("a,b,a\n1,2,3\n", 1, 5, "column \"a\" appears twice");
    parse_fails("", 1, 1, "empty");
    parse_fails("\xEF\xBB\xBF", 1, 1, "empty");
    parse_fails("\n\r\n", 3, 1, "empty");
    parse_fails("a,b\n", 2, 1, "no rows");
    parse_fails("1.5,2\n3,4\n", 1, 1, "header");
    parse_fails("a,\xE9\n3,4\n", 1, 3, "UTF-8");
    parse_fails("\xFF\xFE"
                "a",
                1, 1, "UTF-16");
    assert_int_equal(parse_n(&p, "a,b\n1,\0002\n", 9, NULL), ST_DATA);
    assert_int_equal(p.cx.line, 2);
    assert_int_equal(p.cx.col, 3);
    assert_non_null(strstr(p.cx.msg, "NUL"));
    source_free(&p.src);
}

static void number_is(const char *text, bool ok)
{
    double v = 0;
    const bool got = number_parse(text, strlen(text), &v);
    if (got != ok)
        fail_msg("\"%s\" is %sa number", text, got ? "" : "not ");
    const double want = ok ? strtod(text, NULL) : 0;
    if (ok && memcmp(&v, &want, sizeof v))
        fail_msg("\"%s\": wants %a, got %a", text, want, v);
}

static void numbers(void **state)
{
    static const char *const good[] = {
        "0",
        "-0",
        "+7",
        "1.",
        ".5",
        "-.5e-3",
        "1e22",
        "1e23",
        "123456789012345678901234567890",
        "9007199254740993",
        "0.1",
        "0.30000000000000004",
        "1e-22",
        "4.9e-324",
        "1e-400",
        "1e400",
        "2.2250738585072011e-308",
        "00012",
        "0000000000000000000000000.00000000000000000000001",
        "179769313486231580793728971405301e276",
        "999999999999999999",
        "1E5",
        "8.5e+02",
    };
    static const char *const bad[] = { "",      "-",   ".",        "e5",   "1e",  "1e+",
                                       "0x10",  "1,5", "1 2",      "inf",  "nan", "1.2.3",
                                       "12abc", "--1", "infinity", "1_000" };
    Rng rng;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        number_is(good[i], true);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        number_is(bad[i], false);
    rng_init(&rng, 1, 0);
    for (int i = 0; i < 200000; i++) { /* any double, printed with 1 to 20 digits */
        const uint64_t bits = (uint64_t)rng_u32(&rng) << 32 | rng_u32(&rng);
        double d;
        char text[64];
        memcpy(&d, &bits, sizeof d);
        if (i % 2)
            d = rng_normal(&rng) * 1000;
        if (!isfinite(d))
            continue;
        snprintf(text, sizeof text, "%.*g", 1 + (int)rng_below(&rng, 20), d);
        number_is(text, true);
    }
    if (setlocale(LC_ALL, "de_DE.UTF-8")) { /* where it is installed */
        double v;
        assert_true(number_parse("1.2345678901234567891", 21, &v));
        assert_float_equal(v, 1.2345678901234567891, 0);
        setlocale(LC_ALL, "C");
    }
}

static void dates(void **state)
{
    double s;
    (void)state;
    assert_true(date_parse("1970-01-01", 10, false, &s) && s == 0);
    assert_true(date_parse("2000-03-01", 10, false, &s) && s == 951868800);
    assert_true(date_parse("2014-12-31 23:00", 16, false, &s) && s == 1420066800);
    assert_true(date_parse("2014-12-31T23:00:30.5Z", 22, false, &s) && s == 1420066830.5);
    assert_true(date_parse("2014/12/31", 10, false, &s) && s == 1419984000);
    assert_true(date_parse("31/12/2014", 10, true, &s) && s == 1419984000);
    assert_true(date_parse("12/31/2014", 10, false, &s) && s == 1419984000);
    assert_true(date_parse("1969-12-31", 10, false, &s) && s == -86400);
    static const char *const bad[] = { "2014-13-01", "2015-02-29", "2014-1",
                                       "x",          "",           "2014-01-01x",
                                       "12/31/14",   "2014-01/01", "2014-01-01 25:00",
                                       "2014" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(date_parse(bad[i], strlen(bad[i]), false, &s));
}

/* Whatever the bytes, the reader ends, stays in bounds and says where. */
static void noise(void **state)
{
    static const char letters[] = ",,,;\n\n\r\"\"ab1.5e- \t|N\xEF\xBB\xBF";
    Rng rng;
    (void)state;
    rng_init(&rng, 42, 0);
    for (int i = 0; i < 30000; i++) {
        char text[64];
        const int n = (int)rng_below(&rng, sizeof text);
        for (int k = 0; k < n; k++)
            text[k] = letters[rng_below(&rng, sizeof letters - 1)];
        Parsed p;
        if (parse_n(&p, text, (size_t)n, NULL) == ST_OK) {
            assert_true(p.csv.rows > 0 && p.csv.ncol > 0);
            for (int64_t c = 0; c < p.csv.rows * p.csv.ncol; c++) {
                double v;
                char buf[16];
                csv_number(&p.csv, c / p.csv.ncol, (int)(c % p.csv.ncol), &v);
                assert_true(csv_text(&p.csv, c / p.csv.ncol, (int)(c % p.csv.ncol), buf,
                                     sizeof buf) < sizeof text);
            }
        } else {
            assert_int_equal(p.cx.code, ST_DATA);
            assert_true(p.cx.line > 0 && p.cx.col > 0);
        }
        source_free(&p.src);
    }
}

/* A 10 MB field, and many tiny cells: memory stays a small multiple of the file. */
static void memory_is_bounded(void **state)
{
    const size_t n = 10 << 20;
    char *text = malloc(n + 64);
    Parsed p;
    (void)state;
    memcpy(text, "a,b\n1,\"", 7);
    memset(text + 7, 'x', n);
    memcpy(text + 7 + n, "\"\n", 2);
    assert_int_equal(parse_n(&p, text, n + 9, NULL), ST_OK);
    char buf[48];
    assert_int_equal(csv_text(&p.csv, 0, 1, buf, sizeof buf), n);
    Column col = { .name = "b", .file = "f.csv", .csv = &p.csv, .csv_col = 1 };
    p.src.rows = 1;
    assert_int_equal(column_numbers(&p.cx, &p.src, &col), ST_DATA);
    assert_non_null(strstr(p.cx.msg, "column \"b\" wants numbers, got \"xxx"));
    assert_int_equal(p.cx.col, 3);
    assert_true(arena_bytes(p.src.arena) < 2 * n);
    source_free(&p.src);
    memcpy(text, "a,b\n1,\"", 7); /* never closed */
    assert_int_equal(parse_n(&p, text, n, NULL), ST_DATA);
    assert_int_equal(p.cx.line, 2);
    assert_int_equal(p.cx.col, 3);
    source_free(&p.src);
    free(text);
}

/* ---- through data_open ---- */

typedef struct Folder {
    Ctx cx;
    char dir[32], path[64];
} Folder;

static void folder_make(Folder *f)
{
    ctx_init(&f->cx);
    strcpy(f->dir, "/tmp/gtc_test_csv_XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/t.csv", f->dir);
}

static void folder_remove(Folder *f)
{
    unlink(f->path);
    rmdir(f->dir);
}

static Status folder_open(Folder *f, const char *feature, const char *target, Data **out)
{
    const char *files[] = { "t.csv" }, *features[] = { feature }, *targets[] = { target };
    const char *dirs[] = { f->dir };
    const DataConfig cfg = { .format = DATA_CSV,
                             .files = { files, 1 },
                             .features = { features, feature != NULL },
                             .targets = { targets, 1 },
                             .split = { 1, 0, 0 } };
    return data_open(&f->cx, &cfg, dirs, 1, 1, NULL, out);
}

static size_t biggest;

static void *alloc_noted(size_t n)
{
    biggest = n > biggest ? n : biggest;
    return os_default()->alloc(n);
}

/* What a file takes beside its text grows no faster than 8/3 of it, whatever it is full of. */
static void marks_are_smaller_than_cells(void **state)
{
    enum { N = 300000 };
    static const struct {
        int columns;
        const char *piece, *end;
    } row[] = {
        { 1, "1\n", "" },           { 1, "\n", "1\n" },      { 1, "\r\n", "1" },
        { 1, "\"\n\"\n", "" },      { 2, ",\n", "" },        { 2, ",\r\n", "," },
        { 2, "\n", "1,2\n" },       { 2, "1,2\n", "" },      { 3, ",,\n", "" },
        { 3, ",\",,,,,\",\n", "" }, { 5, ",,,,\r", ",,,," }, { 1000, "\n", "" },
        { 1000, "\"\",\n", NULL },  { 65536, ",", NULL },
    };
    (void)state;
    Os os = *os_default();
    os.alloc = alloc_noted;
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        Strbuf b = { 0 };
        Parsed p = { .src = { .os = &os, .arena = arena_new() } };
        for (int i = 0; i < row[k].columns; i++)
            strbuf_printf(&b, "%sc%d", i ? "," : "", i);
        strbuf_add(&b, "\n");
        const size_t head = b.n;
        while (b.n < head + N)
            strbuf_add(&b, row[k].piece);
        if (row[k].end)
            strbuf_add(&b, row[k].end);
        ctx_init(&p.cx);
        biggest = 0;
        const Status st = csv_open(&p.cx, &p.src, "f.csv", (unsigned char *)b.s, b.n, NULL, &p.csv);
        if (biggest == 0 || biggest > 8 * b.n / 3 + 16 || (st != ST_OK) != (row[k].columns >= 1000))
            fail_msg("case %zu: %zu bytes for %zu: %s", k, biggest, b.n, p.cx.msg);
        source_free(&p.src);
        strbuf_free(&b);
    }
}

static void column_errors(void **state)
{
    static const struct {
        const char *text, *feature;
        int line, col;
        const char *part;
    } row[] = {
        { "a,b\n1,2\n3x,4\n", NULL, 3, 1, "column \"a\" wants numbers, got \"3x\"" },
        { "a,b\n1,2\n1e99,4\n", NULL, 3, 1, "1e99 is too large" },
        { "a,b\r\n1,2\r\n,4\r\n", NULL, 3, 1, "column \"a\" has a missing value" },
        { "a,b\n1,2\n3,inf\n", NULL, 3, 3, "column \"b\" wants numbers, got \"inf\"" },
        { "a,b\nu,2\nw,4\n", NULL, 0, 0, "no numeric column" },
        { "a,b\nu,2\nw,4\n", "a", 2, 1, "column \"a\" wants numbers, got \"u\"" },
        { "a,b\n,2\n,4\n", "a", 2, 1, "column \"a\" has no values" },
        { "abc,b\n1,2\n", "abd", 1, 1, "did you mean \"abc\"?" },
        { "a,c\n1,2\n", NULL, 1, 1, "no column \"b\" for \"target\"" },
    };
    Folder f;
    (void)state;
    folder_make(&f);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        Data *d = NULL;
        assert_int_equal(os_write_file(&f.cx, f.path, row[i].text, strlen(row[i].text)), ST_OK);
        f.cx.line = f.cx.col = 0;
        assert_int_equal(folder_open(&f, row[i].feature, "b", &d), ST_DATA);
        if (!strstr(f.cx.msg, row[i].part) || f.cx.line != row[i].line || f.cx.col != row[i].col)
            fail_msg("wants %d:%d \"%s\", got %d:%d \"%s\"", row[i].line, row[i].col, row[i].part,
                     f.cx.line, f.cx.col, f.cx.msg);
        if (row[i].line)
            assert_string_equal(f.cx.file, f.path);
        assert_null(d);
    }
    Data *d = NULL;
    unlink(f.path);
    assert_int_equal(folder_open(&f, NULL, "b", &d), ST_IO);
    assert_non_null(strstr(f.cx.msg, "cannot find t.csv"));
    assert_non_null(strstr(f.cx.msg, f.dir));
    folder_remove(&f);
}

static void gzip(void **state)
{
    static const char text[] = "a,b\n1,2\n3,4\n";
    Folder f;
    Data *d = NULL;
    unsigned char packed[256];
    z_stream z = { 0 };
    (void)state;
    folder_make(&f);
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)text;
    z.avail_in = sizeof text - 1;
    z.next_out = packed;
    z.avail_out = sizeof packed;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    const size_t n = z.total_out;
    deflateEnd(&z);
    assert_int_equal(os_write_file(&f.cx, f.path, packed, n), ST_OK);
    assert_int_equal(folder_open(&f, NULL, "b", &d), ST_OK);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 2);
    data_close(d);
    for (size_t cut = 2; cut < n; cut++) { /* truncated anywhere */
        assert_int_equal(os_write_file(&f.cx, f.path, packed, cut), ST_OK);
        assert_int_equal(folder_open(&f, NULL, "b", &d), ST_DATA);
        assert_non_null(strstr(f.cx.msg, "gzip"));
    }
    packed[n - 6] ^= 1; /* its checksum */
    assert_int_equal(os_write_file(&f.cx, f.path, packed, n), ST_OK);
    assert_int_equal(folder_open(&f, NULL, "b", &d), ST_DATA);
    folder_remove(&f);
}

/* 2 MB of numbers: read, converted and packed. */
static void speed(void **state)
{
    Strbuf s = { 0 };
    Folder f;
    Data *d = NULL;
    (void)state;
    folder_make(&f);
    strbuf_add(&s, "a,b,c,d\n");
    for (int i = 0; s.n < 2000000; i++)
        strbuf_printf(&s, "%d,%.2f,%.4f,NE\n", i, i * 0.37, sin(i));
    assert_int_equal(os_write_file(&f.cx, f.path, s.s, s.n), ST_OK);
    const clock_t start = clock();
    assert_int_equal(folder_open(&f, NULL, "b", &d), ST_OK);
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    print_message("%zu bytes of CSV in %.3f s\n", s.n, seconds);
#if !defined(__SANITIZE_ADDRESS__) && !defined(GTC_SANITIZE)
    assert_true(seconds < 0.3); /* 0.1 s on a machine that does nothing else */
#endif
    data_close(d);
    strbuf_free(&s);
    folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quotes),
        cmocka_unit_test(line_ends_and_separators),
        cmocka_unit_test(missing_values),
        cmocka_unit_test(errors_have_places),
        cmocka_unit_test(numbers),
        cmocka_unit_test(dates),
        cmocka_unit_test(noise),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(marks_are_smaller_than_cells),
        cmocka_unit_test(column_errors),
        cmocka_unit_test(gzip),
        cmocka_unit_test(speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
