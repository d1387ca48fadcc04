/* SPDX-License-Identifier: Apache-2.0 */
/* library: code that came from a compiler or the cache, in this process. */
#include "runtime/library.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ir/base/os.h"

bool library_open(const Os *os, const char *bytes, size_t n, Library *lib)
{
    char path[64];
    size_t done = 0;
    lib->fd = memfd_create("gtc-kernels", MFD_CLOEXEC);
    while (lib->fd >= 0 && done < n) {
        const ssize_t put = os->write(lib->fd, bytes + done, n - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            close(lib->fd);
            lib->fd = -1;
        } else {
            done += (size_t)put;
        }
    }
    if (lib->fd < 0)
        return false;
    snprintf(path, sizeof path, "/proc/self/fd/%d", lib->fd);
    lib->handle = os->dlopen(path);
    if (!lib->handle)
        close(lib->fd);
    return lib->handle != NULL;
}

void library_close(const Os *os, Library *lib)
{
    os->dlclose(lib->handle);
    close(lib->fd);
}
