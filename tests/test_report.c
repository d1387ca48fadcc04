/* SPDX-License-Identifier: Apache-2.0 */
/* What a run says of the GPU that it trains on: each thing that NVML knows in the log and in
 * metrics.csv, and nothing in the place of what it does not know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "train/report.h"

static void what_is_known_is_said(void **state)
{
    static const struct Case {
        GtcGpuLoad gpu;
        const char *text, *cells; /* the end of the line in the log, in the table */
    } cases[] = {
        { { 87, INT64_C(3) << 29, 2, 61, 250.4 },
          "  gpu 87 % 1.50 GiB 61 C 250 W, 2 other processes on it",
          ",87,1610612736,61,250.4,2\n" },
        { { -1, INT64_C(1) << 30, 1, 40, NAN },
          "  gpu 1.00 GiB 40 C, 1 other process on it",
          ",,1073741824,40,,1\n" },
        { { -1, -1, -1, NAN, NAN }, " s", ",,,,,\n" },
    };
    char dir[] = "/tmp/gtc-report-XXXXXX", path[64];
    Ctx cx;
    (void)state;
    ctx_init(&cx);
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/metrics.csv", dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const EpochRow row = {
            .epoch = 1, .score_name = "rmse", .val_loss = NAN, .gpu = cases[i].gpu
        };
        char text[1000];
        Strbuf line = { 0 };
        report_epoch_text(&row, 3, &line);
        const char *said = strbuf_str(&line), *end = cases[i].text;
        assert_true(line.n > strlen(end));
        assert_string_equal(said + line.n - strlen(end), end);
        strbuf_free(&line);
        assert_int_equal(report_metrics_start(&cx, dir, 0, "rmse"), ST_OK);
        assert_int_equal(report_metrics_add(&cx, dir, &row), ST_OK);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        const size_t n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
        text[n] = '\0';
        end = cases[i].cells;
        assert_non_null(strstr(text, ",gpu_percent,gpu_bytes,gpu_celsius,gpu_watts,gpu_others\n"));
        assert_true(n > strlen(end));
        assert_string_equal(text + n - strlen(end), end);
        unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_is_known_is_said) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
