#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Own kernels beside the GPU's libraries: one training step of each net in both modes, with library
calls (--libraries all) and without (none).

    libraries.py --gtc build/bench/bench-step --out PATH [--nets mlp,xfmr] [--device cuda]
                 [--rounds 3] [--seconds 1] [--go-on]

Writes PATH.json (every run) and PATH.md after each row; --go-on takes from PATH.json the rows that a
run which was cut off has measured already.  A round is own, library, own; its ratios are the library's
time over each own one of the round; a row has their median and range, and the own kernels' A/A."""
import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def arguments():
    p = argparse.ArgumentParser(description="own kernels beside the GPU's libraries")
    p.add_argument("--gtc", required=True, help="bench-step")
    p.add_argument("--out", required=True, help="path of the results, without suffix")
    p.add_argument("--nets", default="mlp,cnnlstm,cnn2d,behcnn,xfmr")
    p.add_argument("--device", default="cuda")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=1)
    p.add_argument("--go-on", action="store_true", help="do not measure again what --out has")
    return p.parse_args()


def step(a, net, mode, libraries):
    got = subprocess.run([a.gtc, os.path.join(HERE, "nets", net + ".json"), "--device", a.device, "--mode", mode,
                          "--libraries", libraries, "--seconds", str(a.seconds)],
                         capture_output=True, text=True, check=False)
    if got.returncode:
        sys.exit(f"{net}, {mode}, libraries {libraries}: {got.stderr.strip()}")
    return json.loads(got.stdout.splitlines()[-1])


def row(a, net, mode):
    rounds = [[step(a, net, mode, use) for use in ("none", "all", "none")] for _ in range(a.rounds)]
    ratios = [r[1]["med_ms"] / own["med_ms"] for r in rounds for own in (r[0], r[2])]
    same = [r[2]["med_ms"] / r[0]["med_ms"] for r in rounds]
    return {"net": net, "mode": mode, "kernels": rounds[0][0]["kernels"], "calls": rounds[0][1]["calls"],
            "own_ms": statistics.median(x["med_ms"] for r in rounds for x in (r[0], r[2])),
            "library_ms": statistics.median(r[1]["med_ms"] for r in rounds),
            "ratio": statistics.median(ratios), "spread": [min(ratios), max(ratios)],
            "same": [min(same), max(same)], "runs": rounds}


def rows_known(a):
    """Those of an earlier run of the same kind."""
    try:
        with open(a.out + ".json", encoding="utf-8") as f:
            old = json.load(f)
    except (OSError, ValueError):
        return []
    same = all(old.get(key) == getattr(a, key) for key in ("device", "rounds", "seconds"))
    return old["rows"] if a.go_on and same else []


def write(a, rows):
    with open(a.out + ".json", "w", encoding="utf-8") as f:
        json.dump({"device": a.device, "rounds": a.rounds, "seconds": a.seconds, "rows": rows}, f, indent=1)
    lines = ["| net | mode | kernels | calls | own ms | library ms | library/own | A/A |", "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        lines.append(f"| {r['net']} | {r['mode']} | {r['kernels']} | {r['calls']} | {r['own_ms']:.4g} | "
                     f"{r['library_ms']:.4g} | {r['ratio']:.3f} ({r['spread'][0]:.3f} .. {r['spread'][1]:.3f}) | "
                     f"{r['same'][0]:.3f} .. {r['same'][1]:.3f} |")
    with open(a.out + ".md", "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    return lines


def main():
    a = arguments()
    rows = rows_known(a)
    known = {(r["net"], r["mode"]) for r in rows}
    for net in a.nets.split(","):
        for mode in ("eager", "default"):
            if (net, mode) not in known:
                rows.append(row(a, net, mode))
                write(a, rows)
    print("\n".join(write(a, rows)))


if __name__ == "__main__":
    main()
