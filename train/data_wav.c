/* SPDX-License-Identifier: Apache-2.0 */
/* data_wav: RIFF WAVE with 16-bit PCM; one row a sample, one column a channel ("stem", or "stem.0"
 * and so on), in [-1, 1).  Chunks are walked: headers of 44 bytes are a habit, no rule.
 *
 * A mix is a second column beside one recording: the recording with noise, all noises added up and
 * made so loud that the powers over the whole recording have the wanted ratio. */
#include "train/data_format.h"

#include <math.h>
#include <string.h>

typedef struct Wav {
    const char *path;
    const unsigned char *data;
    int64_t rows;
    uint32_t rate;
    int channels;
} Wav;

static uint32_t u32_at(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int u16_at(const unsigned char *p)
{
    return p[0] | p[1] << 8;
}

static Status format_read(Ctx *cx, const unsigned char *p, uint32_t n, size_t at, Wav *w)
{
    if (n < 16)
        return FAIL(cx, DATA, "%s: byte %zu: the \"fmt \" chunk is too short", w->path, at);
    int tag = u16_at(p);
    if (tag == 0xFFFE && n >= 26)
        tag = u16_at(p + 24);
    w->channels = u16_at(p + 2);
    w->rate = u32_at(p + 4);
    if (tag != 1 || u16_at(p + 14) != 16)
        return FAIL(cx, DATA, "%s: byte %zu: wants 16-bit PCM, got format %d with %d bits", w->path,
                    at, tag, u16_at(p + 14));
    if (w->channels < 1 || w->channels > 64 || w->rate == 0)
        return FAIL(cx, DATA, "%s: byte %zu: %d channels at %u Hz are not understood", w->path, at,
                    w->channels, w->rate);
    return ST_OK;
}

static Status file_read(Ctx *cx, const unsigned char *d, size_t n, Wav *w)
{
    if (n < 12 || memcmp(d, "RIFF", 4) || memcmp(d + 8, "WAVE", 4))
        return FAIL(cx, DATA, "%s: byte 0: this is no WAV file", w->path);
    size_t i = 12;
    while (i <= n && n - i >= 8) {
        const uint32_t size = u32_at(d + i + 4);
        const size_t left = n - i - 8;
        if (!memcmp(d + i, "fmt ", 4)) {
            if (size > left)
                break;
            TRY(format_read(cx, d + i + 8, size, i, w));
        } else if (!memcmp(d + i, "data", 4)) {
            if (w->channels == 0)
                return FAIL(cx, DATA, "%s: byte %zu: the data come before their format", w->path,
                            i);
            if (size > left)
                return FAIL(cx, DATA, "%s: byte %zu: wants %u bytes of samples, got %zu", w->path,
                            i, size, left);
            w->data = d + i + 8;
            w->rows = size / (2 * (uint32_t)w->channels);
            if (w->rows == 0)
                break;
            return ST_OK;
        }
        if (size >= left)
            break;
        i += 8 + (size_t)size + (size & 1);
    }
    return FAIL(cx, DATA, "%s: byte %zu: the WAV file has no samples", w->path, i < n ? i : n);
}

static double sample_at(const Wav *w, int64_t r, int channel)
{
    return (int16_t)u16_at(w->data + 2 * (r * w->channels + channel)) / 32768.0;
}

static Status noise_open(Ctx *cx, const Request *rq, Source *src, const char *name, const Wav *w,
                         Wav *noise)
{
    unsigned char *d;
    size_t len;
    TRY(source_file(cx, src, rq, name, &noise->path, &d, &len));
    TRY(file_read(cx, d, len, noise));
    if (noise->channels != 1 || noise->rate != w->rate)
        return FAIL(cx, DATA, "%s: wants one channel at %u Hz as the recording, got %d at %u",
                    noise->path, w->rate, noise->channels, noise->rate);
    if (noise->rows < w->rows)
        return FAIL(cx, DATA, "%s: wants %lld samples of noise or more, got %lld", noise->path,
                    (long long)w->rows, (long long)noise->rows);
    return ST_OK;
}

/* Fills c, the column of the recording w with noise; clean: the recording. */
static Status mix_read(Ctx *cx, const Request *rq, Source *src, const Wav *w, const Column *clean,
                       Column *c)
{
    const StrList *files = &rq->cfg->noise_files;
    double power = 0, noise_power = 0;
    void *p;
    TRY(source_alloc(cx, src, src->rows, sizeof(double), &p));
    double *sum = p;
    for (int64_t r = 0; r < src->rows; r++)
        sum[r] = 0;
    for (int f = 0; f < files->n; f++) {
        Wav noise = { 0 };
        TRY(noise_open(cx, rq, src, files->at[f], w, &noise));
        for (int64_t r = 0; r < src->rows; r++)
            sum[r] += sample_at(&noise, r, 0);
    }
    for (int64_t r = 0; r < src->rows; r++) {
        power += clean->value[r] * clean->value[r];
        noise_power += sum[r] * sum[r];
    }
    if (power == 0 || noise_power == 0)
        return FAIL(cx, DATA, "%s: a mix wants sound, got silence",
                    power == 0 ? w->path : files->at[0]);
    const double gain = sqrt(power / noise_power) * pow(10, -rq->cfg->snr / 20);
    for (int64_t r = 0; r < src->rows; r++)
        sum[r] = clean->value[r] + gain * sum[r];
    *c = (Column){ .name = "mix", .file = w->path, .value = sum };
    return ST_OK;
}

Status wav_read(Ctx *cx, const Request *rq, Source *src)
{
    const int n = rq->files->n;
    Wav *w = arena_array(src->arena, Wav, n);
    for (int f = 0; f < n; f++) {
        unsigned char *d;
        size_t len;
        TRY(source_file(cx, src, rq, rq->files->at[f], &w[f].path, &d, &len));
        TRY(file_read(cx, d, len, &w[f]));
        if (w[f].rate != w[0].rate || w[f].rows != w[0].rows)
            return FAIL(
                cx, DATA, "%s: wants %lld samples at %u Hz as the first file, got %lld at %u",
                w[f].path, (long long)w[0].rows, w[0].rate, (long long)w[f].rows, w[f].rate);
        src->ncol += w[f].channels;
    }
    src->rows = w[0].rows;
    const bool mix = rq->cfg->mix, noise = rq->cfg->noise_files.n > 0;
    if (mix && src->ncol != 1)
        return FAIL(cx, DATA, "%s: a mix wants one recording of one channel, got %d", w[0].path,
                    src->ncol);
    src->col = arena_array(src->arena, Column, src->ncol + noise);
    Column *c = src->col;
    for (int f = 0; f < n; f++)
        for (int k = 0; k < w[f].channels; k++, c++) {
            void *p;
            TRY(source_alloc(cx, src, src->rows, sizeof(double), &p));
            const char *stem = source_stem(src, w[f].path);
            *c = (Column){ .name = stem, .file = w[f].path, .value = p };
            if (w[f].channels > 1)
                c->name = arena_printf(src->arena, "%s.%d", stem, k);
            for (int64_t r = 0; r < src->rows; r++)
                c->value[r] = sample_at(&w[f], r, k);
        }
    if (mix && !noise)
        src->col[0].name = "mix"; /* as it comes */
    else if (mix && !strcmp(src->col[0].name, "mix"))
        return FAIL(cx, DATA, "%s: the recording beside a mix wants another name", w[0].path);
    else if (mix)
        TRY(mix_read(cx, rq, src, w, &src->col[0], &src->col[src->ncol++]));
    log_say(cx, LOG_INFO, "data: %lld samples at %u Hz", (long long)src->rows, w[0].rate);
    return ST_OK;
}
