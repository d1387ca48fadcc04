/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/options.c" /* the program is no library to link with */

static const char *none(const char *name)
{
    (void)name;
    return NULL;
}

static const char *some(const char *name)
{
    static const char *const values[][2] = {
        { "GTC_EPOCHS", "7" },   { "GTC_THREADS", "2" },  { "GTC_DATA_DIR", "/a:/b::/c" },
        { "GTC_MODE", "eager" }, { "GTC_NO_CACHE", "1" }, { "GTC_QUIET", "0" }
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (strcmp(values[i][0], name) == 0)
            return values[i][1];
    return NULL;
}

/* Splits a line at spaces. */
static Status parse(Ctx *cx, const char *line, OptionsEnv *env, Options **out)
{
    static char buf[512];
    char *argv[32], *save = NULL;
    int argc = 0;
    snprintf(buf, sizeof buf, "%s", line);
    for (char *w = strtok_r(buf, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    ctx_init(cx);
    return options_parse(cx, argc, argv, env, out);
}

static void test_forms(void **state)
{
    (void)state;
    Ctx cx;
    Options *o;
    assert_int_equal(
        parse(&cx, "gtc train m.json --epochs 3 --out=dir -b64 -q --seed=-1", none, &o), ST_OK);
    assert_int_equal(o->verb, VERB_train);
    assert_string_equal(o->arg, "m.json");
    assert_int_equal(options_int(o, OPT_epochs, 0), 3);
    assert_int_equal(options_int(o, OPT_batch_size, 0), 64);
    assert_string_equal(options_text(o, OPT_out, ""), "dir");
    assert_true(options_flag(o, OPT_quiet));
    assert_false(options_flag(o, OPT_json));
    assert_int_equal(o->overrides.n, 3);
    assert_string_equal(o->overrides.at[0], "train.epochs=3");
    assert_string_equal(o->overrides.at[1], "train.batch_size=64");
    assert_string_equal(o->overrides.at[2], "train.seed=-1");
    options_free(o);

    assert_int_equal(parse(&cx, "gtc train --resume", none, &o), ST_OK);
    assert_string_equal(options_text(o, OPT_resume, "no"), "");
    options_free(o);
    assert_int_equal(parse(&cx, "gtc train --resume=runs/x", none, &o), ST_OK);
    assert_string_equal(options_text(o, OPT_resume, "no"), "runs/x");
    options_free(o);
    assert_int_equal(parse(&cx, "gtc predict -- --run", none, &o), ST_OK);
    assert_string_equal(o->arg, "--run");
    options_free(o);
    assert_int_equal(parse(&cx, "gtc opt -", none, &o), ST_OK);
    assert_string_equal(o->arg, "-");
    options_free(o);
}

/* Flags beat the environment; of two overrides of one key the last one counts. */
static void test_order(void **state)
{
    (void)state;
    Ctx cx;
    Options *o;
    const char *line =
        "gtc train m.json --set train.epochs=5 --data-dir /x --epochs 6 --mode default";
    assert_int_equal(parse(&cx, line, some, &o), ST_OK);
    assert_int_equal(o->overrides.n, 3);
    assert_string_equal(o->overrides.at[0], "train.epochs=7");
    assert_string_equal(o->overrides.at[1], "train.epochs=5");
    assert_string_equal(o->overrides.at[2], "train.epochs=6");
    assert_string_equal(options_text(o, OPT_mode, ""), "default");
    assert_int_equal(options_int(o, OPT_threads, 0), 2);
    assert_true(options_flag(o, OPT_no_cache));
    assert_false(options_flag(o, OPT_quiet));
    assert_int_equal(o->data_dirs.n, 4);
    assert_string_equal(o->data_dirs.at[0], "/x");
    assert_string_equal(o->data_dirs.at[1], "/a");
    assert_string_equal(o->data_dirs.at[2], "/b");
    assert_string_equal(o->data_dirs.at[3], "/c");
    options_free(o);
}

static void refused(const char *line, const char *why)
{
    Ctx cx;
    Options *o = NULL;
    const Status st = parse(&cx, line, none, &o);
    if (st != ST_USAGE || !strstr(cx.msg, why))
        fail_msg("'%s': status %d, message '%s', wanted '%s'", line, (int)st, cx.msg, why);
}

static void test_refusals(void **state)
{
    (void)state;
    refused("gtc tarin", "did you mean 'train'?");
    refused("gtc xyzzy", "gtc --help lists them");
    refused("gtc train --epoch 3", "did you mean '--epochs'?");
    refused("gtc train --bacth-size 3", "did you mean '--batch-size'?");
    refused("gtc train --zzzzzz", "gtc train --help lists them");
    refused("gtc train --epochs", "wants N, got nothing");
    refused("gtc train --epochs three", "wants an integer, got 'three'");
    refused("gtc train --epochs 99999999999999999999", "wants an integer");
    refused("gtc train --json=1", "takes no value");
    refused("gtc train --set epochs", "wants KEY=VALUE");
    refused("gtc train --out=", "got nothing");
    refused("gtc train a b", "what is 'b' for?");
    refused("gtc devices x", "what is 'x' for?");
    refused("gtc opt --epochs 3", "there is no option '--epochs'");
    refused("gtc --epochs 3", "wants a verb");
}

/* Every row shows in the help of each verb that takes it, and none is there twice. */
static void test_help(void **state)
{
    (void)state;
    for (int v = 0; v < VERB_COUNT; v++) {
        Strbuf b = { 0 };
        options_help((Verb)v, &b);
        for (int i = 0; i < OPT_COUNT; i++) {
            char name[64];
            snprintf(name, sizeof name, "--%s ", option_info[i].name);
            if (option_info[i].kind == MAYBE)
                name[strlen(name) - 1] = '[';
            const char *at = strstr(strbuf_str(&b), name);
            assert_int_equal(at != NULL, (option_info[i].verbs & (1u << v)) != 0);
        }
        strbuf_free(&b);
    }
    for (int i = 0; i < OPT_COUNT; i++)
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(option_info[i].name, option_info[j].name);
            if (option_info[i].letter)
                assert_int_not_equal(option_info[i].letter, option_info[j].letter);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_forms), cmocka_unit_test(test_order),
                                        cmocka_unit_test(test_refusals),
                                        cmocka_unit_test(test_help) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
