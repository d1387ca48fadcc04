/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_LIBRARY_H
#define GTC_RUNTIME_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

struct Os;

/* A shared object loaded from bytes in memory.  Its file has no name; the descriptor stays open as
 * long as the code is loaded, because the loader takes two libraries of the same path
 * (/proc/self/fd/N) for one. */
typedef struct Library {
    void *handle;
    int fd;
} Library;

/* False when there is no memory file or the loader does not take the bytes. */
bool library_open(const struct Os *os, const char *bytes, size_t n, Library *out);
void library_close(const struct Os *os, Library *lib);

#endif
