#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""This tree keeps the rules of lint.py; and each rule finds a fault that is put into a clean tree."""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lint  # noqa: E402

SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
GUARD = "#ifndef GTC_H\n#define GTC_H\n{}\n#endif\n"

# A small clean tree.
CLEAN = {
    "ir/base/arena.h": SPDX + GUARD.format("void *arena_new(void);"),
    "ir/base/arena.c": SPDX + '#include <stdlib.h>\n#include "ir/base/arena.h"\n\n'
                              "void *arena_new(void)\n{\n    return malloc(8);\n}\n",
    "ir/graph.h": SPDX + '#include "ir/base/arena.h"\n',
    "ir/ops.def": SPDX + "EW( exp, 1, 0, F32, floats, exp, gtc_exp(x0) )\n"
                         "OP( sum, 1, REDUCE, 0, F32, reduce, axes, sum )\n",
    "ir/vjp_elementwise.c": SPDX + "void vjp_exp(Vjp *v, Ref y, Ref g)\n{\n}\n",
    "ir/op_reduce.c": SPDX + "void vjp_sum(Vjp *v, Ref y, Ref g)\n{\n    v->n = BUG(1);\n}\n",
    "ir/base/bug.h": SPDX + "#define BUG(n) false\n",
    "tests/seeded_bugs.def": SPDX + 'BUG( 1, "ir/op_reduce.c", graphs, "it is wrong" )\n',
    "passes/pass.h": SPDX + '#include "ir/graph.h"\n',
    "passes/passes.def": SPDX + 'PASS(cse, VERIFIED, NAMES, eager, "merge equal nodes")\n',
    "passes/cse.c": SPDX + "Status pass_cse(PassCx *pcx, const Graph *in, Graph *out)\n{\n    return ST_OK;\n}\n",
    "tests/gir/cse_one.gir": "# run: gtc opt --passes=cse\n",
    "codegen/kernel.h": SPDX + '#include "ir/graph.h"\n',
    "codegen/plan.c": SPDX + '#include "codegen/kernel.h"\n/* what an lstm needs */\nint plan_convert(void);\n',
    "codegen/stages.c": SPDX + "int stages(int op)\n{\n    switch (op) {\n    case OP_add:\n        return 1;\n    }\n"
                               "    return 0;\n}\n",
    "runtime/gtc.h": SPDX + '#include "ir/graph.h"\n',
    "runtime/compile.c": SPDX + '#include "codegen/kernel.h"\n#include "passes/pass.h"\n#include "runtime/gtc.h"\n',
    "models/model.h": SPDX + '#include "ir/graph.h"\n',
    "train/loop.c": SPDX + '#include "models/model.h"\n#include "runtime/gtc.h"\n',
    "cli/verbs.def": SPDX + 'VERB(train, "", 1, "train")\n',
    "cli/train.c": SPDX + '#include <stdio.h>\n#include "train/loop.h"\n\nint cli_train(void)\n{\n'
                          '    puts("done");\n    return 0;\n}\n',
    "train/loop.h": SPDX,
    "README.md": "# A tree\n",
    "quickstart": "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n",
}


def c(body):
    return SPDX + body


