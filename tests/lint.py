#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rules of the house that a program can check.

    lint.py [--build DIR] [ROOT]      one line a fault, `file:line: rule: what`; exit 1 if there is one

A rule is a function of the tree that yields faults; RULES lists them.  What a rule allows stands in
one table above it.  With --build the static libraries in DIR are looked at too (symbols, globals)."""
import argparse
import os
import re
import subprocess
import sys

# Who may include whom: a folder, its files that may see more, or a single header.
LAYERS = {
    "ir/base": ["ir/base"],
    "ir": ["ir", "ir/base"],
    "passes": ["passes", "ir", "ir/base"],
    "codegen": ["codegen", "ir", "ir/base"],
    "runtime": ["runtime", "ir", "ir/base", "codegen/kernel.h"],
    "runtime/compile.c": ["passes", "codegen"],
    "runtime/tune.c": ["passes", "codegen"],
    "models": ["models", "ir", "ir/base"],
    "train": ["train", "models", "ir", "ir/base", "runtime/gtc.h"],
    "cli": ["cli", "train", "models", "ir", "ir/base", "runtime/gtc.h", "runtime/cache.h"],
    "bench": ["bench", "train", "models", "ir", "ir/base", "runtime/gtc.h", "runtime/cache.h"],
}
LIBRARY = ["ir/base", "ir", "passes", "codegen", "runtime", "models", "train"]

# The nouns with which the extern symbols of a folder start; what users call starts with gtc_.
NOUNS = {
    "ir/base": "arena bug ctx hash log os philox4x32 rng size status strbuf",
    "ir": "attr autodiff bound build dtype eval graph infer nest op oracle round scan shape tensor type value vjp",
    "passes": "canon group pass rewrite",
    "codegen": "demand emit expr held ix kernel kir low map nest phase plan reg stages strips",
    "runtime": "app cache call cc cublaslt cuda cudnn device edge gtc jit library memplan nvml nvrtc program simt store team",
    "models": "cell json key keys layer loss model optimizer",
    "train": "bundle checkpoint column csv data date feed idx loader metrics npy number part random report"
             " scaler score segment session source text train verify wav window",
}
# Writable variables, each with its reason.
GLOBALS = {
    "ir/base out_of_memory": "the one handler of arena growth, installed by the program",
    "ir/base seeded": "the seeded bug that is awake; in a build with seeded bugs only",
    "runtime open_driver": "simt: a process has one CUDA driver, whose calls carry no handle of it",
    "ir turn": "shape_str: the ring of buffers of a thread",
    "ir buf": "shape_str: the ring of buffers of a thread",
}
# Who may print or end the process: the answers to an exhausted host and to a mistake of gtc's own.
ENDS = {"ir/base/arena.c": "exit abort fprintf", "ir/base/status.c": "exit fprintf vfprintf fputc"}
# Layers, whose names mean nothing to codegen.
LAYER_NAMES = "lstm gru conv conv1d conv2d attention dense batch_norm batchnorm"
# Files that decide by op: codegen/stages by design; ir/graph.c has the ops with a body or a part.
OP_SWITCHES = ["codegen/stages_demand.c", "codegen/stages.c", "ir/graph.c"]

C_NAMES = (".c", ".h", ".def", ".inc")
MAX_FILE, WARN_FILE, MAX_FUNCTION, MAX_INCLUDES, MAX_LINE = 1500, 800, 150, 5, 100


class Tree:
    """The files of a source tree: path -> text, read once."""

    def __init__(self, root, build=None):
        self.root, self.build = root, build
        self.warnings = []
        self.text = {}
        for path in self.list():
            try:
                with open(os.path.join(root, path), encoding="utf-8") as f:
                    self.text[path] = f.read()
            except UnicodeDecodeError:
                pass  # data

    def list(self):
        git = subprocess.run(["git", "-C", self.root, "ls-files", "-co", "--exclude-standard"],
                             capture_output=True, text=True, check=False)
        if git.returncode == 0 and git.stdout:
            return sorted(p for p in set(git.stdout.splitlines()) if os.path.isfile(os.path.join(self.root, p)))
        found = []
        for folder, subs, names in os.walk(self.root):
            subs[:] = sorted(s for s in subs if not s.startswith("build") and s not in (".git", "runs", ".gtc"))
            found += [os.path.relpath(os.path.join(folder, n), self.root) for n in sorted(names)]
        return sorted(found)

    def has_bugs(self):
        with open(os.path.join(self.build, "CMakeCache.txt"), encoding="utf-8") as f:
            return "GTC_SEEDED_BUGS:BOOL=ON" in f.read()

    def files(self, *suffixes, folders=None):
        for path in self.text:
            if path.endswith(suffixes) and (folders is None or os.path.dirname(path) in folders):
                yield path, self.text[path]


def blank(text, strings=True):
    """The text with comments (and strings) as spaces, so that offsets and lines stay."""
    def spaces(m):
        s = m.group(0)
        return s if s[0] in "\"'" and not strings else re.sub(r"[^\n]", " ", s)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', spaces, text, flags=re.S)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def includes(text):
    for m in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', text, re.M):
        yield line_of(text, m.start()), m.group(1), m.group(2)


def rule_layers(tree):
    for path, text in tree.files(*C_NAMES):
        folder = os.path.dirname(path)
        if folder not in LAYERS:
            continue
        allowed = LAYERS[folder] + LAYERS.get(path, [])
        for line, kind, name in includes(text):
            if kind == '"' and name not in allowed and os.path.dirname(name) not in allowed:
                yield path, line, f"{folder} may not include {name}"
            elif kind == "<" and re.match(r"(cuda|nv|cublas|cudnn|omp\.h)", name):
                yield path, line, f"no code of gtc includes <{name}>"


def rule_headers(tree):
    for path, text in tree.files(".h"):
        own = [name for _, kind, name in includes(text) if kind == '"']
        if len(own) > MAX_INCLUDES:
            yield path, 1, f"{len(own)} project includes, more than {MAX_INCLUDES}"
        if not path.startswith("tests/"):
            m = re.search(r"^\{", blank(text), re.M)
            if m:
                yield path, line_of(text, m.start()), "a header has no code beyond one-line inlines"
        cc = subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-I", tree.root,
                             "-fsyntax-only", "-Wno-unused-function", "-include", path, "-x", "c", os.devnull],
                            capture_output=True, text=True, cwd=tree.root, env={"PATH": os.environ["PATH"]}, check=False)
        if cc.returncode:
            why = [l for l in cc.stderr.splitlines() if "error" in l] or ["?"]
            yield path, 1, "does not compile alone: " + why[0]


def functions(text):
    """(line, lines) of each function body, from its brace in column 0 to the other."""
    start = None
    for number, line in enumerate(blank(text).split("\n"), 1):
        if line.rstrip() == "{":
            start = number
        elif line.rstrip() == "}" and start is not None:
            yield start, number - start + 1
            start = None


def rule_sizes(tree):
    for path, text in tree.files(".c", ".h", ".inc", ".py"):
        lines = text.count("\n")
        if lines > MAX_FILE:
            yield path, 1, f"{lines} lines, more than {MAX_FILE}"
        elif lines > WARN_FILE and path.endswith(".c"):
            tree.warnings.append(f"{path}: {lines} lines, more than {WARN_FILE}: could it be two files?")
        if path.endswith((".c", ".h")):
            for line, count in functions(text):
                if count > MAX_FUNCTION:
                    yield path, line, f"a function of {count} lines, more than {MAX_FUNCTION}"


def rule_spdx(tree):
    for path, text in tree.files(*C_NAMES, ".py", ".sh", "CMakeLists.txt", "quickstart", ".ci/run"):
        top = text.split("\n", 2)[:2]
        if not any("SPDX-License-Identifier: Apache-2.0" in t for t in (top if text.startswith("#!") else top[:1])):
            yield path, 1, "no SPDX line on top"


def rule_format(tree):
    for path, text in tree.files(*C_NAMES, ".py", ".sh", ".md", ".json", ".txt", ".gir", "quickstart", ".ci/run"):
        if not text.endswith("\n") or text.endswith("\n\n"):
            yield path, text.count("\n") or 1, "ends with one newline, no more, no less"
        long = 0
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                yield path, number, "white space at the end of the line"
            if "\t" in line and path.endswith(C_NAMES):
                yield path, number, "a tab"
            long += path.endswith((".c", ".h")) and len(line) > MAX_LINE
        if long:
            tree.warnings.append(f"{path}: {long} lines of more than {MAX_LINE} columns")


def rule_calls(tree):
    never = r"\b(system|popen|gets|sprintf|vsprintf|strcpy|strcat|alloca)\s*\("
    ends = r"\b(printf|puts|putchar|perror|vprintf|exit|_exit|quick_exit|abort|fprintf|vfprintf|fputs|fputc|putc)\s*\("
    for path, text in tree.files(".c", ".h", folders=LIBRARY + ["cli", "bench"]):
        code = blank(text)
        for m in re.finditer(never, code):
            yield path, line_of(code, m.start()), f"{m.group(1)}() is never called"
        if os.path.dirname(path) not in LIBRARY:
            continue
        allowed = ENDS.get(path, "").split()
        for m in re.finditer(ends, code):
            streams = m.group(1) in ("fprintf", "vfprintf", "fputs", "fputc", "putc")
            if m.group(1) not in allowed and not (streams and not re.search(r"\bstd(out|err)\b", code[m.end():m.end() + 200].split(";")[0])):
                yield path, line_of(code, m.start()), f"the library never prints or exits: {m.group(1)}()"


def rule_words(tree):
    places = re.compile(r"(?<![\w.~}])/(?:work|home|root|Users|mnt)/|\b(?:pypi|npmjs|pythonhosted|anaconda)\.\w+|\bproxy\.golang")
    for path, text in tree.files(""):
        parts = re.split(r"[/._]", path)
        for word in ("utils", "util", "common", "misc", "helpers", "helper"):
            if word in parts:
                yield path, 1, f"a name that only collects: {word}"
        if path.startswith("tests/lint") or path.startswith("tests/test_lint"):
            continue
        for m in places.finditer(text):
            yield path, line_of(text, m.start()), f"names a machine or a package host: {m.group(0)}"


def rule_codegen_names(tree):
    names = re.compile(r"(?<![a-zA-Z0-9])(" + "|".join(LAYER_NAMES.split()) + r")(?![a-zA-Z0-9])", re.I)
    for path, text in tree.files(".c", ".h", ".inc", folders=["codegen"]):
        code = blank(text, strings=False)
        for m in names.finditer(code):
            yield path, line_of(code, m.start()), f"codegen knows no layer: {m.group(1)}"


def rule_switches(tree):
    for path, text in tree.files(".c", ".h", folders=LIBRARY):
        m = re.search(r"\bcase\s+OP_\w+", blank(text))
        if m and path not in OP_SWITCHES:
            yield path, line_of(text, m.start()), "a switch over ops outside codegen/stages"


def rows(tree, path, macro):
    text = tree.text.get(path, "")
    for m in re.finditer(r"^" + macro + r"\(\s*(\w+)\s*,(.*)$", blank(text, strings=False), re.M):
        yield line_of(text, m.start()), m.group(1), [f.strip() for f in m.group(2).rstrip(") \t").split(",")]


def defines(text, name):
    """Whether name is defined as a function here, by hand or by a macro that takes its noun-less part."""
    return re.search(r"^[\w \*]*\b" + name + r"\([^;{]*\)\s*\{", blank(text), re.M) is not None


def rule_passes(tree):
    known = set()
    for line, name, _ in rows(tree, "passes/passes.def", "PASS"):
        known.add(name)
        if not defines(tree.text.get(f"passes/{name}.c", ""), f"pass_{name}"):
            yield "passes/passes.def", line, f"{name}: no passes/{name}.c with pass_{name}"
        if not any(p.startswith(f"tests/gir/{name}") for p in tree.text):
            yield "passes/passes.def", line, f"{name}: no golden test tests/gir/{name}*.gir"
    for path, text in tree.files(".c", folders=["passes"]):
        for m in re.finditer(r"^Status pass_(\w+)\(PassCx \*\w+, const Graph", text, re.M):
            if m.group(1) not in known:
                yield path, line_of(text, m.start()), f"pass_{m.group(1)} has no row in passes.def"


def rule_ops(tree):
    sources = {p: t for p, t in tree.files(".c", folders=["ir"])}
    used = set()
    ops = [(macro, *row) for macro in ("OP", "EW") for row in rows(tree, "ir/ops.def", macro)]
    for macro, line, name, fields in ops:
        elementwise = macro == "EW"
        grad = fields[4] if elementwise else fields[6].split(")")[0].strip()
        used.add(grad)
        homes = ["ir/vjp_elementwise.c"] if elementwise else [p for p in sources if p.startswith(("ir/op_", "ir/autodiff"))]
        if grad not in ("none", "zero") and not any(re.search(rf"\bvjp_{grad}\(Vjp ", sources.get(p, "")) for p in homes):
            yield "ir/ops.def", line, f"{name}: no vjp_{grad} in {homes[0] if elementwise else 'ir/op_*.c'}"
    for path in sources:
        for m in re.finditer(r"^void vjp_(\w+)\(Vjp \*v, Ref y, Ref g\)", sources[path], re.M):
            if ops and m.group(1) not in used:
                yield path, line_of(sources[path], m.start()), f"vjp_{m.group(1)} is the gradient of no op"
    for line, name, _ in rows(tree, "cli/verbs.def", "VERB"):
        if not defines(tree.text.get(f"cli/{name}.c", ""), f"cli_{name}"):
            yield "cli/verbs.def", line, f"{name}: no cli/{name}.c with cli_{name}"


def rule_bugs(tree):
    """Every row of seeded_bugs.def has its sites, in the files it names, and every site its row."""
    table = "tests/seeded_bugs.def"
    places, sites = {}, {}
    for line, number, fields in rows(tree, table, "BUG"):
        if number in places:
            yield table, line, f"bug {number} stands here twice"
        places[number] = (line, fields[0].strip('"').split())
    for path, text in tree.files(".c", ".h", folders=LIBRARY):
        for m in re.finditer(r"\bBUG\((\w+)\)", blank(text)):
            if path == "ir/base/bug.h":
                continue
            sites.setdefault(m.group(1), set()).add(path)
            if path not in places.get(m.group(1), (0, []))[1]:
                yield path, line_of(text, m.start()), f"BUG({m.group(1)}) has no row in {table} that names this file"
    for number, (line, paths) in places.items():
        for path in paths:
            if path not in sites.get(number, ()):
                yield table, line, f"there is no BUG({number}) in {path}"


def rule_scripts(tree):
    for path, text in tree.files(""):
        if text.startswith("#!") and not os.access(os.path.join(tree.root, path), os.X_OK):
            yield path, 1, "starts with #! and is not executable"


def symbols(tree, folder):
    """(name, type, section) of what the folder's library defines; those of sanitizers left out."""
    library = os.path.join(tree.build, f"libgtc_{folder.replace('/', '_')}.a")
    out = subprocess.run(["nm", "--format=sysv", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    for row in out.splitlines():
        f = [c.strip() for c in row.split("|")]
        if len(f) == 7 and f[2] and not re.match(r"__(odr_)?asan|_sub_[ID]_|\.L|asan\.|__ubsan", f[0]) and f[0] != "Name":
            yield f[0], f[2], f[6]


def rule_symbols(tree):
    if not tree.build:
        return
    for folder in LIBRARY:
        nouns = NOUNS[folder].split()
        try:
            found = list(symbols(tree, folder))
        except (OSError, subprocess.CalledProcessError) as e:
            yield folder, 1, f"nm: {e}"
            continue
        if not found:
            yield folder, 1, "its library defines nothing"
        for name, kind, section in found:
            if name == "bug_seeded" and not tree.has_bugs():
                yield folder, 1, "a build that did not ask for them has seeded bugs"
            if kind.isupper() and kind not in "UN" and not any(name == n or name.startswith(n + "_") for n in nouns):
                yield folder, 1, f"extern symbol {name} starts with no noun of {folder}"
            if re.match(r"\.(data|bss|tdata|tbss)", section) and ".rel.ro" not in section:
                # a static of a function is NAME.1 with gcc, FUNCTION.NAME with clang
                if not any(f"{folder} {part}" in GLOBALS for part in name.split(".")) and not re.match(r"_ZL|\.?Lubsan|ubsan", name, re.I):
                    yield folder, 1, f"global mutable state: {name} in {section}"


RULES = [rule_layers, rule_headers, rule_sizes, rule_spdx, rule_format, rule_calls, rule_words,
         rule_codegen_names, rule_switches, rule_passes, rule_ops, rule_bugs, rule_scripts, rule_symbols]


def lint(tree, only=None):
    """Every fault of the tree as (path, line, rule, what); only: of this rule."""
    named = [(rule.__name__[len("rule_"):], rule) for rule in RULES]
    return [(path, line, name, what) for name, rule in named if only in (None, name) for path, line, what in rule(tree)]


def main():
    ap = argparse.ArgumentParser(description="check the rules of the house")
    ap.add_argument("--build", help="the build folder with the static libraries")
    ap.add_argument("root", nargs="?", default=".")
    args = ap.parse_args()
    tree = Tree(args.root, args.build)
    faults = lint(tree)
    for path, line, rule, what in faults:
        print(f"{path}:{line}: {rule}: {what}")
    for warning in tree.warnings:
        print(f"warning: {warning}")
    print(f"{len(tree.text)} files, {len(RULES)} rules, {len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
