/* SPDX-License-Identifier: Apache-2.0 */
/* jit_nvrtc: NVRTC as a maker of images.
 *
 * Of registers the assembler's words and the CUBIN both speak, and the larger number is believed:
 * the words have changed their form from version to version ("ptxas info", "ptxas  ."), and only
 * they tell spills from arrays that live in local memory; the CUBIN's attributes are for machines.
 * Shape constants are #define lines of the text: as options they would also reach NVRTC's own
 * header. */
#include "runtime/jit_nvrtc.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct JitNvrtc {
    Nvrtc n;
    char arch[32], option[48];
    char what[128], how[256], name[64];
    ImageMaker maker;
};

enum { NOPTION = 5 };

static bool is_ptx(const JitNvrtc *j)
{
    return j->arch[0] == 'c';
}

static void options_of(const JitNvrtc *j, const char *option[NOPTION])
{
    option[0] = j->option;
    option[1] = "-default-device";
    option[2] = "--std=c++17"; /* hexadecimal floats; NVRTC 11 is at C++14 by itself */
    option[3] = "-lineinfo";
    option[4] = "--ptxas-options=-v";
}

static int option_count(const JitNvrtc *j)
{
    return is_ptx(j) ? NOPTION - 1 : NOPTION; /* nothing is assembled */
}

/* ------------------------------------------------------------ registers */

static void most(int *at, int v)
{
    if (v > *at)
        *at = v;
}

static void read_words(const char *log, Image *out)
{
    for (const char *at = log; *at;) {
        char line[512];
        const size_t n = strcspn(at, "\n");
        snprintf(line, sizeof line, "%.*s", (int)(n < sizeof line - 1 ? n : sizeof line - 1), at);
        at += n + (at[n] == '\n');
        const char *stack = strstr(line, " bytes stack frame"), *used = strstr(line, "Used ");
        int a = 0, b = 0, c = 0;
        if (stack) {
            while (stack > line && stack[-1] >= '0' && stack[-1] <= '9')
                stack--;
            if (sscanf(stack, "%d bytes stack frame, %d bytes spill stores, %d bytes spill loads",
                       &a, &b, &c) == 3) {
                most(&out->stack, a);
                most(&out->spill, b > c ? b : c);
            }
        }
        if (used && sscanf(used, "Used %d registers", &a) == 1)
            most(&out->regs, a);
        if (strstr(line, "warning") && !strstr(line, "Architectures prior to")) /* no kernel's fault */
            out->warnings++;
    }
}

/* A CUBIN is an ELF file; its section .nv.info holds attributes of a kind, a number and, for those
 * of two words, a symbol and a value. */
static void read_attributes(const unsigned char *p, size_t n, Image *out)
{
    enum { WORDS = 4, FRAME_SIZE = 0x11, REGISTERS = 0x2f };
    for (size_t at = 0; at + 4 <= n;) {
        uint16_t size;
        uint32_t value;
        memcpy(&size, p + at + 2, 2);
        if (p[at] == WORDS && size == 8 && at + 12 <= n) {
            memcpy(&value, p + at + 8, 4);
            if (p[at + 1] == FRAME_SIZE && value < 1u << 30)
                most(&out->stack, (int)value);
            if (p[at + 1] == REGISTERS && value < 1u << 30)
                most(&out->regs, (int)value);
        }
        at += p[at] == WORDS ? 4u + size : 4u;
    }
}

static void read_cubin(Image *out)
{
    const unsigned char *file = (const unsigned char *)out->bytes;
    Elf64_Ehdr head;
    Elf64_Shdr names, s;
    if (out->n < sizeof head)
        return;
    memcpy(&head, file, sizeof head);
    const uint64_t table = (uint64_t)head.e_shnum * sizeof s;
    if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_shentsize != sizeof s ||
        head.e_shoff > out->n || table > out->n - head.e_shoff || head.e_shstrndx >= head.e_shnum)
        return;
    memcpy(&names, file + head.e_shoff + head.e_shstrndx * sizeof s, sizeof s);
    for (int i = 0; i < head.e_shnum; i++) {
        static const char want[] = ".nv.info";
        memcpy(&s, file + head.e_shoff + (size_t)i * sizeof s, sizeof s);
        const uint64_t name = names.sh_offset + s.sh_name;
        if (name + sizeof want <= out->n && memcmp(file + name, want, sizeof want) == 0 &&
            s.sh_offset <= out->n && s.sh_size <= out->n - s.sh_offset)
            read_attributes(file + s.sh_offset, s.sh_size, out);
    }
}

/* ------------------------------------------------------------ making */

