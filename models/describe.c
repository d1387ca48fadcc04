/* SPDX-License-Identifier: Apache-2.0 */
/* describe: what model.json may hold, as Markdown for people and as a JSON schema for editors. Both
 * walk the rows that the reader walks, so they cannot say anything else. */
#include "models/layer.h"

#include <stdlib.h>
#include <string.h>

/* ---- Markdown ---- */

static void print_wants(const KeyInfo *k, Strbuf *out)
{
    static const char *const type[] = {
        [KEY_INT] = "integer",
        [KEY_LONG] = "integer",
        [KEY_NUM] = "number",
        [KEY_BOOL] = "`true` or `false`",
        [KEY_STR] = "string",
        [KEY_STRS] = "string or list of strings",
        [KEY_DIMS] = "integer or list of integers",
    };
    if (k->type == KEY_OTHER) {
        strbuf_add(out, k->constraint);
    } else if (k->type == KEY_ENUM || (k->type == KEY_STR && k->constraint)) {
        keys_print_choices(k->constraint, "`", ", ", out);
    } else {
        strbuf_add(out, type[k->type]);
        if (k->constraint)
            strbuf_printf(out, " %s", k->constraint);
    }
}

static bool is_required(const KeyInfo *k)
{
    return k->deflt && strcmp(k->deflt, REQUIRED) == 0;
}

static void print_default(const KeyInfo *k, Strbuf *out)
{
    if (is_required(k))
        strbuf_add(out, "required");
    else if (k->deflt)
        strbuf_printf(out, "`%s`", k->deflt);
}

/* A table of the section's keys; nothing when it has none. */
static void print_section(const KeyTable *t, const char *section, Strbuf *out)
{
    bool first = true;
    for (int i = 0; i < t->n; i++) {
        const KeyInfo *k = &t->row[i];
        if (strcmp(k->section, section) != 0)
            continue;
        if (first)
            strbuf_add(out, "\n| key | value | default | meaning |\n|---|---|---|---|\n");
        first = false;
        strbuf_printf(out, "| `%s` | ", k->key);
        print_wants(k, out);
        strbuf_add(out, " | ");
        print_default(k, out);
        strbuf_printf(out, " | %s |\n", k->help);
    }
}

static void print_types(const KeyTable *t, const TypeInfo *type, int n, Strbuf *out)
{
    for (int i = 0; i < n; i++) {
        strbuf_printf(out, "\n### `%s`\n\n%s.\n", type[i].name, type[i].help);
        print_section(t, type[i].name, out);
    }
}

/* The objects inside a cell's "weights" have keys of their own. */
static void print_inner(const char *type, Strbuf *out)
{
    if (strcmp(type, "cell") != 0)
        return;
    strbuf_add(out, "\nA weight may be an object:\n");
    print_section(&key_layers, "cell_weight", out);
}

static const char intro[] =
    "# model.json\n\n"
    "<!-- Written by model_describe from the tables in models/*.def; change those. -->\n\n"
    "One JSON object describes the data, the network, the loss and the training.  Reading is\n"
    "strict: unknown keys, duplicate keys, comments and trailing commas are errors, which name\n"
    "file, line, column and JSON pointer.  Any value can be set from the command line, as in\n"
    "`--set train.epochs=3`, `--set layers[1].units=8` or `--set layers.lstm.units=8`.\n"
    "A schema for editors is `docs/model.schema.json`.\n\n"
    "| key | meaning |\n|---|---|\n"
    "| `name` | names the run; `model` when absent |\n"
    "| `data` | required: where samples come from and how they are cut, scaled and split |\n"
    "| `layers` | required: the network, a list |\n"
    "| `loss` | required: what is made small |\n"
    "| `optimizer` | how; `{\"type\": \"adam\"}` when absent |\n"
    "| `train` | how long, in which batches |\n";

static const char data_intro[] =
    "\n## data\n\n"
    "Exactly one of `csv`, `npy`, `idx`, `wav`, `text`, `random`.  Paths are tried against each\n"
    "`--data-dir`, then `GTC_DATA_DIR`, then the folder of the model file.  With `cross_entropy` "
    "the\n"
    "target is a class: text, or whole numbers.\n";

