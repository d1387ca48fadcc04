#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tests still bite: a few seeded bugs, one a part of gtc, are found by the graph fuzzer within its
first graphs, in one that is no mismatch without the bug.

Builds the fuzzer with seeded bugs in a folder of its own beside the build under test.  All bugs, and how
soon each is found: tests/seeded_bugs.py."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import seeded_bugs  # noqa: E402

# Each was found within 4 graphs when this was written; how graphs grow may change that a little.
SAMPLE, GRAPHS = ["3", "22", "37", "59"], 12


def build(beside):
    """fuzz-graphs with seeded bugs, by the compiler that made `beside`."""
    with open(os.path.join(beside, "CMakeCache.txt"), encoding="utf-8") as f:
        cache = dict(re.findall(r"^(CMAKE_C_COMPILER|CMAKE_C_COMPILER_LAUNCHER|CMAKE_GENERATOR):\w+=(.+)$", f.read(), re.M))
    folder = os.path.join(beside, "bugs")
    options = [f"-D{key}={value}" for key, value in cache.items() if key != "CMAKE_GENERATOR"]
    subprocess.run(["cmake", "-S", seeded_bugs.ROOT, "-B", folder, "-G", cache["CMAKE_GENERATOR"], "-DCMAKE_BUILD_TYPE=Release",
                    "-DGTC_SEEDED_BUGS=ON", *options], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--target", "fuzz-graphs"], check=True, stdout=subprocess.DEVNULL)
    return seeded_bugs.Fuzzer(folder)


def main():
    fuzzer = build(os.path.abspath(os.environ.get("GTC_BUILD_DIR", "build")))
    bugs = seeded_bugs.read_table()
    wrong = 0
    for bug in SAMPLE:
        graph, words = fuzzer.find(bug, 1, GRAPHS)
        print(f"bug {bug}, {bugs[bug][2]}: graph {graph}: {words or 'NOT FOUND'}"[:200])
        wrong += not words
    print(f"{len(SAMPLE)} bugs, {wrong} wrong")
    return 1 if wrong or not SAMPLE else 0


if __name__ == "__main__":
    sys.exit(main())
