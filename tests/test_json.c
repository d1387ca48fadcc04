/* SPDX-License-Identifier: Apache-2.0 */
/* What the JSON reader takes and refuses, and what its messages say, to the column. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "models/json.h"
#include "models/model.h"

static Status parse(Ctx *cx, Arena *a, const char *text, size_t n, Json **v)
{
    ctx_init(cx);
    return json_parse(cx, a, "t.json", text, n, v);
}

static void takes_json(void **state)
{
    (void)state;
    static const char *const good[] = {
        "null",
        "true",
        " false ",
        "0",
        "-0",
        "1.5e-3",
        "1E+2",
        "9007199254740992",
        "\"\"",
        "\"\\u00e9\\ud83d\\ude00\\n\"",
        "\"\xC3\xA9\xF0\x9F\x98\x80\"",
        "[]",
        "{}",
        "[1,[2,{\"a\":[]}]]",
        "{\"a\":1,\"b\":1}",
        "\t\r\n[ ]\n",
        "1e308",
        "\"\x7f\"",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        Arena *a = arena_new();
        Ctx cx;
        Json *v;
        if (parse(&cx, a, good[i], strlen(good[i]), &v) != ST_OK)
            fail_msg("%s: %s", good[i], cx.msg);
        arena_free(a);
    }
}

static void refuses_what_is_no_json(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int line, col;
        const char *msg;
    } bad[] = {
        { "", 1, 1, "wants a value, got the end of the text\n  \n  ^" },
        { "007", 1, 1, "a number does not start with 0\n  007\n  ^" },
        { "[1e999]", 1, 2, "a number that overflows\n  [1e999]\n   ^" },
        { "[9007199254740993]", 1, 2, "an integer above 2^53\n  [9007199254740993]\n   ^" },
        { "[-9007199254740993]", 1, 2, "an integer above 2^53\n  [-9007199254740993]\n   ^" },
        { "[1,]", 1, 3, "a comma with nothing after it\n  [1,]\n    ^" },
        { "{\"a\":1,}", 1, 7, "a comma with nothing after it\n  {\"a\":1,}\n        ^" },
        { "[1 2]", 1, 4, "wants ',' or ']', got '2'\n  [1 2]\n     ^" },
        { "{\"a\" 1}", 1, 6, "wants ':' after a key, got '1'\n  {\"a\" 1}\n       ^" },
        { "{a:1}", 1, 2, "wants a key in quotes, got 'a'\n  {a:1}\n   ^" },
        { "[1] // no", 1, 5, "more text after the value: '/'\n  [1] // no\n      ^" },
        { "/* no */ 1", 1, 1, "wants a value, got '/' (JSON has no comments)\n  /* no */ 1\n  ^" },
        { "{\n \"a\": 1,\n \"a\": 2\n}", 3, 2, "a: a second time  (/a)\n   \"a\": 2\n   ^" },
        { "{\"a\":1,\"\\u0061\":2}", 1, 8,
          "a: a second time  (/a)\n  {\"a\":1,\"\\u0061\":2}\n         ^" },
        { "\"a\tb\"", 1, 3, "control character 0x09 in a string\n  \"a\tb\"\n    ^" },
        { "\"\xC0\xAF\"", 1, 2, "not UTF-8: byte 0xc0\n  \"\xC0\xAF\"\n   ^" },
        { "\"\xED\xA0\x80\"", 1, 2, "not UTF-8: byte 0xed\n  \"\xED\xA0\x80\"\n   ^" },
        { "\"\\ud800\"", 1, 2, "half of a surrogate pair\n  \"\\ud800\"\n   ^" },
        { "\"\\u0000\"", 1, 2, "a NUL character in a string\n  \"\\u0000\"\n   ^" },
        { "\"\\x\"", 1, 2, "no such escape in a string\n  \"\\x\"\n   ^" },
        { "\"abc", 1, 1, "this string does not end\n  \"abc\n  ^" },
        { "[1", 1, 3, "wants ',' or ']', got the end of the text\n  [1\n    ^" },
        { "nul", 1, 1, "wants a value, got 'n'\n  nul\n  ^" },
        { "1.", 1, 1, "not a number: wants a digit, got the end of the text\n  1.\n  ^" },
        { "-", 1, 1, "not a number: wants a digit, got the end of the text\n  -\n  ^" },
        { "1e", 1, 1, "not a number: wants a digit, got the end of the text\n  1e\n  ^" },
        { ".5", 1, 1, "wants a value, got '.'\n  .5\n  ^" },
        { "NaN", 1, 1, "wants a value, got 'N'\n  NaN\n  ^" },
        { "\xEF\xBB\xBF[]", 1, 1,
          "a byte order mark; JSON starts without one\n  \xEF\xBB\xBF[]\n  ^" },
        { "[\"\xC3\xA9\", x]", 1, 7, "wants a value, got 'x'\n  [\"\xC3\xA9\", x]\n        ^" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Arena *a = arena_new();
        Ctx cx;
        Json *v;
        if (parse(&cx, a, bad[i].text, strlen(bad[i].text), &v) != ST_PARSE)
            fail_msg("took %s", bad[i].text);
        assert_string_equal(cx.msg, bad[i].msg);
        assert_string_equal(cx.file, "t.json");
        assert_int_equal(cx.line, bad[i].line);
        assert_int_equal(cx.col, bad[i].col);
        arena_free(a);
    }
}