static const char layers_intro[] =
    "\n## layers\n\n"
    "Layers form a graph by names: `input` is the name of an earlier layer or of a data input, or "
    "a\n"
    "list of names.  Shapes are without the batch; channels come last.  Parameters are named and\n"
    "shaped as in PyTorch: `NAME.weight` (out, in), `NAME.weight_ih_l0` and so on.  Every layer "
    "must\n"
    "lead to the prediction.\n\n"
    "A layer, loss or optimizer with the name of one of PyTorch's is that one: tests compare outputs "
    "and\n"
    "gradients of all of them with what PyTorch gave.  Where one differs, or PyTorch has none, its "
    "text\n"
    "says so.  What always differs is the order of axes: PyTorch's (C, T) and (C, H, W) are (T, C) "
    "and\n"
    "(H, W, C).\n\n"
    "All layers have\n";

void model_describe(Strbuf *out)
{
    strbuf_add(out, intro);
    strbuf_add(out, data_intro);
    print_section(&key_data, "data", out);
    strbuf_add(out, "\n### npy\n");
    print_section(&key_data, "npy", out);
    strbuf_add(out, "\n### idx\n");
    print_section(&key_data, "idx", out);
    strbuf_add(out, "\n### mix\n");
    print_section(&key_data, "mix", out);
    strbuf_add(out, "\n### segment\n");
    print_section(&key_data, "segment", out);
    strbuf_add(out,
               "\n### random\n\nAll other keys are data inputs: `\"x\": [60, 8]` is its shape, "
               "`\"y\": [1]` the target's.\n");
    print_section(&key_data, "random", out);
    strbuf_add(out, layers_intro);
    print_section(&key_layers, "layer", out);
    for (int i = 0; i < layer_ntypes; i++) {
        const LayerType *t = &layer_types[i];
        strbuf_printf(out, "\n### `%s`\n\n%s%s.\n", t->name, t->help,
                      t->ninput == LAYER_SEVERAL ? "; takes two inputs or more"
                      : t->ninput == LAYER_PAIR  ? "; takes one input or two"
                      : t->ninput == LAYER_ANY   ? "; takes one input or more"
                                                 : "");
        print_section(&key_layers, t->name, out);
        print_inner(t->name, out);
    }
    strbuf_add(out, "\n## loss\n\n`type` is one of the following.  All have\n");
    print_section(&key_losses, "loss", out);
    print_types(&key_losses, loss_types, loss_ntypes, out);
    strbuf_add(out, "\n## optimizer\n\n`type` is one of the following.  All have\n");
    print_section(&key_optimizers, "optimizer", out);
    print_types(&key_optimizers, optimizer_types, optimizer_ntypes, out);
    strbuf_add(out, "\n## train\n");
    print_section(&key_train, "train", out);
}

/* ---- schema ---- */

/* "minimum" and the like from ">= 1", "> 0", "in [0, 1)". */
static void print_bounds(const char *constraint, Strbuf *out)
{
    if (!constraint)
        return;
    if (strncmp(constraint, ">= ", 3) == 0) {
        strbuf_printf(out, ", \"minimum\": %s", constraint + 3);
    } else if (strncmp(constraint, "> ", 2) == 0) {
        strbuf_printf(out, ", \"exclusiveMinimum\": %s", constraint + 2);
    } else {
        char *end;
        const double lo = strtod(constraint + 4, &end), hi = strtod(end + 1, &end);
        strbuf_printf(out, ", \"minimum\": %g, \"%s\": %g", lo,
                      *end == ']' ? "maximum" : "exclusiveMaximum", hi);
    }
}

static void schema_value(const KeyInfo *k, Strbuf *out)
{
    static const char string[] = "{\"type\": \"string\", \"minLength\": 1}";
    switch (k->type) {
    case KEY_INT:
    case KEY_LONG:
    case KEY_NUM:
        strbuf_printf(out, "\"type\": \"%s\"", k->type == KEY_NUM ? "number" : "integer");
        print_bounds(k->constraint, out);
        break;
    case KEY_BOOL:
        strbuf_add(out, "\"type\": \"boolean\"");
        break;
    case KEY_STR:
    case KEY_ENUM:
        if (!k->constraint) {
            strbuf_add(out, "\"type\": \"string\", \"minLength\": 1");
            break;
        }
        strbuf_add(out, "\"enum\": [");
        keys_print_choices(k->constraint, "\"", ", ", out);
        strbuf_putc(out, ']');
        break;
    case KEY_STRS:
        strbuf_printf(out, "\"anyOf\": [%s, {\"type\": \"array\", \"minItems\": 1, \"items\": %s}]",
                      string, string);
        break;
    case KEY_DIMS:
        strbuf_add(out, "\"anyOf\": [{\"type\": \"integer\"");
        print_bounds(k->constraint, out);
        strbuf_add(out, "}, {\"type\": \"array\", \"minItems\": 1, \"maxItems\": 3, \"items\": "
                        "{\"type\": \"integer\"");
        print_bounds(k->constraint, out);
        strbuf_add(out, "}}]");
        break;
    case KEY_OTHER: /* the reader's own code checks it */
        return;
    }
    strbuf_add(out, ", ");
}

