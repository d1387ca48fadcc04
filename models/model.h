/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_MODELS_MODEL_H
#define GTC_MODELS_MODEL_H

#include "ir/base/arena.h"
#include "ir/base/strbuf.h"
#include "ir/graph.h"

/* A model.json, read, checked and resolved.  docs/model.md describes every key.  Everything lives
 * in the Model's arena.  Strings are NULL and counts 0 where the file says nothing and there is no
 * default. */

typedef enum DataFormat {
    DATA_CSV,
    DATA_NPY,
    DATA_IDX,
    DATA_WAV,
    DATA_TEXT,
    DATA_RANDOM
} DataFormat;
typedef enum SplitBy { SPLIT_CHRONOLOGICAL, SPLIT_RANDOM, SPLIT_GROUPS } SplitBy;
typedef enum Missing {
    MISSING_ERROR,
    MISSING_DROP,
    MISSING_FFILL,
    MISSING_INTERPOLATE,
    MISSING_VALUE
} Missing;
typedef enum ScalerKind { SCALER_NONE, SCALER_STANDARD, SCALER_MINMAX } ScalerKind;
typedef enum CategoryAs { CATEGORY_ONE_HOT, CATEGORY_INDEX } CategoryAs;
typedef enum TargetRows { TARGET_LAST, TARGET_MAJORITY, TARGET_EACH } TargetRows;

typedef struct StrList {
    const char **at;
    int n;
} StrList;
typedef struct NamedShape {
    const char *name;
    Shape shape;
} NamedShape; /* without the batch */

typedef struct DataConfig {
    DataFormat format;
    /* Files.  csv, npy, wav, text: path (a list for several of one kind: csv columns side by side
     * when they have equal row counts, joined by `time` otherwise).  idx: images and labels.  npy:
     * inputs and targets. */
    StrList files;                         /* csv | npy x | idx images | wav | text */
    StrList target_files;                  /* npy y | idx labels; empty: the target is a column */
    StrList test_files, test_target_files; /* a separate test source, else empty */
    bool mix;            /* wav: the input is the first file and noise, column "mix", and the target the
                          * file without; a given mixture when there are no noise files */
    StrList noise_files; /* all of them at once */
    double snr;          /* dB, of the file over the noise */
    StrList features;   /* columns; empty: every numeric column but time (target included) */
    StrList targets;    /* columns */
    StrList categories; /* text columns that are features */
    CategoryAs category_as;
    const char *time;         /* date column: never a feature */
    const char *group;        /* column kept whole by a split */
    const char *segment;      /* column whose change no window crosses, or */
    const char *index;        /* a CSV with a line a segment: its first row and how many they are */
    const char *index_start, *index_count; /* which columns say so */
    const char *separator;    /* NULL: found out from the header */
    bool classification;      /* the target is a class: text or integers, cross_entropy's labels */
    int window;               /* rows of one sample; 0: one row, and x has no time axis */
    int horizon;              /* rows ahead of the window's end */
    int *horizons, nhorizons; /* several outputs; empty: just `horizon` */
    int stride;               /* rows between windows, >= 1 */
    int eval_stride;          /* of val and test; 0: stride */
    TargetRows target_rows;   /* which rows of a window have targets */
    bool future;              /* not from the file: samples whose targets are unknown count too */
    Missing missing;
    double missing_value;
    SplitBy split_by;
    double split[3]; /* train, val, test: fractions (sum <= 1) or row counts (> 1) */
    StrList split_groups[3];
    ScalerKind scaler, target_scaler;
    double pixel_scale;        /* idx: x = pixel * pixel_scale; 1/255 */
    NamedShape *random_inputs; /* random: one entry an input, "y" not among them */
    int nrandom;
    Shape random_target;
    int64_t random_rows;
    int random_classes; /* 0: a real target */
} DataConfig;

typedef struct TrainConfig {
    int epochs, batch_size, patience; /* patience 0: never stop early */
    int64_t max_steps;                /* 0: no bound */
    double clip_norm, clip_value;     /* 0: none */
    double ema;                       /* 0: none */
    uint64_t seed;
    const char *precision; /* "auto", "f32" */
    bool shuffle;
    const char *monitor; /* "val_loss", "val_accuracy" ... */
    double min_delta;
} TrainConfig;

