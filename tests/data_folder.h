/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_DATA_FOLDER_H
#define GTC_TESTS_DATA_FOLDER_H

#include "train/data.h"

/* A fresh folder for the files of one test, and data sets opened from it: a cmocka fixture. */
typedef struct Folder {
    Ctx cx;
    char dir[64];
    char log[4096]; /* what was said */
} Folder;

int folder_setup(void **state);
int folder_teardown(void **state); /* with all that is in it */

void folder_put(Folder *f, const char *name, const void *data, size_t n);
void folder_put_text(Folder *f, const char *name, const char *text);

Data *folder_open(Folder *f, const DataConfig *cfg, const DataFit *fit); /* has to work */
/* Has to fail with this code and message. */
void folder_refuses(Folder *f, const DataConfig *cfg, Status code, const char *part);
/* Has to fail with ST_DATA, this message and position (0, 0: none). */
void folder_fails(Folder *f, const DataConfig *cfg, int line, int col, const char *part);
void folder_fetch(Folder *f, const Data *d, Split s, int64_t i, void *x, void *y);

#define STRS(...)                                                                                  \
    {                                                                                              \
        .at = (const char *[]){ __VA_ARGS__ },                                                     \
        .n = sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(const char *)                        \
    }

#endif