static void schema_keys(const KeyTable *t, const char *section, const char *indent, Strbuf *out,
                        const char **sep)
{
    for (int i = 0; i < t->n; i++) {
        const KeyInfo *k = &t->row[i];
        if (strcmp(k->section, section) != 0 || strcmp(k->key, "type") == 0)
            continue;
        strbuf_printf(out, "%s\n%s  ", *sep, indent);
        json_print_string(k->key, out);
        strbuf_add(out, ": {");
        schema_value(k, out);
        if (k->deflt && !is_required(k))
            strbuf_printf(out, "\"default\": %s, ", k->deflt);
        strbuf_add(out, "\"description\": ");
        json_print_string(k->help, out);
        strbuf_putc(out, '}');
        *sep = ",";
    }
}

static void schema_required(const KeyTable *t, const char *section, bool type, Strbuf *out)
{
    const char *sep = "";
    strbuf_add(out, "\"required\": [");
    if (type) {
        strbuf_add(out, "\"type\"");
        sep = ", ";
    }
    for (int i = 0; i < t->n; i++) {
        if (strcmp(t->row[i].section, section) == 0 && is_required(&t->row[i])) {
            strbuf_printf(out, "%s\"%s\"", sep, t->row[i].key);
            sep = ", ";
        }
    }
    strbuf_add(out, "]");
}

/* An object with the keys of `section` and `common`; type: its "type", NULL for none. */
static void schema_object(const KeyTable *t, const char *section, const char *common,
                          const char *type, const char *help, const char *indent, Strbuf *out)
{
    const char *sep = "";
    strbuf_add(out, "{\"type\": \"object\", \"additionalProperties\": false");
    if (help) {
        strbuf_add(out, ", \"description\": ");
        json_print_string(help, out);
    }
    strbuf_printf(out, ",\n%s ", indent);
    schema_required(t, section, type != NULL, out);
    strbuf_printf(out, ",\n%s \"properties\": {", indent);
    if (type) {
        strbuf_printf(out, "\n%s  \"type\": {\"const\": \"%s\"}", indent, type);
        sep = ",";
    }
    if (common)
        schema_keys(t, common, indent, out, &sep);
    schema_keys(t, section, indent, out, &sep);
    strbuf_add(out, "}}");
}

static void schema_types(const KeyTable *t, const TypeInfo *type, int n, const char *common,
                         Strbuf *out)
{
    strbuf_add(out, "{\"oneOf\": [");
    for (int i = 0; i < n; i++) {
        strbuf_add(out, i ? ",\n    " : "\n    ");
        schema_object(t, type[i].name, common, type[i].name, type[i].help, "    ", out);
    }
    strbuf_add(out, "]}");
}

void model_schema(Strbuf *out)
{
    strbuf_add(out,
               "{\"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
               " \"title\": \"gtc model\", \"type\": \"object\", \"additionalProperties\": false,\n"
               " \"required\": [\"data\", \"layers\", \"loss\"],\n \"properties\": {\n"
               "  \"name\": {\"type\": \"string\", \"minLength\": 1, \"default\": \"model\"},\n"
               "  \"data\": ");
    schema_object(&key_data, "data", NULL, NULL, NULL, "  ", out);
    strbuf_add(out,
               ",\n  \"layers\": {\"type\": \"array\", \"minItems\": 1, \"items\": {\"oneOf\": [");
    for (int i = 0; i < layer_ntypes; i++) {
        const LayerType *l = &layer_types[i];
        strbuf_add(out, i ? ",\n    " : "\n    ");
        schema_object(&key_layers, l->name, "layer", l->name, l->help, "    ", out);
    }
    strbuf_add(out, "]}},\n  \"loss\": ");
    schema_types(&key_losses, loss_types, loss_ntypes, "loss", out);
    strbuf_add(out, ",\n  \"optimizer\": ");
    schema_types(&key_optimizers, optimizer_types, optimizer_ntypes, "optimizer", out);
    strbuf_add(out, ",\n  \"train\": ");
    schema_object(&key_train, "train", NULL, NULL, NULL, "  ", out);
    strbuf_add(out, "}}\n");
}