/* How samples are made of the rows that the data keep, for a device that has them all.  An input is
 * the row that a sample ends with, or all rows of its window; so is the target. */
typedef enum RowKind {
    ROW_F32,
    ROW_U8,      /* numbers of 256 values */
    ROW_ONE_HOT, /* i32, -1: all zeros */
    ROW_I32
} RowKind;
typedef struct DataRows {
    int64_t n;       /* 0: samples cannot be made so, `why` says */
    const char *why; /* NULL where n > 0 */
    bool window;     /* inputs have an axis of rows */
    bool target_each; /* and targets too */
    const RowKind *kind; /* of each input */
} DataRows;

/* What the model needs to know of the data to be built. */
typedef struct DataShape {
    NamedShape *input; /* "x" first; without the batch: [T, F], [F], [H, W, C] */
    int ninput;
    int words;     /* x is i32, numbers from 0 to words - 1; 0: f32 */
    Shape target; /* without the batch: [1], [horizons], [] for a class; of each row of a window
                   * [window, columns], [window] */
    bool classification;
    int nclass;
    DataRows rows;
} DataShape;

typedef struct Layer Layer; /* models/layers.c */
typedef struct LossConfig LossConfig;
typedef struct OptimizerConfig OptimizerConfig;

typedef struct Model {
    Arena *arena;
    const char *path, *dir; /* of the file; data paths may resolve against dir */
    const char *name;
    DataConfig data;
    TrainConfig train;
    Layer **layer;
    int nlayer;
    LossConfig *loss;
    OptimizerConfig *optimizer;
    const char *json; /* resolved, see model_json */
} Model;

/* overrides: "train.epochs=3" and so on (JSON values, or bare words taken as strings).
 * Fails with ST_PARSE or ST_VALUE and file:line:col; cx->msg then holds, after the first line,
 * the source line, a caret and any hint. */
Status model_load(Ctx *cx, const char *path, const char *const *overrides, int noverrides,
                  Model **out);
/* The same from text (a bundle's resolved config). */
Status model_parse(Ctx *cx, const char *file, const char *text, const char *const *overrides,
                   int noverrides, Model **out);
void model_free(Model *m);
const char *model_json(
    const Model *m); /* the resolved config as JSON text: defaults filled in, overrides applied */

/* Which graph.  All have batch inputs: the data inputs with `batch` rows in front, and
 *   train:   y, rows (i32 scalar: valid rows), lr (f32 scalar), row0 (i64 scalar: index of the
 *            first row in the effective batch); outputs loss (f32), grad_norm (f32, before
 *            clipping), correct (f32, classification only); parameters, optimizer and batch-norm
 *            states, `step` (i32 state) replaced
 *   eval:    y, rows; outputs loss, prediction, correct; nothing is replaced
 *   predict: the data inputs only; output prediction (logits become probabilities under
 *            cross_entropy and bce)
 *   probe:   the data inputs only; one output a "probe" key, by its name
 * With train.ema, train keeps the state "ema.P" for each parameter P, and the others read "ema.P"
 * in the place of P. */
typedef enum BuildKind { BUILD_TRAIN, BUILD_EVAL, BUILD_PREDICT, BUILD_PROBE } BuildKind;
Status model_build(Ctx *cx, const Model *m, const DataShape *d, BuildKind kind, int batch,
                   Arena *arena, Graph **out);

/* First values of parameters and states, by input name (ST_VALUE for an unknown one): PyTorch's
 * initialisers from the model's seed; f32 packed, i32 counters. */
Status model_init_tensor(Ctx *cx, const Model *m, const DataShape *d, const char *name,
                         const Type *t, void *data);

/* The learning rate of step `step` (from 0) of `total` (0: not known): the `lr` input. */
double model_learning_rate(const Model *m, int64_t step, int64_t total);

/* For the layer table: name, type, output shape without the batch, parameter count. */
typedef struct LayerInfo {
    const char *name, *type;
    Shape out;
    int64_t params;
} LayerInfo;
Status model_layers(Ctx *cx, const Model *m, const DataShape *d, Arena *arena, LayerInfo **out,
                    int *n);

/* Written from the tables that the reader uses: docs/model.md and docs/model.schema.json. */
void model_describe(Strbuf *out);
void model_schema(Strbuf *out);

#endif