# (rule, where the fault is shown, what a clean file becomes or a new file is)
FAULTS = [
    ("layers", "ir/base/arena.c", c('#include "ir/graph.h"\n')),
    ("layers", "ir/graph.h", c('#include "passes/pass.h"\n')),
    ("layers", "passes/cse.c", CLEAN["passes/cse.c"] + '#include "codegen/kernel.h"\n'),
    ("layers", "codegen/plan.c", c('#include "passes/pass.h"\n')),
    ("layers", "codegen/plan.c", c('#  include "runtime/gtc.h"\n')),
    ("layers", "runtime/program.c", c('#include "passes/pass.h"\n')),
    ("layers", "runtime/program.c", c('#include "codegen/plan.h"\n')),
    ("layers", "models/model.h", c('#include "runtime/gtc.h"\n')),
    ("layers", "train/loop.c", c('#include "runtime/program.h"\n')),
    ("layers", "cli/train.c", CLEAN["cli/train.c"] + '#include "codegen/kernel.h"\n'),
    ("layers", "runtime/dev.c", c("#include <cuda.h>\n")),
    ("headers", "ir/graph.h", c("size_t graph_size(void);\n")),
    ("headers", "ir/graph.h", c("static inline int graph_one(void)\n{\n    return 1;\n}\n")),
    ("headers", "models/model.h", c("".join(f'#include "{h}"\n' for h in (
        "ir/graph.h", "ir/base/arena.h", "ir/graph.h", "ir/graph.h", "ir/graph.h", "ir/graph.h")))),
    ("sizes", "ir/graph.c", c("int x;\n" * 1501)),
    ("sizes", "ir/graph.c", c("int graph_big(void)\n{\n" + "    ;\n" * 149 + "}\n")),
    ("spdx", "ir/graph.c", "int x;\n"),
    ("spdx", "passes/passes.def", CLEAN["passes/passes.def"].split("\n", 1)[1]),
    ("spdx", "tests/test_x.py", "#!/usr/bin/env python3\nimport os\n"),
    ("format", "ir/graph.c", c("int x; \n")),
    ("format", "ir/graph.c", c("\tint x;\n")),
    ("format", "README.md", "# A tree"),
    ("format", "README.md", "# A tree\n\n"),
    ("calls", "ir/graph.c", c('int f(void)\n{\n    return system("ls");\n}\n')),
    ("calls", "runtime/jit.c", c('void f(void)\n{\n    popen("cc", "r");\n}\n')),
    ("calls", "cli/init.c", c('void f(void)\n{\n    sprintf(b, "%d", 1);\n}\n')),
    ("calls", "train/loop.c", c('void f(void)\n{\n    printf("hello");\n}\n')),
    ("calls", "train/loop.c", c('void f(void)\n{\n    fprintf(stderr, "hello");\n}\n')),
    ("calls", "ir/graph.c", c("void f(void)\n{\n    exit(1);\n}\n")),
    ("words", "ir/utils/list.c", c("")),
    ("words", "train/data_common.c", c("")),
    ("words", "README.md", "# Look in " + "/ho" + "me/me/x\n"),
    ("words", "ir/graph.c", c("/* from " + "py" + "pi.org */\n")),
    ("codegen_names", "codegen/plan.c", c("int plan_lstm(void);\n")),
    ("codegen_names", "codegen/plan.c", c('const char *x = "conv1d";\n')),
    ("codegen_names", "codegen/kernel.h", c("enum { ATTENTION };\n")),
    ("switches", "codegen/plan.c", c("int f(int op)\n{\n    switch (op) {\n    case OP_add:\n        return 1;\n    }\n}\n")),
    ("passes", "passes/passes.def", CLEAN["passes/passes.def"] + 'PASS(dce, VERIFIED, NAMES, eager, "drop")\n'),
    ("passes", "passes/passes.def", {"tests/gir/cse_one.gir": None}),
    ("passes", "passes/dce.c", c("Status pass_dce(PassCx *pcx, const Graph *in, Graph *out)\n{\n    return ST_OK;\n}\n")),
    ("ops", "ir/ops.def", CLEAN["ir/ops.def"] + "EW( log, 1, 0, F32, floats, log, gtc_log(x0) )\n"),
    ("ops", "ir/ops.def", CLEAN["ir/ops.def"] + "OP( fold, 1, REDUCE, 0, F32, fold, window, fold )\n"),
    ("ops", "ir/op_reduce.c", CLEAN["ir/op_reduce.c"] + "void vjp_old(Vjp *v, Ref y, Ref g)\n{\n}\n"),
    ("ops", "cli/verbs.def", CLEAN["cli/verbs.def"] + 'VERB(eval, "", 1, "score")\n'),
    ("bugs", "tests/seeded_bugs.def", CLEAN["tests/seeded_bugs.def"] * 2),
    ("bugs", "tests/seeded_bugs.def", CLEAN["tests/seeded_bugs.def"] + 'BUG( 2, "ir/op_reduce.c", graphs, "gone" )\n'),
    ("bugs", "tests/seeded_bugs.def", CLEAN["tests/seeded_bugs.def"].replace("op_reduce.c", "op_reduce.c ir/graph.c")),
    ("bugs", "ir/graph.c", c("int x = BUG(1);\n")),
    ("bugs", "ir/op_reduce.c", CLEAN["ir/op_reduce.c"] + "int x = BUG(3);\n"),
    ("scripts", "tests/run", "#!/bin/sh\n"),
]