static void nests_so_deep_and_no_deeper(void **state)
{
    (void)state;
    for (int depth = 63; depth <= 66; depth++) {
        Arena *a = arena_new();
        Ctx cx;
        Json *v;
        char text[200];
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        const Status st = parse(&cx, a, text, 2 * (size_t)depth, &v);
        assert_int_equal(st, depth <= JSON_MAX_DEPTH ? ST_OK : ST_PARSE);
        if (depth > JSON_MAX_DEPTH)
            assert_int_equal(cx.col, JSON_MAX_DEPTH + 1);
        arena_free(a);
    }
}

/* Every prefix and every one-byte change of a text is taken or refused, never worse. */
static void survives_damage(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\": [1, -2.5e3, \"\\u00e9\\ud83d\\ude00\"], \"b\": {\"c\": null, \"d\": true}}";
    for (size_t n = 0; n < sizeof text - 1; n++) {
        for (int c = 0; c < 256; c++) {
            char damaged[sizeof text];
            memcpy(damaged, text, sizeof text);
            damaged[n] = (char)c;
            Arena *a = arena_new();
            Ctx cx;
            Json *v;
            const Status st = parse(&cx, a, damaged, c == 0 ? n : sizeof text - 1, &v);
            assert_true(st == ST_OK ||
                        (st == ST_PARSE && cx.msg[0] && cx.line >= 1 && cx.col >= 1));
            arena_free(a);
        }
    }
}

static void gives_decoded_values(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Ctx cx;
    Json *v;
    const char *text = "{\"k\\u00e9\": [1, 2.5, \"a\\n\\ud83d\\ude00\"], \"t\": true}";
    assert_int_equal(parse(&cx, a, text, strlen(text), &v), ST_OK);
    const Json *list = json_member(v, "k\xC3\xA9");
    assert_non_null(list);
    assert_int_equal(list->count, 3);
    assert_true(list->first->integer && list->first->number == 1);
    assert_true(!list->first->next->integer && list->first->next->number == 2.5);
    assert_string_equal(list->first->next->next->string, "a\n\xF0\x9F\x98\x80");
    assert_true(json_member(v, "t")->truth);
    arena_free(a);
}

/* ---- model.json ---- */

#define DATA "\"data\": {\"random\": {\"x\": [4], \"y\": [1], \"rows\": 8}}"
#define MODEL(layers, rest)                                                                        \
    "{\n " DATA ",\n \"layers\": [\n  " layers "],\n \"loss\": {\"type\": \"mse\"}" rest "\n}\n"
#define Y "{\"name\": \"y\", \"type\": \"dense\", \"units\": 1}"

static Status load(Ctx *cx, const char *text, const char *override, Model **m)
{
    ctx_init(cx);
    return model_parse(cx, "m.json", text, &override, override != NULL, m);
}