static void take_log(const JitNvrtc *j, nvrtcProgram p, Strbuf *log)
{
    size_t n = 0;
    if (j->n.nvrtcGetProgramLogSize(p, &n) != NVRTC_SUCCESS || n < 2)
        return;
    char *text = calloc(1, n + 1);
    if (text && j->n.nvrtcGetProgramLog(p, text) == NVRTC_SUCCESS)
        strbuf_add(log, text);
    free(text);
}

static void take_image(const JitNvrtc *j, nvrtcProgram p, Image *out)
{
    const Nvrtc *n = &j->n;
    size_t size = 0;
    nvrtcResult r = is_ptx(j) ? n->nvrtcGetPTXSize(p, &size) : n->nvrtcGetCUBINSize(p, &size);
    if (r != NVRTC_SUCCESS || size == 0 || !(out->bytes = calloc(1, size + 1)))
        return;
    r = is_ptx(j) ? n->nvrtcGetPTX(p, out->bytes) : n->nvrtcGetCUBIN(p, out->bytes);
    out->n = size;
    if (r != NVRTC_SUCCESS) {
        free(out->bytes);
        out->bytes = NULL;
    }
}

static void make(void *arg, const Kernel *k, const char *text, Image *out, Strbuf *log)
{
    const JitNvrtc *j = arg;
    const char *option[NOPTION];
    nvrtcProgram p = NULL;
    nvrtcResult r = j->n.nvrtcCreateProgram(&p, text, k->name, 0, NULL, NULL);
    if (r == NVRTC_SUCCESS) {
        options_of(j, option);
        r = j->n.nvrtcCompileProgram(p, option_count(j), option);
        take_log(j, p, log);
        if (r == NVRTC_SUCCESS)
            take_image(j, p, out);
        j->n.nvrtcDestroyProgram(&p);
    }
    if (!out->bytes) {
        strbuf_printf(log, "\nNVRTC's answer: %d\n", r);
        return;
    }
    read_words(strbuf_str(log), out);
    if (!is_ptx(j))
        read_cubin(out);
}

/* ------------------------------------------------------------ open and close */

/* Instructions of sm_90a are those of that one architecture; it is what a GPU of 9.0 is.  NVRTC 11
 * knows it by its other name alone. */
static const char *suffix(const Nvrtc *n, int capability)
{
    return capability == 90 && n->major >= 12 ? "a" : "";
}

Status jit_nvrtc_arch(Ctx *cx, const Nvrtc *n, int capability, char arch[32])
{
    int below = 0;
    for (int i = 0; i < n->narch; i++) {
        if (n->arch[i] == capability) {
            snprintf(arch, 32, "sm_%d%s", capability, suffix(n, capability));
            return ST_OK;
        }
        if (n->arch[i] < capability && n->arch[i] > below)
            below = n->arch[i];
    }
    if (!below)
        return FAIL(cx, ENV,
                    "NVRTC %d.%d no longer compiles for a GPU of capability %d.%d: install an "
                    "older one",
                    n->major, n->minor, capability / 10, capability % 10);
    snprintf(arch, 32, "compute_%d", below);
    return ST_OK;
}

Status jit_nvrtc_open(Ctx *cx, const Nvrtc *found, const char *arch, JitNvrtc **out)
{
    JitNvrtc *j = *out = calloc(1, sizeof *j);
    const char *option[NOPTION];
    if (!j)
        return FAIL(cx, MEMORY, "no memory for NVRTC");
    j->n = *found;
    snprintf(j->arch, sizeof j->arch, "%s", arch);
    snprintf(j->option, sizeof j->option, "-arch=%s", arch);
    snprintf(j->name, sizeof j->name, "NVRTC %d.%d", j->n.major, j->n.minor);
    snprintf(j->what, sizeof j->what, "arch: %s\n", arch);
    options_of(j, option);
    int at = snprintf(j->how, sizeof j->how, "compiler: %s\noptions:", j->name);
    for (int i = 0; i < option_count(j); i++)
        at += snprintf(j->how + at, sizeof j->how - (size_t)at, " %s", option[i]);
    snprintf(j->how + at, sizeof j->how - (size_t)at, "\n");
    j->maker = (ImageMaker){ .kind = is_ptx(j) ? "ptx" : "cubin",
                             .what = j->what,
                             .how = j->how,
                             .name = j->name,
                             .make = make,
                             .arg = j };
    return ST_OK;
}

void jit_nvrtc_close(JitNvrtc *j)
{
    free(j);
}

const ImageMaker *jit_nvrtc_maker(const JitNvrtc *j)
{
    return &j->maker;
}
