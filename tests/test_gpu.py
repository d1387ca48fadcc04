#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The host's CUDA driver from outside.  Training, with calls of the driver that fail once and for ever:
the right exit code with words, no crash, no hang, and the last checkpoint whole, from which the run
goes on to the bits of one that was never disturbed.  Batches that are made on the device and batches
that are copied there train the same weights.  And what doctor finds out about a device."""
import json, os, re, shutil, struct, subprocess, sys, tempfile

GTC = os.path.abspath(os.environ.get("GTC", "build/gtc"))
SANITIZED = os.environ.get("GTC_SANITIZE") in ("1", "ON")
STRIDE = 6 if SANITIZED else 1
MODEL = {
    "name": "faults",
    "data": {"random": {"x": [6], "y": [1], "rows": 60}},
    "layers": [
        {"name": "h", "type": "dense", "units": 5, "activation": "tanh"},
        {"name": "drop", "type": "dropout", "rate": 0.2},
        {"name": "o", "type": "dense", "units": 1},
    ],
    "loss": {"type": "mse"},
    "optimizer": {"type": "adam", "learning_rate": 1e-2},
    "train": {"epochs": 1, "batch_size": 8, "seed": 5},
}


def gtc(*args, fail=None, seed=None, shadow=None):
    env = dict(os.environ, GTC_DEVICE="simt")
    for name, value in (("GTC_SIMT_FAIL", fail), ("GTC_SIMT_SEED", seed), ("GTC_SIMT_SHADOW", shadow)):
        env.pop(name, None)
        if value:
            env[name] = value
    return subprocess.run([GTC, *args], capture_output=True, text=True, env=env, timeout=120)


def good(*args, **kw):
    p = gtc(*args, **kw)
    if p.returncode:
        sys.exit(f"gtc {' '.join(args)}: exit {p.returncode}\n{p.stdout}{p.stderr}")
    return p


def tensors(path):
    """Name -> bytes, read the plain way; dies when the file is not whole."""
    data = open(path, "rb").read()
    (n,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + n])
    head.pop("__metadata__")
    body = data[8 + n :]
    assert max(t["data_offsets"][1] for t in head.values()) == len(body), path
    return {k: body[slice(*t["data_offsets"])] for k, t in head.items()}


MORE = ("--set", "train.epochs=3")


def one(n, ever, first, want):
    """Epochs 2 and 3 on top of `first`, with call n failing.  Returns the exit code."""
    shutil.rmtree("run", ignore_errors=True)
    shutil.copytree("base", "run")
    fail = f"{n}{'+' if ever else ''}"
    p = gtc("train", "--resume=run", *MORE, fail=fail)
    where = f"GTC_SIMT_FAIL={fail}: exit {p.returncode}\n{p.stderr}"
    assert p.returncode in (0, 4), where
    if p.returncode == 4:
        assert "error: " in p.stderr and len(p.stderr) > 40, where
    kept = tensors("run/last.safetensors")
    assert kept.keys() == first.keys(), where
    if p.returncode == 0:
        assert kept == want, where
    elif n % 4 == 1:  # what was saved is enough to go on
        good("train", "--resume=run", *MORE)
        assert tensors("run/last.safetensors") == want, where
    return p.returncode


def doctor():
    """Everything is right, and a device that breaks down while it is tried out is not to be used."""
    o = json.loads(good("doctor", "--test-gpu", "--json").stdout)
    assert o["ok"] and len(o["gpu"]) > 20 and all(k["ok"] for k in o["gpu"]), o
    assert {"kernels", "five steps", "shuffle", "tanh"} <= {k["name"] for k in o["gpu"]}, o
    assert [d["name"] for d in o["devices"]][-1] == "simt" and o["libraries"], o
    d = json.loads(good("devices", "--json").stdout)["devices"][-1]
    assert d["capability"] == 90 and d["memory_bytes"] == 4 << 30 and d["free_bytes"] > 0, d
    p = gtc("doctor", "--test-gpu", "--json", fail="300+")
    o = json.loads(p.stdout)
    assert p.returncode == 4 and not o["ok"] and o["gpu"][0]["ok"] and not o["gpu"][-1]["ok"], p


DRIVER = "int cuInit(unsigned f) { return %d; } int cuDriverGetVersion(int *v) { *v = %d; return 0; }"


def drivers():
    """What doctor says of a driver that will not do, and of a toolkit's stub in its place."""
    cc = next(filter(None, map(shutil.which, ("clang", "gcc", "cc"))))
    for init, version, words in (34, 0, "toolkit's stub"), (0, 11040, "too old: it does CUDA 11.4"):
        with open("driver.c", "w") as f:
            f.write(DRIVER % (init, version))
        subprocess.run([cc, "-shared", "-fPIC", "-o", "libcuda.so.1", "driver.c"], check=True)
        env = dict(os.environ, LD_LIBRARY_PATH=os.getcwd())
        env.pop("GTC_DEVICE", None)
        p = subprocess.run([GTC, "doctor"], capture_output=True, text=True, env=env, timeout=120)
        if version == 0 and "CUDA driver: for CUDA" in p.stdout:
            continue  # a real one, behind the stub
        line = next(l for l in p.stdout.splitlines() if l.startswith("library   CUDA driver:"))
        assert p.returncode == 0 and words in line and ("install" in line or "update" in line), p
        assert p.stdout.endswith("all is well on the CPU\n" if version else "all is well\n"), p
    os.unlink("libcuda.so.1")