static void says_where_and_what(void **state)
{
    (void)state;
    static const struct {
        const char *text, *override, *file;
        int line, col;
        const char *msg;
    } bad[] = {
        { MODEL(
              "{\"name\": \"c\", \"type\": \"conv1d\", \"filters\": 4, \"kernel\": \"3x3\"},\n  " Y,
              ""),
          NULL, "m.json", 4, 59,
          "layers[0].kernel: wants an integer >= 1, got \"3x3\"  (/layers/0/kernel)\n"
          "    {\"name\": \"c\", \"type\": \"conv1d\", \"filters\": 4, \"kernel\": \"3x3\"},\n"
          "                                                            ^" },
        { MODEL("{\"name\": \"y\", \"type\": \"dense\", \"unts\": 1}", ""), NULL, "m.json", 4, 34,
          "layers[0].unts: no such key in a dense layer  (/layers/0/unts)\n"
          "    {\"name\": \"y\", \"type\": \"dense\", \"unts\": 1}],\n"
          "                                   ^\n"
          "did you mean \"units\"?" },
        { MODEL("{\"name\": \"y\", \"type\": \"dens\", \"units\": 1}", ""), NULL, "m.json", 4, 25,
          "layers[0].type: no such layer type: \"dens\"  (/layers/0/type)\n"
          "    {\"name\": \"y\", \"type\": \"dens\", \"units\": 1}],\n"
          "                          ^\n"
          "did you mean \"dense\"?" },
        { MODEL("{\"type\": \"dense\"}", ""), NULL, "m.json", 4, 3,
          "layers[0]: a dense layer wants \"units\": outputs  (/layers/0)\n"
          "    {\"type\": \"dense\"}],\n    ^" },
        { MODEL(Y, ",\n \"trian\": {}"), NULL, "m.json", 6, 2,
          "trian: no such key in a model  (/trian)\n   \"trian\": {}\n   ^\ndid you mean "
          "\"train\"?" },
        { MODEL(Y, ""), "train.epochs=many", "--set", 1, 14,
          "train.epochs: wants an integer >= 1, got \"many\"  (/train/epochs)\n"
          "  train.epochs=many\n               ^" },
        { MODEL(Y, ""), "train.epoch=3", "--set", 1, 7,
          "train.epoch: no such key in train  (/train/epoch)\n  train.epoch=3\n        ^\n"
          "did you mean \"epochs\"?" },
        { MODEL(Y, ""), "layers[3].units=8", "--set", 1, 8,
          "there is no element \"3\" (1 elements)\n  layers[3].units=8\n         ^" },
        { MODEL(Y, ""), "layers.y.units=0", "--set", 1, 16,
          "layers[0].units: wants an integer >= 1, got 0  (/layers/0/units)\n"
          "  layers.y.units=0\n                 ^" },
        { MODEL(Y, ""), "nonsense", "--set", 1, 9,
          "wants KEY=VALUE, such as train.epochs=3\n  nonsense\n          ^" },
        { MODEL("{\"name\": \"a\", \"type\": \"dense\", \"units\": 2, \"input\": \"xs\"},\n  " Y,
                ""),
          NULL, "m.json", 4, 55,
          "layers[0].input: no earlier layer and no data input has the name \"xs\"  "
          "(/layers/0/input)\n"
          "    {\"name\": \"a\", \"type\": \"dense\", \"units\": 2, \"input\": \"xs\"},\n"
          "                                                        ^\ndid you mean \"x\"?" },
        { MODEL(Y ",\n  " Y, ""), NULL, "m.json", 5, 12,
          "layers[1].name: layers[0] has this name too  (/layers/1/name)\n    " Y
          "],\n             ^" },
        { MODEL(Y, ",\n \"optimizer\": {\"type\": \"adma\"}"), NULL, "m.json", 6, 24,
          "optimizer.type: no such optimizer: \"adma\"  (/optimizer/type)\n"
          "   \"optimizer\": {\"type\": \"adma\"}\n"
          "                         ^\ndid you mean \"adam\"?" },
        { MODEL("{\"name\": \"dead\", \"type\": \"dense\", \"units\": 2},\n  {\"name\": \"y\", "
                "\"type\": \"dense\", \"units\": 1, "
                "\"input\": \"x\"}",
                ""),
          NULL, "m.json", 4, 3,
          "layers[0]: \"dead\" does not lead to the prediction \"y\"  (/layers/0)\n"
          "    {\"name\": \"dead\", \"type\": \"dense\", \"units\": 2},\n    ^" },
        { MODEL(Y, ",\n \"train\": {\"clip_norm\": 1, \"clip_value\": 1}"), NULL, "m.json", 6, 42,
          "train.clip_value: either clip_value or clip_norm, not both  (/train/clip_value)\n"
          "   \"train\": {\"clip_norm\": 1, \"clip_value\": 1}\n"
          "                                           ^" },
        { MODEL(Y, ",\n \"train\": {\"precision\": \"f64\"}"), NULL, "m.json", 6, 25,
          "train.precision: wants one of \"auto\", \"f32\", got \"f64\"  (/train/precision)\n"
          "   \"train\": {\"precision\": \"f64\"}\n"
          "                          ^\ndid you mean \"f32\"?" },
        { MODEL("{\"type\": \"dropout\", \"rate\": 1},\n  " Y, ""), NULL, "m.json", 4, 31,
          "layers[0].rate: wants a number in [0, 1), got 1  (/layers/0/rate)\n"
          "    {\"type\": \"dropout\", \"rate\": 1},\n"
          "                                ^" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Ctx cx;
        Model *m;
        const Status st = load(&cx, bad[i].text, bad[i].override, &m);
        assert_true(st != ST_OK);
        assert_string_equal(cx.msg, bad[i].msg);
        assert_string_equal(cx.file, bad[i].file);
        assert_int_equal(cx.line, bad[i].line);
        assert_int_equal(cx.col, bad[i].col);
        assert_int_equal(status_exit_code(st), st == ST_USAGE ? 2 : 3);
    }
}

static void overrides_and_defaults_are_resolved(void **state)
{
    (void)state;
    const char *set[] = { "train.epochs=3",           "layers[0].units=2",
                          "layers.y.activation=relu", "optimizer={\"type\":\"sgd\"}",
                          "data.random.rows=16",      "data.random.y=[2]" };
    Ctx cx;
    Model *m, *again;
    ctx_init(&cx);
    const Status st = model_parse(&cx, "m.json", MODEL(Y, ""), set, 6, &m);
    if (st != ST_OK)
        fail_msg("%s", cx.msg);
    assert_int_equal(m->train.epochs, 3);
    assert_int_equal(m->train.batch_size, 64);
    assert_int_equal(m->data.random_rows, 16);
    assert_int_equal(m->data.random_target.dim[0], 2);
    assert_non_null(strstr(model_json(m), "\"learning_rate\": 1e-3"));

    /* The resolved text is a model, and resolves to itself. */
    assert_int_equal(model_parse(&cx, "again", model_json(m), NULL, 0, &again), ST_OK);
    assert_string_equal(model_json(m), model_json(again));
    model_free(m);
    model_free(again);
}

/* Every byte of a model replaced by whatever has a meaning in JSON: a model or a message. */
static void damaged_models_give_a_message(void **state)
{
    (void)state;
    static const char text[] = MODEL("{\"name\": \"c\", \"type\": \"conv1d\", \"filters\": 4, "
                                     "\"kernel\": [3], \"padding\": 1},\n  {\"type\": "
                                     "\"cell\", \"state\": {\"h\": \"features\"}, \"weights\": "
                                     "{\"w\": [4, 4]}, \"update\": {\"h\": \"tanh(w @ x[0:2 * "
                                     "2]) - .5 * h\"}},\n  " Y,
                                     ",\n \"train\": {\"epochs\": 2, \"clip_norm\": 1.5}");
    static const char odd[] = "{}[]\",:-0e.tx\\\x01\xFF";
    for (size_t i = 0; i < sizeof text - 1; i++) {
        for (size_t k = 0; k < sizeof odd - 1; k++) {
            char damaged[sizeof text];
            memcpy(damaged, text, sizeof text);
            damaged[i] = odd[k];
            Ctx cx;
            Model *m;
            const Status st = load(&cx, damaged, NULL, &m);
            if (st == ST_OK)
                model_free(m);
            else
                assert_true(status_exit_code(st) == 3 && cx.msg[0] && cx.line >= 1 && cx.col >= 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_json),
        cmocka_unit_test(refuses_what_is_no_json),
        cmocka_unit_test(nests_so_deep_and_no_deeper),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(gives_decoded_values),
        cmocka_unit_test(says_where_and_what),
        cmocka_unit_test(damaged_models_give_a_message),
        cmocka_unit_test(overrides_and_defaults_are_resolved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
