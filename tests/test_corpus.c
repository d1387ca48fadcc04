/* SPDX-License-Identifier: Apache-2.0 */
/* Every reader against files whose verdict is known: tests/corpus/READER/y_* is taken, n_* refused
 * with a message that names the file and the place, i_* either.  Then what is one bit or one cut
 * away from small good files: whatever the verdict, the reader comes back. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/base/strbuf.h"
#include "tests/fuzz/target.h"

enum { MAX_FILES = 400, SAMPLES = 2, SMALL = 260 };

static const FuzzTarget *const targets[] = {
#define X(name) &fuzz_##name,
    FUZZ_TARGETS(X)
#undef X
};

typedef struct File {
    char name[256];
    char *bytes;
    size_t n;
} File;

typedef struct Corpus {
    File file[MAX_FILES];
    int n;
} Corpus;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const File *)a)->name, ((const File *)b)->name);
}

static void corpus_open(const FuzzTarget *t, Corpus *c)
{
    char path[600];
    Ctx cx;
    ctx_init(&cx);
    snprintf(path, sizeof path, "tests/corpus/%s", t->name);
    DIR *d = opendir(path);
    assert_non_null(d);
    c->n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        assert_true(c->n < MAX_FILES);
        File *f = &c->file[c->n++];
        snprintf(f->name, sizeof f->name, "%s", e->d_name);
        snprintf(path, sizeof path, "tests/corpus/%s/%s", t->name, f->name);
        char *bytes;
        assert_int_equal(os_read_file(&cx, path, &bytes, &f->n), ST_OK);
        f->bytes = malloc(f->n ? f->n : 1); /* nothing behind the last byte */
        memcpy(f->bytes, bytes, f->n);
        free(bytes);
    }
    closedir(d);
    qsort(c->file, (size_t)c->n, sizeof *c->file, by_name);
}

static void corpus_close(Corpus *c)
{
    for (int i = 0; i < c->n; i++)
        free(c->file[i].bytes);
}

/* A line and column, or a word that is followed by a number. */
static bool has_place(const FuzzResult *r)
{
    static const char *const word[] = { "byte ", "row ", "rows " };
    if (r->cx.line > 0 && r->cx.col > 0)
        return true;
    for (size_t i = 0; i < sizeof word / sizeof *word; i++) {
        const char *p = strstr(r->cx.msg, word[i]);
        if (p && strspn(p + strlen(word[i]), "0123456789"))
            return true;
    }
    return false;
}

static bool verdict_ok(const FuzzTarget *t, const File *f, const FuzzResult *r)
{
    if (f->name[0] == 'i' || (f->name[0] == 'y' && r->accepted))
        return true;
    if (f->name[0] != 'n' || r->accepted) {
        print_error("%s/%s: %s%s\n", t->name, f->name,
                    r->accepted ? "taken" : "refused: ", r->accepted ? "" : r->cx.msg);
        return false;
    }
    /* Entries of the cache are gtc's own: a bad one is said in the log, with what is wrong. */
    if (t == &fuzz_cache
            ? strstr(r->said, ".gtc: ") != NULL
            : (strstr(r->cx.msg, t->file) || strstr(r->cx.file, t->file)) && has_place(r))
        return true;
    print_error("%s/%s: a refusal without file and place: %s:%d:%d: %s %s\n", t->name, f->name,
                r->cx.file, r->cx.line, r->cx.col, r->cx.msg, r->said);
    return false;
}

static void labels_hold(void **state)
{
    (void)state;
    static Corpus c;
    int count[3] = { 0 }, wrong = 0;
    for (size_t k = 0; k < sizeof targets / sizeof *targets; k++) {
        corpus_open(targets[k], &c);
        int accepted = 0, refused = 0;
        for (int i = 0; i < c.n; i++) {
            FuzzResult r;
            const char label = c.file[i].name[0];
            assert_true(strchr("yni", label) && c.file[i].name[1] == '_');
            fuzz_run(targets[k], NULL, c.file[i].bytes, c.file[i].n, &r);
            wrong += !verdict_ok(targets[k], &c.file[i], &r);
            count[label == 'y' ? 0 : label == 'n' ? 1 : 2]++;
            accepted += label == 'y';
            refused += label == 'n';
        }
        assert_true(accepted >= 3 && refused >= 10);
        corpus_close(&c);
    }
    print_message("%d to be taken, %d to be refused, %d either\n", count[0], count[1], count[2]);
    assert_int_equal(wrong, 0);
}