REFUSING = """#!/bin/sh
for last; do :; done
case "$*" in *"-x c"*) grep -q "$GTC_TEST_REFUSE" "$last" && { echo "refused: $last" >&2; exit 1; };; esac
exec %s "$@"
"""


def compiler_faults():
    """A kernel that does not compile is made another way; a model that cannot be compiled is an error, or
    the CPU's where the device went without saying."""
    with open("refusing", "w") as f:
        f.write(REFUSING % next(filter(None, map(shutil.which, ("clang", "gcc", "cc")))))
    os.chmod("refusing", 0o755)
    os.environ["CC"] = os.path.abspath("refusing")
    args = "train", "m.json", "--json", "--no-cache", "--out"

    def run(name, refuse, device="simt"):
        env = dict(os.environ, GTC_TEST_REFUSE=refuse, GTC_SIMT_AUTO="1", GTC_DEVICE=device)
        p = subprocess.run([GTC, *args, name], capture_output=True, text=True, env=env, timeout=120)
        return p, json.loads(p.stdout) if p.returncode == 0 else None

    p, want = run("asked", "nothing at all", "auto")
    assert want["device"] == "simt" and p.stderr.count("compile") == 0, p.stderr
    p, _ = run("refused", "GTC_KERNEL")
    assert p.returncode == 4 and "neither as it was planned nor as the last-resort planner" in p.stderr, p.stderr
    again = dict(re.findall(r"(\w+) is made again by the last-resort planner, as (\w+)", p.stderr))
    words = re.findall(r"^gtc: warning: (\w+), of layers ([\d,]+): .* does not compile it; the compiler's words: (.*)$",
                       p.stderr, re.M)
    assert again and words and not os.path.exists("refused/last.safetensors"), p.stderr
    for name, layers, path in words[:2]:
        text = open(path).read()
        assert f"kernel: {name}\nlayers: {layers}\n" in text and "refused: " in text and "GTC_KERNEL" in text, text
    name = next(n for n in again if again[n] != n and n.startswith("dense"))
    p, got = run("plain", f'line 1 "{name}"')
    assert got["device"] == "simt" and f"{name} is made again" in p.stderr, p.stderr
    assert abs(got["train_loss"] - want["train_loss"]) < 1e-6, (got, want)
    p, got = run("cpu", "GTC_KERNEL", "auto")
    assert got["device"] == "cpu" and "the run goes on on the CPU" in p.stderr, p.stderr
    assert abs(got["train_loss"] - want["train_loss"]) < 1e-6, (got, want)
    del os.environ["CC"]


