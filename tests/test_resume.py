#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Killed at random, stopped by signals, with damaged checkpoints: training goes on from a whole
checkpoint and ends with the same bits as a run that was never disturbed.

GTC_KILLS sets how many times it is killed (default 10)."""
import json, os, random, shutil, signal, struct, subprocess, sys, tempfile, time

GTC = os.path.abspath(os.environ.get("GTC", "build/gtc"))
KILLS = int(os.environ.get("GTC_KILLS", "10"))
SEED = int(os.environ.get("GTC_TEST_SEED", str(time.time_ns() % 1000000)))
MODEL = {
    "name": "kill",
    "data": {"random": {"x": [12], "y": [2], "rows": 700}},
    "layers": [
        {"name": "h", "type": "dense", "units": 24, "activation": "tanh"},
        {"name": "drop", "type": "dropout", "rate": 0.2},
        {"name": "norm", "type": "batch_norm"},
        {"name": "o", "type": "dense", "units": 2},
    ],
    "loss": {"type": "mse"},
    "optimizer": {"type": "adam", "learning_rate": 1e-3},
    "train": {"epochs": 40, "batch_size": 32, "seed": 5, "clip_norm": 1.0, "ema": 0.98},
}


def gtc(*args, check=0):
    p = subprocess.run([GTC, *args, "--threads", "1"], capture_output=True, text=True)
    if check is not None and p.returncode != check:
        sys.exit(f"gtc {' '.join(args)}: exit {p.returncode}, wanted {check}\n{p.stdout}{p.stderr}")
    return p


def tensors(path):
    """Name -> bytes, read the plain way; dies when the file is not whole."""
    data = open(path, "rb").read()
    (n,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + n])
    meta = head.pop("__metadata__")
    body = data[8 + n :]
    assert max(t["data_offsets"][1] for t in head.values()) == len(body), path
    return {k: body[slice(*t["data_offsets"])] for k, t in head.items()}, meta


def same(run, want, what):
    got, meta = tensors(f"{run}/last.safetensors")
    assert got.keys() == want.keys(), what
    for k in got:
        assert got[k] == want[k], f"{what}: {k} differs"
    epochs = [line.split(",")[0] for line in open(f"{run}/metrics.csv")][1:]
    assert epochs == [str(i + 1) for i in range(MODEL["train"]["epochs"])], f"{what}: {epochs}"


def start(*args):
    return subprocess.Popen([GTC, "train", *args, "--threads", "1"], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)


def kill_at_random(want, rng, span):
    kills = 0
    for i in range(KILLS):
        run = f"run{i}"
        p = start("m.json", "--out", run)
        while True:
            time.sleep(rng.uniform(0, span))
            if p.poll() is not None:
                break
            p.kill()
            p.wait()
            kills += 1
            if not os.path.exists(f"{run}/model.json"):  # before the run began
                p = start("m.json", "--out", run)
            elif not any(os.path.exists(f"{run}/{k}.safetensors") for k in ("new", "last", "previous")):
                shutil.rmtree(run)
                p = start("m.json", "--out", run)
            else:
                p = start(f"--resume={run}")
            if kills >= (i + 1) * 3:
                p.wait()
        err = p.stderr.read()
        assert p.returncode == 0, f"kill {i}: exit {p.returncode}: {err}"
        same(run, want, f"killed run {i}")
        shutil.rmtree(run)
    return kills


def stop_by_signal(want):
    stopped = 0
    for i, sig in enumerate((signal.SIGINT, signal.SIGTERM)):
        run = f"stop{i}"
        p = start("m.json", "--out", run)
        for _ in range(200):
            if os.path.exists(f"{run}/best.safetensors") or p.poll() is not None:
                break
            time.sleep(0.005)
        p.send_signal(sig)
        err = p.communicate()[1]
        assert p.returncode in (0, 75), f"signal: exit {p.returncode}: {err}"
        if p.returncode == 75:
            stopped += 1
            assert "saved step" in err, err
            gtc("train", f"--resume={run}")
        same(run, want, f"run stopped by {sig.name}")
        shutil.rmtree(run)
    return stopped


def damaged(want):
    """A damaged last checkpoint is passed over, aloud, for the one before it."""
    gtc("train", "m.json", "--out", "dam", "--set", "train.epochs=7")
    data = bytearray(open("dam/last.safetensors", "rb").read())
    data[len(data) // 2] ^= 16
    open("dam/last.safetensors", "wb").write(data)
    p = gtc("train", "--resume=dam", "--epochs", str(MODEL["train"]["epochs"]))
    assert "checksum" in p.stderr and "previous.safetensors" in p.stderr, p.stderr
    same("dam", want, "run with a damaged checkpoint")
    for name in ("last", "previous", "best"):
        with open(f"dam/{name}.safetensors", "r+b") as f:
            f.truncate(100)
    p = gtc("train", "--resume=dam", check=3)
    assert "not a whole checkpoint" in p.stderr, p.stderr


def foreign():
    """A folder that holds no run is refused by name."""
    os.makedirs("foreign", exist_ok=True)
    p = gtc("train", "--resume=foreign", check=None)
    assert p.returncode in (3, 4) and "model.json" in p.stderr, p.stderr


def main():
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as tmp:
        os.chdir(tmp)
        os.environ["GTC_CACHE_DIR"] = tmp + "/cache"
        json.dump(MODEL, open("m.json", "w"))
        gtc("train", "m.json", "--out", "ref")  # fills the cache too
        t0 = time.time()
        gtc("train", "m.json", "--out", "again")
        span = time.time() - t0
        want, _ = tensors("ref/last.safetensors")
        same("again", want, "second run")
        kills = kill_at_random(want, rng, span)
        stops = stop_by_signal(want)
        damaged(want)
        foreign()
        print(f"seed {SEED}: killed {kills} times, stopped {stops} times; a run takes {span:.2f} s")
        assert kills >= 1 and stops >= 1, "nothing was disturbed"


main()