static void one_bit_and_one_cut_away(void **state)
{
    (void)state;
    static Corpus c;
    int runs = 0, accepted = 0;
    for (size_t k = 0; k < sizeof targets / sizeof *targets; k++) {
        corpus_open(targets[k], &c);
        int samples = 0;
        for (int i = 0; i < c.n && samples < SAMPLES; i++) {
            const File *f = &c.file[i];
            FuzzResult r;
            if (f->name[0] != 'y' || f->n > SMALL || f->n < 5)
                continue;
            samples++;
            for (size_t cut = 0; cut < f->n; cut++, runs++) {
                char *bytes = malloc(cut ? cut : 1);
                memcpy(bytes, f->bytes, cut);
                fuzz_run(targets[k], NULL, bytes, cut, &r);
                accepted += r.accepted;
                free(bytes);
            }
            for (size_t at = 0; at < f->n; at++)
                for (int bit = 0; bit < 8; bit++, runs++) {
                    f->bytes[at] = (char)(f->bytes[at] ^ 1 << bit);
                    fuzz_run(targets[k], NULL, f->bytes, f->n, &r);
                    f->bytes[at] = (char)(f->bytes[at] ^ 1 << bit);
                    accepted += r.accepted;
                }
        }
        assert_int_equal(samples, SAMPLES);
        corpus_close(&c);
    }
    print_message("%d files, %d taken\n", runs, accepted);
    assert_true(accepted > 0 && accepted < runs);
}

/* Large files of the smallest pieces there are: each is taken or refused in time and within the
 * memory that is allowed, which fuzz_run checks. */
static void large_files_of_small_pieces(void **state)
{
    (void)state;
    enum { LARGE = 3 << 20, VAST = 14 << 20 };
    static const struct {
        const FuzzTarget *target;
        const char *head, *piece, *tail; /* "%d" of the piece: its number */
        int most;                        /* pieces; 0: LARGE bytes of them, 1: VAST */
    } row[] = {
        { &fuzz_json, "{\"\":0", ",\"%d\":0", "}", 99998 },
        { &fuzz_json, "[\"\"", ",\"0123456789abcdef\"", "]", 99998 },
        { &fuzz_json, "[0", ",0", "]" },
        { &fuzz_json, "{\"\":0", ",\"%d\":0", "}" },
        { &fuzz_json, "[[]", ",[]", "]" },
        { &fuzz_json, "\"", "\\n", "\"" },
        { &fuzz_model,
          "{\"data\":{\"csv\":\"a\",\"target\":\"t\"},\"loss\":{\"type\":\"mse\"},\"layers\":[{"
          "\"type\":\"relu\"}",
          ",{\"type\":\"relu\"}", "]}" },
        { &fuzz_model,
          "{\"data\":{\"csv\":\"a\",\"target\":\"t\"},\"loss\":{\"type\":\"mse\"},\"layers\":[{"
          "\"type\":\"relu\"}",
          ",{\"type\":\"relu\"}", "]}", 4095 },
        { &fuzz_gir, "graph (%x: f32[]) {\n", "%%%d=neg%%x\n", "return\n}\n", 32759 },
        { &fuzz_gir, "graph (%x: f32[]) {\n", "%%%d=neg%%x\n", "return\n}\n" },
        { &fuzz_gir, "graph (%x: f32[]) {\nreturn %x", ",a%d:%%x", "\n}\n" },
        { &fuzz_gir, "graph (%x: f32[]) {\n", "%%%d=fusion kind=a(){\nreturn\n}\n", "return\n}\n" },
        { &fuzz_gir, "graph (%x: f32[2]) {\n%a=concat%x", ",%%x", " axis=0\nreturn\n}\n" },
        { &fuzz_csv, "a", ",", "\n1\n" },
        { &fuzz_csv, "a,b\n", ",\n", "" },
        { &fuzz_csv, "a,b,c,d\n", ",,,\n", "1\n", 1 }, /* refused at its end */
        { &fuzz_csv, "a\n", "1\n", "" },
        { &fuzz_csv, "a\n\"", "\"\"", "\"\n" },
        { &fuzz_safetensors, "{\"__metadata__\":{\"\":\"\"", ",\"%d\":\"\"", "}}" },
        { &fuzz_safetensors, "{\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
          ",\"%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", "}" },
        { &fuzz_text, "", "ab", "" },
    };
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        Strbuf b = { 0 };
        FuzzResult r;
        strbuf_add(&b, row[k].head);
        for (int i = 0; row[k].most > 1 ? i < row[k].most : b.n < (row[k].most ? VAST : LARGE);
             i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
            strbuf_printf(&b, row[k].piece, i);
#pragma GCC diagnostic pop
        }
        strbuf_add(&b, row[k].tail);
        if (row[k].target == &fuzz_safetensors) {
            Strbuf c = { 0 };
            const uint64_t n = b.n;
            strbuf_addn(&c, &n, sizeof n);
            strbuf_addn(&c, b.s, b.n);
            strbuf_free(&b);
            b = c;
        }
        fuzz_run(row[k].target, NULL, b.s, b.n, &r);
        if (r.accepted)
            snprintf(r.cx.msg, sizeof r.cx.msg, "taken");
        print_message("%s %zu: %zu KiB, %.*s, %zu KiB held\n", row[k].target->name, k, b.n >> 10,
                      (int)strcspn(r.cx.msg, "\n"), r.cx.msg, r.peak >> 10);
        strbuf_free(&b);
    }
}

