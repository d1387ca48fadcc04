#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How many of the seeded bugs the graph fuzzer finds, and how soon.

    seeded_bugs.py [--build DIR] [--count N] [--seed S] [--jobs J] [--write] [BUG ..]

Each bug of seeded_bugs.def is made in turn (GTC_BUG=n) and random graphs S, S + 1 .. are run until
one is a mismatch, at most N of them: with every test of the oracle, without its bounds, without its
RMSE.  Then the graphs run without any bug, and none may be a mismatch.  Bugs that name a test
instead are looked for by that test.  DIR is a build of the preset `bugs`; results are kept in
DIR/seeded_bugs.json, so a run that was stopped goes on, and one with a greater N goes on behind the
graphs of the last; who changes gtc or the fuzzer removes that file.  --write puts the table of all
results into docs/testing.md."""
import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(ROOT, "tests", "seeded_bugs.def")
DOC = os.path.join(ROOT, "docs", "testing.md")
BEGIN, END = "<!-- seeded bugs: begin -->\n", "<!-- seeded bugs: end -->\n"

# The oracle with all its tests, and without one of them.
WAYS = {"all": [], "no bound": ["--without", "bound"], "no rmse": ["--without", "rmse"]}
STALE = "58"  # what is left in the cache by this one is not for others

# What found it, from the words of the mismatch: the first that fits.
FOUND_BY = [
    (r"^grad |: grad ", "slope"), (r"the book says", "book"), (r"no end after", "time limit"), (r"^died|signal", "crash"),
    (r"gtc is wrong", "assertion"), (r"last resort|KIR", "KIR verifier"), (r"does not compile", "verifier"),
    (r"autodiff|eval:|shapes differ", "failed build"), (r"^ended", "passes"), (r"RMSE", "RMSE"), (r"step", "bound"), (r"", "other"),
]


def read_table():
    """number -> (places, finder, what), in order"""
    with open(TABLE, encoding="utf-8") as f:
        rows = re.findall(r'^BUG\(\s*(\d+),\s*"([^"]*)",\s*(\w+),\s*"([^"]*)"\s*\)$', f.read(), re.M)
    return {n: (places, finder, what) for n, places, finder, what in rows}


class Fuzzer:
    """fuzz-graphs of a build with seeded bugs."""

    def __init__(self, build):
        self.build = os.path.abspath(build)
        self.alarm = {}  # (seed, way): whether that graph is a mismatch without a bug
        self.program = os.path.join(self.build, "fuzz-graphs")
        if not os.path.exists(self.program):
            self.program = os.path.join(self.build, "tests", "fuzz-graphs")

    def environment(self, bug, cache):
        env = dict(os.environ, GTC_CACHE_DIR=cache)
        env.pop("GTC_BUG", None)
        if bug:
            env["GTC_BUG"] = bug
        return env

    def run(self, bug, seed, count, way="all"):
        """(graphs run, words of the first mismatch or None)"""
        cache = os.path.join(self.build, "bugs-cache")
        if bug == STALE:
            cache = tempfile.mkdtemp(prefix="seeded-")
        os.makedirs(cache, mode=0o700, exist_ok=True)
        try:
            out = subprocess.run([self.program, "--jobs", "1", "--stop-at-first", "--seed", str(seed), "--count", str(count),
                                  *WAYS[way]], env=self.environment(bug, cache), cwd=ROOT, text=True, errors="replace",
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        finally:
            if bug == STALE:
                shutil.rmtree(cache)
        lines = out.stdout.rstrip("\n").split("\n")
        last = re.fullmatch(r"(\d+) graphs, (\d+) mismatches, (\d+) refused", lines[-1])
        if not last or (int(last.group(2)) > 0) != (out.returncode == 1) or out.returncode not in (0, 1):
            raise SystemExit(f"fuzz-graphs with bug {bug} ended with {out.returncode}: {lines[-1]}")
        words = None
        if int(last.group(2)):
            first = next((l for l in lines if l.startswith("MISMATCH")), "")
            words = re.sub(r"^MISMATCH [^:]*: [^:]*: ", "", first) or "?"
        return int(last.group(1)), words

    def is_alarm(self, seed, way):
        if (seed, way) not in self.alarm:
            self.alarm[seed, way] = self.run(None, seed, 1, way)[1] is not None
        return self.alarm[seed, way]

    def find(self, bug, seed, count, way="all"):
        """As run, but what is a mismatch without the bug too has not found it."""
        done = 0
        while done < count:
            n, words = self.run(bug, seed + done, count - done, way)
            done += n
            if words and not self.is_alarm(seed + done - 1, way):
                return done, words
        return done, None

    def named(self, test, bug):
        """Whether that test fails with the bug."""
        with tempfile.TemporaryDirectory(prefix="seeded-") as cache:
            out = subprocess.run([os.path.join(self.build, "tests", test)], env=self.environment(bug, cache), cwd=ROOT,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        return out.returncode not in (0, 77)


def found_by(words):
    return next(name for pattern, name in FOUND_BY if re.search(pattern, words))


def look_for(fuzzer, bug, finder, seed, count, old):
    """What the table says of one bug; old: what an earlier run with fewer graphs said, or {}."""
    if finder != "graphs":
        return {"test": finder, "found": fuzzer.named(finder, bug), "tried": count}
    result = {"all": None, "by": None, **old, "tried": count}
    tried = old.get("tried", 0)
    if not result["all"] and tried < count:
        n, words = fuzzer.find(bug, seed + tried, count - tried)
        if words:
            result.update({"all": tried + n, "by": found_by(words), "words": words[:300]})
    for way in WAYS:  # a test less finds nothing sooner
        if way == "all" or not result["all"] or result.get(way):
            continue
        before = tried if way in old else result["all"] - 1
        n, words = fuzzer.find(bug, seed + before, count - before, way) if before < count else (0, None)
        result[way] = before + n if words else None
    return result


def cell(n):
    return "-" if n is None else str(n)


def table_text(bugs, results, count, seed):
    graphs = [n for n in bugs if bugs[n][1] == "graphs"]
    lines = []
    for way in WAYS:
        found = [results[n].get(way) for n in graphs]
        got = [f for f in found if f]
        lines.append(f"- {'every test' if way == 'all' else way}: {len(got)} of {len(graphs)} found, half of them within "
                     f"{sorted(got)[len(got) // 2] if got else 0} graphs")
    named = [results[n]["found"] for n in bugs if n not in graphs]
    lines.append(f"- by a test of their own, as no graph leads there: {sum(named)} of {len(named)}")
    clean = results["none"]
    lines.append(f"- without a bug: {len(clean['alarms'])} alarms in {clean['tried']} graphs")
    lines += ["", f"Graphs {seed} to {seed + count - 1}; `-` is not found.", "",
              "| bug | place | mistake | found by | after | no bound | no RMSE |", "|---|---|---|---|---|---|---|"]
    for n, (places, finder, what) in bugs.items():
        r = results[n]
        if finder == "graphs":
            cells = [r["by"] or "-", cell(r["all"]), cell(r.get("no bound")), cell(r.get("no rmse"))]
        else:
            cells = [f"`{finder}`" if r["found"] else "-", "", "", ""]
        lines.append("| " + " | ".join([n, "`" + "`, `".join(places.split()) + "`", what, *cells]) + " |")
    return "\n".join(lines) + "\n"


def write_table(text):
    with open(DOC, encoding="utf-8") as f:
        doc = f.read()
    head, rest = doc.split(BEGIN)
    with open(DOC, "w", encoding="utf-8") as f:
        f.write(head + BEGIN + text + END + rest.split(END)[1])


def main():
    ap = argparse.ArgumentParser(description="which seeded bugs are found, and how soon")
    ap.add_argument("--build", default=os.path.join(ROOT, "build-bugs"), help="a build of the preset bugs")
    ap.add_argument("--count", type=int, default=300, help="graphs a bug")
    ap.add_argument("--seed", type=int, default=1, help="of the first graph")
    ap.add_argument("--jobs", type=int, default=1, help="bugs at a time")
    ap.add_argument("--write", action="store_true", help="put the table into docs/testing.md")
    ap.add_argument("bug", nargs="*", help="numbers, looked for anew; else all, as far as there is no result")
    args = ap.parse_args()
    bugs, fuzzer = read_table(), Fuzzer(args.build)
    path = os.path.join(fuzzer.build, "seeded_bugs.json")
    results = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            results = json.load(f)
    if results.get("seed") != args.seed:
        results = {"seed": args.seed}

    def one(n):
        old = results.get(n, {})
        if old.get("tried", 0) >= args.count and not args.bug:
            return n, old
        if n != "none":
            return n, look_for(fuzzer, n, bugs[n][1], args.seed, args.count, {} if args.bug else old)
        tried, alarms = old.get("tried", 0), old.get("alarms", [])
        while tried < args.count:
            more, words = fuzzer.run(None, args.seed + tried, args.count - tried)
            tried += more
            alarms += [[args.seed + tried - 1, words[:300]]] if words else []
        return n, {"tried": tried, "alarms": alarms}

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for done in concurrent.futures.as_completed(pool.submit(one, n) for n in args.bug or [*bugs, "none"]):
            n, result = done.result()
            if results.get(n) != result:
                print(n, json.dumps(result)[:200], flush=True)
            results[n] = result
            with open(path, "w", encoding="utf-8") as f:
                json.dump(results, f, indent=1)
    missing = [n for n in [*bugs, "none"] if n not in results]
    if missing:
        print(f"no result yet: {' '.join(missing)}")
        return 0
    text = table_text(bugs, results, args.count, args.seed)
    if args.write:
        write_table(text)
    print(text.split("\n\n", maxsplit=1)[0])
    unfound = [n for n in bugs if not (results[n].get("all") or results[n].get("found"))]
    print(f"{len(bugs) - len(unfound)} of {len(bugs)} bugs found; not: {' '.join(unfound) or 'none'}")
    return 1 if results["none"]["alarms"] else 0


if __name__ == "__main__":
    sys.exit(main())