def write(root, files):
    for path, text in files.items():
        full = os.path.join(root, path)
        if text is None:
            os.remove(full)
            continue
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as f:
            f.write(text)
    if "quickstart" in files:
        os.chmod(os.path.join(root, "quickstart"), 0o755)


def seeded(tmp):
    """Every rule finds its fault, where it is, and no rule finds one in the clean tree."""
    wrong = []
    clean = os.path.join(tmp, "clean")
    write(clean, CLEAN)
    for fault in lint.lint(lint.Tree(clean)):
        wrong.append(f"the clean tree: {fault}")
    for i, (rule, path, change) in enumerate(FAULTS):
        root = os.path.join(tmp, str(i))
        shutil.copytree(clean, root)
        write(root, change if isinstance(change, dict) else {path: change})
        found = lint.lint(lint.Tree(root), rule)
        if not any(f[0] == path for f in found):
            wrong.append(f"fault {i} of rule {rule} in {path} was not found; found {found}")
        shutil.rmtree(root)
    return wrong


def library(build, folder, source):
    name = os.path.join(build, "x.c")
    with open(name, "w", encoding="utf-8") as f:
        f.write(source)
    archive = os.path.join(build, f"libgtc_{folder.replace('/', '_')}.a")
    subprocess.run(["cc", "-fPIC", "-c", name, "-o", name + ".o"], check=True)
    if os.path.exists(archive):
        os.remove(archive)
    subprocess.run(["ar", "rc", archive, name + ".o"], check=True)


def seeded_symbols(tmp):
    wrong = []
    clean = os.path.join(tmp, "clean")
    good = {folder: f"int {nouns.split()[0]}_one(void) {{ return 1; }}\nconst int {nouns.split()[0]}_table[] = {{ 1 }};\n"
            for folder, nouns in lint.NOUNS.items()}
    for what, folder, source in [
        (None, None, None),
        ("has seeded bugs", "ir/base", "int bug_seeded(void) { return 1; }\n"),
        ("starts with no noun", "passes", "int helper_one(void) { return 1; }\n"),
        ("starts with no noun", "ir", "int graphical(void) { return 1; }\n"),
        ("global mutable state", "runtime", "static int calls; int gtc_run(void) { return ++calls; }\n"),
        ("global mutable state", "ir/base", "int arena_count = 3;\n"),
        ("global mutable state", "train", "static _Thread_local int n; int loader_n(void) { return ++n; }\n"),
        ("defines nothing", "models", "typedef int nothing;\n"),
    ]:
        build = os.path.join(tmp, "libraries")
        os.makedirs(build, exist_ok=True)
        with open(os.path.join(build, "CMakeCache.txt"), "w", encoding="utf-8") as cache:
            cache.write("GTC_SEEDED_BUGS:BOOL=OFF\n")
        for f, s in good.items():
            library(build, f, source if f == folder else s)
        found = lint.lint(lint.Tree(clean, build), "symbols")
        if what is None and found:
            wrong.append(f"clean libraries: {found}")
        if what and not any(what in f[3] and f[0] == folder for f in found):
            wrong.append(f"'{what}' in {folder} was not found; found {found}")
    os.remove(os.path.join(build, "libgtc_ir.a"))
    if not any(f[0] == "ir" for f in lint.lint(lint.Tree(clean, build), "symbols")):
        wrong.append("a missing library was not found")
    return wrong


def main():
    tested = {rule for rule, _, _ in FAULTS} | {"symbols"}
    wrong = [f"no fault is put in for rule {r.__name__}" for r in lint.RULES if r.__name__[5:] not in tested]
    with tempfile.TemporaryDirectory() as tmp:
        wrong += seeded(tmp)
        wrong += seeded_symbols(tmp)
    tree = lint.Tree(".", os.environ.get("GTC_BUILD_DIR", "build"))
    wrong += [f"{path}:{line}: {rule}: {what}" for path, line, rule, what in lint.lint(tree)]
    for warning in tree.warnings:
        print(f"warning: {warning}")
    for w in wrong:
        print(f"FAILED: {w}")
    print(f"{len(FAULTS)} seeded faults, {len(tree.text)} files, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
