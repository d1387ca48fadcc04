/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels of every zoo model's training step cost as NVRTC compiles them:
 *
 *     nvrtc-table ARCH ..        sm_80 sm_90a ..; an architecture that NVRTC does not know is said
 *
 * prints a Markdown table, a row a model: launches, shared memory, and for each architecture the
 * most registers of a kernel, how many spill, and the seconds of a cold compile.  Exit 1 when a
 * kernel does not compile or the compiler warns.  The nets of bench/ stand there at their full
 * size, the models of models/ at the small one of their tests. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cuda_kernels.h"
#include "tests/nvrtc_case.h"
#include "tests/zoo_case.h"

static Kernel *kernels_of(Zoo *z, const ZooCase *c, int *n)
{
    Kernel *k;
    zoo_open(z, c, NULL);
    *n = cuda_kernels(&z->cx, z->arena, zoo_graph(z, c, BUILD_TRAIN), &k);
    return k;
}

static bool knows(const Nvrtc *nvrtc, const char *arch)
{
    const int want = atoi(arch + 3);
    bool found = false;
    for (int i = 0; i < nvrtc->narch; i++)
        found |= strncmp(arch, "sm_", 3) == 0 && nvrtc->arch[i] == want;
    return found && (nvrtc->major >= 12 || !strchr(arch, 'a')); /* sm_90a came with 12.0 */
}

static bool row(const Nvrtc *nvrtc, Cache *cache, const ZooCase *c, char **arch, int narch)
{
    Zoo z;
    int n, launches = 0, smem = 0, bad = 0;
    Kernel *k = kernels_of(&z, c, &n);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < k[i].nlaunch; j++) {
            launches++;
            smem = k[i].launch[j].smem > smem ? k[i].launch[j].smem : smem;
        }
    printf("| %s | %d | %d |", c->path, launches, smem);
    for (int a = 0; a < narch; a++) {
        NvrtcTotals t = { 0 };
        if (!nvrtc_totals(&z.cx, cache, nvrtc, arch[a], c->path, k, n, &t)) {
            fprintf(stderr, "%s: %s\n", arch[a], z.cx.msg);
            t.bad = 1;
        }
        printf(" %d / %d / %.1f |", t.regs, t.spilled, t.ms / 1e3);
        bad += t.bad;
    }
    printf("\n");
    fflush(stdout);
    zoo_close(&z);
    return bad == 0;
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
    printf("NVRTC %d.%d; registers / kernels that spill / seconds.\n\n| model | launches | shared "
           "bytes |",
           nvrtc.major, nvrtc.minor);
    for (int a = 0; a < narch; a++)
        printf(" %s |", arch[a]);
    printf("\n|---|---|---|");
    for (int a = 0; a < narch; a++)
        printf("---|");
    printf("\n");
    for (int i = 0; i < zoo_cases; i++)
        ok &= row(&nvrtc, cache, &zoo_case[i], arch, narch);
    cache_close(cache);
    return ok ? 0 : 1;
}
