/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/data_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/base/os.h"

static void log_keep(void *arg, LogLevel level, const char *text)
{
    Folder *f = arg;
    const size_t n = strlen(f->log);
    (void)level;
    snprintf(f->log + n, sizeof f->log - n, "%s\n", text);
}

int folder_setup(void **state)
{
    Folder *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    ctx_init(&f->cx);
    f->cx.log = log_keep;
    f->cx.log_arg = f;
    strcpy(f->dir, "/tmp/gtc_test_data_XXXXXX");
    *state = f;
    return mkdtemp(f->dir) == NULL;
}

static void path_of(const Folder *f, const char *name, char path[400])
{
    snprintf(path, 400, "%s/%s", f->dir, name);
}

int folder_teardown(void **state)
{
    Folder *f = *state;
    char path[400];
    DIR *dir = opendir(f->dir);
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        path_of(f, e->d_name, path);
        if (e->d_name[0] != '.')
            unlink(path);
    }
    if (dir)
        closedir(dir);
    rmdir(f->dir);
    free(f);
    return 0;
}

void folder_put(Folder *f, const char *name, const void *data, size_t n)
{
    char path[400];
    path_of(f, name, path);
    assert_int_equal(os_write_file(&f->cx, path, data, n), ST_OK);
}

void folder_put_text(Folder *f, const char *name, const char *text)
{
    folder_put(f, name, text, strlen(text));
}

Data *folder_open(Folder *f, const DataConfig *cfg, const DataFit *fit)
{
    const char *dirs[] = { f->dir };
    Data *d = NULL;
    if (data_open(&f->cx, cfg, dirs, 1, 7, fit, &d) != ST_OK)
        fail_msg("%s:%d:%d: %s", f->cx.file, f->cx.line, f->cx.col, f->cx.msg);
    return d;
}

void folder_refuses(Folder *f, const DataConfig *cfg, Status code, const char *part)
{
    const char *dirs[] = { f->dir };
    Data *d = NULL;
    f->cx.line = f->cx.col = 0;
    const Status s = data_open(&f->cx, cfg, dirs, 1, 7, NULL, &d);
    if (s != code || !strstr(f->cx.msg, part))
        fail_msg("wants %d \"%s\", got %d %d:%d \"%s\"", code, part, s, f->cx.line, f->cx.col,
                 f->cx.msg);
    assert_null(d);
}

void folder_fails(Folder *f, const DataConfig *cfg, int line, int col, const char *part)
{
    folder_refuses(f, cfg, ST_DATA, part);
    if (f->cx.line != line || f->cx.col != col)
        fail_msg("wants \"%s\" at %d:%d, got %d:%d", part, line, col, f->cx.line, f->cx.col);
}

void folder_fetch(Folder *f, const Data *d, Split s, int64_t i, void *x, void *y)
{
    void *in[] = { x };
    assert_int_equal(data_fetch(&f->cx, d, s, &i, 1, in, y), ST_OK);
}
