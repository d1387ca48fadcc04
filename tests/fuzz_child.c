/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ir/base/status.h"

double fuzz_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool write_all(int fd, const void *data, size_t n)
{
    const char *p = data;
    while (n) {
        const ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        p += put;
        n -= (size_t)put;
    }
    return true;
}

/* A group of its own, so that compilers die with it. */
static _Noreturn void child_main(FuzzWork *work, void *arg, int to, int heard)
{
    FuzzVerdict *v = calloc(1, sizeof *v);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nor does it outlive the run */
    dup2(heard, STDOUT_FILENO);
    dup2(heard, STDERR_FILENO);
    if (v)
        work(arg, v);
    fflush(NULL);
    _exit(v && write_all(to, v, sizeof *v) ? 0 : 99);
}

void fuzz_child_start(FuzzChild *c, FuzzWork *work, void *arg, int seconds)
{
    int fd[2];
    *c = (FuzzChild){ .seconds = seconds, .deadline = fuzz_now() + seconds };
    gtc_assert(pipe2(fd, O_CLOEXEC) == 0, "no pipe: %s", strerror(errno));
    c->heard = memfd_create("gtc-fuzz", MFD_CLOEXEC);
    gtc_assert(c->heard >= 0, "no memory file: %s", strerror(errno));
    fflush(NULL);
    c->pid = fork();
    gtc_assert(c->pid >= 0, "no process: %s", strerror(errno));
    if (c->pid == 0)
        child_main(work, arg, fd[1], c->heard);
    setpgid(c->pid, c->pid);
    close(fd[1]);
    c->from = fd[0];
}

/* Reads to the end; a verdict is whole or none.  A child ends as soon as its verdict is read. */
static bool read_verdict(int fd, FuzzVerdict *v)
{
    char *p = (char *)v;
    size_t have = 0;
    while (have < sizeof *v) {
        const ssize_t got = read(fd, p + have, sizeof *v - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        have += (size_t)got;
    }
    return true;
}

/* The end of what it printed, without what would spoil a terminal. */
static void add_words(const FuzzChild *c, FuzzVerdict *v)
{
    char words[1200];
    const off_t size = lseek(c->heard, 0, SEEK_END);
    const off_t at = size > (off_t)sizeof words - 1 ? size - (off_t)sizeof words + 1 : 0;
    const ssize_t n = size > 0 ? pread(c->heard, words, sizeof words - 1, at) : 0;
    words[n > 0 ? n : 0] = 0;
    const size_t have = strlen(v->text);
    snprintf(v->text + have, sizeof v->text - have, "%s%s", words[0] ? ": " : "", words);
}

static void tell_death(const FuzzChild *c, int status, bool late, FuzzVerdict *v)
{
    memset(v, 0, sizeof *v);
    v->outcome = FUZZ_MISMATCH;
    if (late)
        snprintf(v->text, sizeof v->text, "no end after %d s", c->seconds);
    else if (WIFSIGNALED(status))
        snprintf(v->text, sizeof v->text, "died of signal %d", WTERMSIG(status));
    else
        snprintf(v->text, sizeof v->text, "ended with exit %d", WEXITSTATUS(status));
    add_words(c, v);
}

bool fuzz_child_wait(FuzzChild *c, double until, FuzzVerdict *v)
{
    const double end = until < c->deadline ? until : c->deadline;
    struct pollfd p = { .fd = c->from, .events = POLLIN };
    int got;
    do {
        const double left = end - fuzz_now();
        got = poll(&p, 1, left > 0 ? (int)(left * 1000) + 1 : 0);
    } while (got < 0 && errno == EINTR);
    const bool late = got == 0 && fuzz_now() >= c->deadline;
    if (got == 0 && !late)
        return false;
    int status = 0;
    const bool whole = !late && read_verdict(c->from, v);
    if (late)
        kill(-c->pid, SIGKILL);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!whole)
        tell_death(c, status, late, v);
    close(c->from);
    close(c->heard);
    c->pid = 0;
    return true;
}

void fuzz_child_run(FuzzWork *work, void *arg, int seconds, FuzzVerdict *v)
{
    FuzzChild c;
    fuzz_child_start(&c, work, arg, seconds);
    while (!fuzz_child_wait(&c, c.deadline, v))
        ;
}