def places():
    """Where the data lie follows from the room that is left, and compile knows of it too."""
    rows = ("--set", "data.random.rows=6000", "--max-steps", "2")

    def at(mb, on="auto"):
        p = gtc("train", "m.json", *rows, "--data-on", on, "--out", f"at{mb}{on}", "--json",
                "--gpu-memory-fraction", str(mb * 1e6 / (4 << 30)))
        return p, json.loads(p.stdout)["train_loss"] if p.returncode == 0 else None

    fits, loss = at(0.4)
    assert "6000 rows, 0.168 MB, lie on the device" in fits.stderr, fits.stderr
    for mb in 0.3, 0.05:
        p, copied = at(mb)
        assert copied == loss and f"0.2 MB are more than half of the {mb:.1f} MB" in p.stderr, p.stderr
    p, got = at(0.3, "device")
    assert got == loss and "lie on the device" in p.stderr, p.stderr
    p, _ = at(0.1, "device")
    assert p.returncode == 4 and "no memory for feed.row.x" in p.stderr, p.stderr
    p = good("train", "m.json", *rows, "--batch-size", "1000", "--gpu-memory-fraction", str(0.34e6 / (4 << 30)))
    assert "copied to the device (there is no room left for the model beside them)" in p.stderr, p.stderr
    o = [json.loads(good("compile", "m.json", *rows, "--json").stdout) for _ in range(2)]
    assert o[0]["data_bytes"] == o[1]["data_bytes"] == 168000 and o[1]["compiled"] == 0, o
    host = json.loads(good("compile", "m.json", *rows, "--json", "--data-on", "host").stdout)
    assert host["data_bytes"] == 0 and host["peak_bytes"] < o[0]["peak_bytes"] - 160000, (host, o)


def main():
    if not SANITIZED:  # its model takes a minute there; the driver's part is the same
        doctor()
    json.dump(MODEL, open("m.json", "w"))
    drivers()
    compiler_faults()
    places()
    good("train", "m.json", "--out", "base")
    first = tensors("base/last.safetensors")
    shutil.copytree("base", "whole")
    good("train", "--resume=whole", *MORE)
    want = tensors("whole/last.safetensors")
    assert want != first
    for seed, shadow in ("2", "0"), ("3", "1"):  # the order in which streams do their work changes nothing
        shutil.copytree("base", "seeded")
        good("train", "--resume=seeded", *MORE, seed=seed, shadow=shadow)
        assert tensors("seeded/last.safetensors") == want, f"GTC_SIMT_SEED={seed}"
        shutil.rmtree("seeded")

    shutil.copytree("base", "copied")
    p = good("train", "--resume=copied", *MORE, "--data-on", "host")
    assert tensors("copied/last.safetensors") == want and "each batch is copied" in p.stderr, p.stderr
    shutil.copytree("base", "made")
    p = good("train", "--resume=made", *MORE, "--data-on", "auto", "--max-steps", "9")
    assert "data: 60 rows, 0.002 MB, lie on the device" in p.stderr, p.stderr
    for n in "1", "5", "1000":  # how many steps are under way changes nothing
        shutil.copytree("base", f"ahead{n}")
        good("train", f"--resume=ahead{n}", *MORE, "--ahead", n)
        assert tensors(f"ahead{n}/last.safetensors") == want, n
        p = gtc("train", "m.json", "--out", f"wild{n}", "--ahead", n, "--set", "optimizer.learning_rate=1e30")
        assert p.returncode == 5 and "at epoch 1, step 2 (" in p.stderr, p.stderr
        wild = tensors(f"wild{n}/last.safetensors")
        assert struct.unpack("<i", wild["step"]) == (0,), wild
    for verb in "predict", "eval":
        ends = [good(verb, "copied", "--data-on", on, "--out" if verb == "predict" else "--split",
                     f"{on}.csv" if verb == "predict" else "val", "--json").stdout for on in ("host", "device")]
        assert verb == "predict" or ends[0] == ends[1], ends
    assert open("host.csv").read() == open("device.csv").read()
    p = gtc("train", "m.json", "--data-on", "moon")
    assert p.returncode == 2 and "auto, device or host" in p.stderr, p.stderr

    ended = {0: 0, 4: 0}
    n, reached = 1, True
    while reached:  # until the failure lies behind the run
        once, ever = one(n, False, first, want), one(n, True, first, want)
        ended[once] += 1
        ended[ever] += 1
        reached = ever != 0
        n += STRIDE * (1 if n < 12 else n // 6)
    print(f"calls up to {n}: {ended[0]} runs were right, {ended[4]} ended with 4")
    assert ended[4] > 20 // STRIDE and n > 200, ended


if __name__ == "__main__":
    if not any(shutil.which(c) for c in ("clang", "gcc", "cc")):
        print("SKIP: no C compiler, which the host's CUDA driver needs")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as d:
        os.chdir(d)
        main()