/* Native code is loaded from entries: from nobody's files but ours. */
static void a_cache_of_others_is_not_used(void **state)
{
    (void)state;
    static const struct {
        FuzzFile file;
        bool accepted;
        const char *says;
    } row[] = {
        { { 0 }, true, "" },
        { { .mode = S_IFREG | 0644 }, true, "" },
        { { .mode = S_IFREG | 0400 }, true, "" },
        { { .mode = S_IFREG | 0620 }, false, "others may write to it" },
        { { .mode = S_IFREG | 0602 }, false, "others may write to it" },
        { { .owner_off = 1 }, false, "it belongs to another user" },
        { { .link = true }, false, "symbolic link" },
        { { .mode = S_IFIFO | 0600 }, false, "it is no entry" },
        { { .mode = S_IFDIR | 0700 }, false, "it is no entry" },
        { { .mode = S_IFCHR | 0600 }, false, "it is no entry" },
        { { .folder_mode = 0755 }, true, "" },
        { { .folder_mode = 0770 }, false, "others may write to it" },
        { { .folder_mode = 0707 }, false, "others may write to it" },
        { { .folder_link = true }, false, "it is no folder, or a symbolic link" },
    };
    static Corpus c;
    corpus_open(&fuzz_cache, &c);
    int tried = 0;
    for (int i = 0; i < c.n; i++)
        for (size_t k = 0; c.file[i].name[0] == 'y' && k < sizeof row / sizeof *row; k++, tried++) {
            FuzzResult r;
            fuzz_run(&fuzz_cache, &row[k].file, c.file[i].bytes, c.file[i].n, &r);
            if (r.accepted != row[k].accepted || !strstr(r.said, row[k].says))
                fail_msg("%s, row %zu: %s, \"%s\"", c.file[i].name, k,
                         r.accepted ? "taken" : "refused", r.said);
        }
    assert_true(tried > 0);
    corpus_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_hold),
        cmocka_unit_test(one_bit_and_one_cut_away),
        cmocka_unit_test(large_files_of_small_pieces),
        cmocka_unit_test(a_cache_of_others_is_not_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
