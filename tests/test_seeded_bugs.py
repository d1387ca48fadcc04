#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tests still bite: a few seeded bugs, one a part of gtc, are found by the graph fuzzer within its
first graphs, in one that is no mismatch without the bug; and gtc verify names the kernel that a bug
makes wrong, and its layer.

Builds the fuzzer and gtc with seeded bugs in a folder of its own beside the build under test.  All bugs, and how
soon each is found: tests/seeded_bugs.py."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import seeded_bugs  # noqa: E402
import test_verify  # noqa: E402

# Each was found within 4 graphs when this was written; how graphs grow may change that a little.
SAMPLE, GRAPHS = ["3", "22", "37", "59"], 12

# For gtc verify: bug, zoo model (as small as test_verify makes it), what the guilty kernel's name
# begins with, its layer.
GUILTY = [
    ("39", "pm25_cnn_lstm.json", "conv1d_", "conv"),
    ("42", "fashion_cnn.json", "conv2d_", "conv1"),
    ("48", "lstm_attention.json", "lstm_bwd_", "lstm"),
]


def build(beside):
    """The folder of fuzz-graphs and gtc with seeded bugs, by the compiler that made `beside`."""
    with open(os.path.join(beside, "CMakeCache.txt"), encoding="utf-8") as f:
        cache = dict(re.findall(r"^(CMAKE_C_COMPILER|CMAKE_C_COMPILER_LAUNCHER|CMAKE_GENERATOR):\w+=(.+)$", f.read(), re.M))
    folder = os.path.join(beside, "bugs")
    options = [f"-D{key}={value}" for key, value in cache.items() if key != "CMAKE_GENERATOR"]
    subprocess.run(["cmake", "-S", seeded_bugs.ROOT, "-B", folder, "-G", cache["CMAKE_GENERATOR"], "-DCMAKE_BUILD_TYPE=Release",
                    "-DGTC_SEEDED_BUGS=ON", *options], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--target", "fuzz-graphs", "gtc"], check=True, stdout=subprocess.DEVNULL)
    return folder


def named_by_verify(folder, bug, model, kernel, layer):
    """Whether gtc verify with that bug names the kernel and the layer."""
    env = seeded_bugs.Fuzzer(folder).environment(bug, os.path.join(folder, "verify-cache"))
    os.makedirs(env["GTC_CACHE_DIR"], mode=0o700, exist_ok=True)
    test_verify.GTC = os.path.join(folder, "gtc")
    p, report = test_verify.verify(model, env=env)
    bad = report.get("first_bad") or {}
    print(f"bug {bug}, verify {model}: {bad.get('kernel')} of layer {bad.get('layer')}: {bad.get('what')}"[:200])
    return p.returncode == 70 and bad.get("kernel", "").startswith(kernel) and bad.get("layer") == layer


def main():
    folder = build(os.path.abspath(os.environ.get("GTC_BUILD_DIR", "build")))
    fuzzer = seeded_bugs.Fuzzer(folder)
    bugs = seeded_bugs.read_table()
    wrong = 0
    for bug in SAMPLE:
        graph, words = fuzzer.find(bug, 1, GRAPHS)
        print(f"bug {bug}, {bugs[bug][2]}: graph {graph}: {words or 'NOT FOUND'}"[:200])
        wrong += not words
    for case in GUILTY:
        if not named_by_verify(folder, *case):
            print(f"verify with bug {case[0]}: WANTED kernel {case[2]}.. of layer {case[3]}")
            wrong += 1
    print(f"{len(SAMPLE)} bugs looked for by graphs, {len(GUILTY)} by verify, {wrong} wrong")
    return 1 if wrong or not SAMPLE or not GUILTY else 0


if __name__ == "__main__":
    sys.exit(main())
