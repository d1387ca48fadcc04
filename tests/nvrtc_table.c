/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels of every zoo model's training step cost as NVRTC compiles them:
 *
 *     nvrtc-table ARCH ..        sm_80 sm_90a ..; an architecture that NVRTC does not know is said
 *
 * prints a Markdown table, a row a model at its full size and batch: for each architecture the
 * launches of a step and the most shared memory of one in KiB, for a GPU of that architecture that
 * many have; the most registers of a kernel, how many spill, and what a cold compile takes: seconds
 * of all cores together, and by the clock, which count on an idle machine only.
 * Exit 1 when a kernel does not compile, spills, or the compiler warns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/cuda_kernels.h"
#include "tests/nvrtc_case.h"
#include "tests/zoo_case.h"

static bool knows(const Nvrtc *nvrtc, const char *arch)
{
    const int want = atoi(arch + 3);
    bool found = false;
    for (int i = 0; i < nvrtc->narch; i++)
        found |= strncmp(arch, "sm_", 3) == 0 && nvrtc->arch[i] == want;
    return found && (nvrtc->major >= 12 || !strchr(arch, 'a')); /* sm_90a came with 12.0 */
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool cell(const Nvrtc *nvrtc, Cache *cache, const ZooCase *c, const char *arch)
{
    Zoo z;
    Kernel *k;
    NvrtcTotals t = { 0 };
    const Target gpu = gpu_of(arch);
    int launches = 0, smem = 0;
    zoo_open_full(&z, c);
    const int n = cuda_kernels_for(&z.cx, z.arena, &gpu, zoo_graph(&z, c, BUILD_TRAIN), &k);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < k[i].nlaunch; j++) {
            launches++;
            smem = k[i].launch[j].smem > smem ? k[i].launch[j].smem : smem;
        }
    const clock_t start = clock();
    const double began = now();
    if (!nvrtc_totals(&z.cx, cache, nvrtc, arch, c->path, k, n, &t)) {
        fprintf(stderr, "%s: %s\n", arch, z.cx.msg);
        t.bad = 1;
    }
    printf(" %d / %d / %d / %d / %.1f / %.1f |", launches, (smem + 1023) / 1024, t.regs, t.spilled,
           (double)(clock() - start) / CLOCKS_PER_SEC, now() - began);
    fflush(stdout);
    zoo_close(&z);
    return t.bad == 0 && t.spilled == 0;
}

static bool row(const Nvrtc *nvrtc, Cache *cache, const ZooCase *c, char **arch, int narch)
{
    bool good = true;
    printf("| %s |", c->path);
    for (int a = 0; a < narch; a++)
        good &= cell(nvrtc, cache, c, arch[a]);
    printf("\n");
    return good;
}

int main(int argc, char **argv)
{
    enum { MOST = 16 };
    char *arch[MOST];
    int narch = 0;
    bool ok = true;
    Ctx cx;
    Cache *cache;
    Nvrtc nvrtc;
    ctx_init(&cx);
    if (nvrtc_dl_open(&cx, 0, &nvrtc) != ST_OK || cache_open(&cx, &cache) != ST_OK) {
        fprintf(stderr, "%s\n", cx.msg);
        return 4;
    }
    for (int i = 1; i < argc && narch < MOST; i++) {
        if (knows(&nvrtc, argv[i]))
            arch[narch++] = argv[i];
        else
            fprintf(stderr, "%s: NVRTC %d.%d does not know it\n", argv[i], nvrtc.major,
                    nvrtc.minor);
    }
    printf("NVRTC %d.%d; launches / KiB of shared memory / registers / kernels that spill / "
           "CPU seconds / seconds.\n\n| model |",
           nvrtc.major, nvrtc.minor);
    for (int a = 0; a < narch; a++)
        printf(" %s |", arch[a]);
    printf("\n|---|");
    for (int a = 0; a < narch; a++)
        printf("---|");
    printf("\n");
    for (int i = 0; i < zoo_cases; i++)
        ok &= row(&nvrtc, cache, &zoo_case[i], arch, narch);
    cache_close(cache);
    return ok ? 0 : 1;
}
