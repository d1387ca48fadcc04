#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares one training step of gtc with PyTorch's and JAX's, on the nets of bench/nets.

    compare.py --gtc build/bench/bench-step --python VENV/bin/python --out bench/results/NAME
               [--nets mlp,gru] [--peers eager,default,jax] [--rounds 5] [--seconds 3] [--threads 2]
               [--device cpu|cuda] [--go-on]

Writes NAME.json (every run) and NAME.md (the table) after each net; --go-on takes from NAME.json the
nets that a run of the same kind, which was cut off, has measured already.  VENV has PyTorch, and JAX for the peer `jax`;
nothing else is needed.  Every other peer is a mode of peers/torch_step.py.

A machine's speed drifts, so nothing is compared with what was measured at another time.  A round
is gtc, then each peer, then gtc again, each a fresh process.  Each run of a peer makes two ratios, with the gtc run before and the one after it in its round; the ratio of a row is the median
of them, its spread their range.  The two gtc runs of a round make the A/A ratio: what the same
program differs by from itself, which no claim can be finer than.

Before the rounds of a net gtc compiles it into an empty kernel cache, then again from the full one.
Parameter counts of gtc and its peers must agree, else it is not the same net and there is no table.
While the nets run, the processor time of everything else on the machine is measured; the table
warns when there was much of it."""
import argparse
import datetime
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TORCH_STEP = os.path.join(HERE, "peers", "torch_step.py")
JAX_STEP = os.path.join(HERE, "peers", "jax_step.py")
NETS = "mlp,cnnlstm,lstmattn,anc,gru,cnn2d,behcnn,xfmr"
BUSY_CORES = 0.1  # of other work, from which on a machine does not count as idle
LIMIT = 900       # seconds that a process may take besides its timed steps


def arguments():
    p = argparse.ArgumentParser(description="compare a training step of gtc with PyTorch's")
    p.add_argument("--gtc", required=True, help="bench-step; gtc is looked for one folder up")
    p.add_argument("--python", required=True, help="a Python with PyTorch")
    p.add_argument("--out", required=True, help="path of the results, without suffix")
    p.add_argument("--nets", default=NETS)
    p.add_argument("--peers", default="eager",
                   help="jax, and PyTorch's eager,channels_last,default,max-autotune,graph")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=3, help="timed steps of one process")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--go-on", action="store_true", help="do not measure again what --out has")
    a = p.parse_args()
    if a.rounds < 1 or a.threads < 1:
        p.error("--rounds and --threads are at least 1")
    a.nets, a.peers = a.nets.split(","), a.peers.split(",")
    a.gtc = os.path.abspath(a.gtc)
    a.program = os.path.join(os.path.dirname(a.gtc), "..", "gtc")
    for path in (a.gtc, a.program, a.python):
        if not os.access(path, os.X_OK):
            p.error(f"{path} is no program")
    return a


def run(command, seconds=0.0, cache=None, cwd=None):
    """Stdout of a process that has to succeed."""
    env = dict(os.environ)
    if cache:
        env["GTC_CACHE_DIR"] = cache
    try:
        p = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd,
                           timeout=LIMIT + 4 * seconds, check=False)
    except subprocess.TimeoutExpired as e:
        raise SystemExit(f"more than {e.timeout:.0f} s: {' '.join(command)}") from e
    if p.returncode != 0:
        raise SystemExit(f"exit {p.returncode} of {' '.join(command)}\n{p.stderr.strip()}")
    return p.stdout


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


def first_line(command):
    try:
        return run(command).splitlines()[0]
    except (OSError, IndexError, SystemExit):
        return "not found"


# Other work on the machine: the busy time of all cores, less that of our own processes.
def busy_seconds():
    """Of all cores since boot, or None where the system does not say."""
    try:
        with open("/proc/stat", encoding="ascii") as f:
            ticks = [int(t) for t in f.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    user, nice, kernel, _idle, _iowait, irq, softirq, steal = ticks
    return (user + nice + kernel + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


class Watch:
    """How many cores the rest of the machine kept busy meanwhile."""

    def __init__(self):
        self.start, self.busy, self.own = time.monotonic(), busy_seconds(), own_seconds()

    def cores(self):
        busy = busy_seconds()
        if busy is None or busy == self.busy:  # a system that does not count
            return None
        other = busy - self.busy - (own_seconds() - self.own)
        return round(max(0.0, other / (time.monotonic() - self.start)), 3)


def machine_describe():
    info = {"cpu": "unknown", "cores": os.cpu_count(), "flags": [], "system": platform.system(),
            "arch": platform.machine()}
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            key, _, value = (part.strip() for part in line.partition(":"))
            if key == "model name":
                info["cpu"] = value
            elif key == "flags":
                info["flags"] = [x for x in value.split() if re.match(r"avx|fma|amx|sse4_2", x)]
    with open("/proc/meminfo", encoding="ascii") as f:
        info["memory_gib"] = round(int(f.readline().split()[1]) / 2**20, 1)
    return info


def versions_describe(a):
    git = ["git", "-C", HERE]
    commit = first_line(git + ["rev-parse", "--short=12", "HEAD"])
    changed = run(git + ["status", "--porcelain"]) if commit != "not found" else ""
    devices = last_json(run([a.program, "doctor", "--json"]))["devices"]
    device = next(d["description"] for d in devices if d["name"].split(":")[0] == a.device)
    python = run([a.python, "-c", "import platform, torch, importlib.metadata as m; print(platform"
                  ".python_version(), torch.__version__, *(d.version for d in m.distributions(name='jax')))"
                  ]).split()
    return {"gtc": first_line([a.program, "--version"]), "commit": commit,
            "uncommitted changes": bool(changed), "device": device,
            "gcc": first_line(["gcc", "--version"]), "clang": first_line(["clang", "--version"]),
            "python": python[0], "torch": python[1], "jax": (python[2:] or ["not found"])[0]}


def peer_programs(peers):
    """What counts parameters and times a net, by name of its language."""
    programs = {"PyTorch": TORCH_STEP} if set(peers) - {"jax"} else {}
    return {**programs, "JAX": JAX_STEP} if "jax" in peers else programs


def params_check(a, models):
    """Parameter counts by net; ends the program where gtc and a peer differ."""
    theirs = {name: last_json(run([a.python, path, "--params"] + list(models.values())))
              for name, path in peer_programs(a.peers).items()}
    counts = {}
    for net, path in models.items():
        with tempfile.TemporaryDirectory() as d:
            made = last_json(run([a.program, "compile", path, "--json"], cache=d, cwd=d))
        counts[net] = made["params"]
        for name, count in theirs.items():
            if made["params"] != count[net]:
                raise SystemExit(f"{net}: {made['params']} parameters in gtc, {count[net]} in {name}")
    return counts


def net_measure(a, net, path):
    """All runs of a net."""
    common = ["--seconds", str(a.seconds), "--threads", str(a.threads), "--device", a.device]

    def gtc(cache, seconds):
        return last_json(run([a.gtc, path, *common, "--seconds", str(seconds)], seconds, cache))

    def measure(peer):
        program = [JAX_STEP, path] if peer == "jax" else [TORCH_STEP, path, "--mode", peer]
        return last_json(run([a.python, *program, *common], a.seconds))

    result = {"net": net, "load_before": os.getloadavg(), "rounds": []}
    watch = Watch()
    with tempfile.TemporaryDirectory() as cache:
        result["compile_cold_ms"] = gtc(cache, 0.01)["compile_ms"]
        result["compile_warm_ms"] = gtc(cache, 0.01)["compile_ms"]
        for i in range(a.rounds):
            before = gtc(cache, a.seconds)
            peers = {peer: measure(peer) for peer in a.peers}
            result["rounds"].append({"gtc": [before, gtc(cache, a.seconds)], "peers": peers})
            print(f"{net}: round {i + 1} of {a.rounds}", file=sys.stderr)
    result["other_cores"] = watch.cores()
    result["load_after"] = os.getloadavg()
    return result


def runs_summary(runs):
    """Over the processes: the least time, and the medians of the others."""
    mid = {key: statistics.median(r[key] for r in runs) for key in ("med_ms", "p10_ms", "p90_ms")}
    return {"min_ms": min(r["min_ms"] for r in runs), **mid}


def ratio_summary(ratios):
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def net_rows(result, peers):
    """A row of the table for each peer."""
    rounds = result["rounds"]
    own = [r["med_ms"] for x in rounds for r in x["gtc"]]
    gtc = runs_summary([r for x in rounds for r in x["gtc"]])
    same = ratio_summary([x["gtc"][1]["med_ms"] / x["gtc"][0]["med_ms"] for x in rounds])
    for peer in peers:
        runs = [x["peers"][peer] for x in rounds]
        ratios = [own[2 * i + j] / r["med_ms"] for i, r in enumerate(runs) for j in (0, 1)]
        yield {"net": result["net"], "peer": peer, "gtc": gtc, "theirs": runs_summary(runs),
               "ratio": ratio_summary(ratios), "same": same,
               "launches": rounds[0]["gtc"][0]["kernels"],
               "compile_cold_ms": result["compile_cold_ms"],
               "compile_warm_ms": result["compile_warm_ms"],
               "peer_cold_s": statistics.median(r["cold_s"] for r in runs),
               "other_cores": result["other_cores"]}


def ms(t):
    return f"{t['med_ms']:.3g} ({t['min_ms']:.3g}, {t['p10_ms']:.3g}..{t['p90_ms']:.3g})"


def ratio(r):
    return f"{r['median']:.3f} ({r['least']:.3f}..{r['most']:.3f})"


def warning(report):
    """What keeps the figures from being trusted, or nothing."""
    said = []
    cores = [n["other_cores"] for n in report["nets"]]
    if None in cores:
        load = report["load_before"][0]
        said.append("This system does not say what else was running; "
                    f"the load average before the first run was {load:.2f}.")
    busy = [n["net"] for n in report["nets"] if (n["other_cores"] or 0) > BUSY_CORES]
    if busy:
        said.append(f"The machine was not idle during {', '.join(busy)}: other work took up to "
                    f"{max(c for c in cores if c is not None):.2f} cores. "
                    "These figures are no measurement.")
    threads = report["threads"]
    if threads > report["machine"]["cores"]:
        said.append(f"{threads} threads shared {report['machine']['cores']} cores.")
    if report["versions"]["uncommitted changes"]:
        said.append("The source tree had uncommitted changes.")
    return said


def report_markdown(report):
    m, v = report["machine"], report["versions"]
    out = ["# One training step: gtc and its peers", ""]
    out += [f"**Warning.** {w}\n" for w in warning(report)]
    out += [
        f"{report['date']}. {m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['system']} "
        f"{m['arch']} ({' '.join(m['flags'])}). {report['threads']} threads, f32 (no TF32), "
        f"{report['rounds']} rounds, {report['seconds']:g} s of steps a process.", "",
        "A peer is jax or a mode of PyTorch. "
        "Step times in ms: median (least, p10..p90). Ratios are of medians, gtc/peer and the median "
        "over pairs of neighbouring runs (range); below 1 gtc is faster. A/A is gtc/gtc. Compile: "
        "all of gtc's compilation, with an empty and a full kernel cache; the peer's first step. Other "
        "work: cores kept busy by anything else.", "",
        "| net | peer | gtc ms | peer ms | gtc/peer | A/A | launches | compile ms cold / warm "
        "| peer's first step s | other work |",
        "|---|---|---|---|---|---|---|---|---|---|"]
    for r in report["rows"]:
        other = r["other_cores"]
        busy = "unknown" if other is None else f"{other:.2f}" + (" (busy)" if other > BUSY_CORES else "")
        out.append(f"| {r['net']} | {r['peer']} | {ms(r['gtc'])} | {ms(r['theirs'])} | "
                   f"{ratio(r['ratio'])} | {ratio(r['same'])} | {r['launches']} | "
                   f"{r['compile_cold_ms']:.0f} / {r['compile_warm_ms']:.1f} | "
                   f"{r['peer_cold_s']:.2f} | {busy} |")
    before, after = (" ".join(f"{x:.2f}" for x in report[k]) for k in ("load_before", "load_after"))
    params = ", ".join(f"{net} {n}" for net, n in report["params"].items())
    out += ["", f"Load average before: {before}; after: {after} (the runs themselves included).", "",
            f"Parameters, equal in all: {params}.", "",
            f"{v['gtc']}, commit {v['commit']}; kernels: {v['device']}. gcc: {v['gcc']}. clang: "
            f"{v['clang']}. Python {v['python']}, PyTorch {v['torch']}, "
            f"JAX {v['jax']}.", ""]
    return "\n".join(out)


def nets_known(a, report):
    """The nets of an earlier run of the same kind."""
    try:
        with open(a.out + ".json", encoding="utf-8") as f:
            old = json.load(f)
    except (OSError, ValueError):
        return []
    same = all(old[key] == report[key] for key in ("threads", "rounds", "seconds", "peers"))
    same &= all(old["versions"][key] == report["versions"][key] for key in ("commit", "torch", "jax"))
    if not a.go_on or not same:
        return []
    return [n for n in old["nets"] if n["net"] in a.nets]


def report_write(a, report):
    report["load_after"] = os.getloadavg()
    report["rows"] = [row for n in report["nets"] for row in net_rows(n, a.peers)]
    with open(a.out + ".json", "w", encoding="utf-8") as f:
        json.dump(report, f, indent=1)
        f.write("\n")
    text = report_markdown(report)
    with open(a.out + ".md", "w", encoding="utf-8") as f:
        f.write(text)
    return text


def main():
    a = arguments()
    models = {net: os.path.join(HERE, "nets", net + ".json") for net in a.nets}
    for path in models.values():
        if not os.path.isfile(path):
            raise SystemExit(f"no net {path}")
    os.makedirs(os.path.dirname(os.path.abspath(a.out)), exist_ok=True)
    report = {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
              "load_before": os.getloadavg(), "threads": a.threads, "rounds": a.rounds,
              "seconds": a.seconds, "peers": a.peers, "machine": machine_describe(),
              "versions": versions_describe(a), "params": params_check(a, models)}
    report["nets"] = nets_known(a, report)
    known = {n["net"] for n in report["nets"]}
    for net, path in models.items():
        if net not in known:
            report["nets"].append(net_measure(a, net, path))
            report_write(a, report)
    print(report_write(a, report), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
