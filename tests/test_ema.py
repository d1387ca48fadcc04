#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""With train.ema the running mean of the weights is what gtc evaluates, predicts with and keeps as
the best: seen on a linear model, whose predictions are computed here from the tensors of a run."""
import csv, json, os, struct, subprocess, sys, tempfile

GTC = os.path.abspath(os.environ.get("GTC", "build/gtc"))
ROWS = 60
MODEL = {
    "name": "line",
    "data": {"csv": "line.csv", "features": ["a", "b"], "target": "c", "split": [0.6, 0.2, 0.2],
             "scaler": "none", "target_scaler": "none"},
    "layers": [{"name": "y", "type": "dense", "units": 1}],
    "loss": {"type": "mse"},
    "optimizer": {"type": "sgd", "learning_rate": 0.05},
    "train": {"epochs": 3, "batch_size": 8, "seed": 3, "ema": 0.95},
}


def gtc(*args):
    p = subprocess.run([GTC, *args, "--threads", "1"], capture_output=True, text=True)
    if p.returncode:
        sys.exit(f"gtc {' '.join(args)}: exit {p.returncode}\n{p.stdout}{p.stderr}")
    return p.stdout


def tensors(path):
    data = open(path, "rb").read()
    (n,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + n])
    head.pop("__metadata__")
    body = data[8 + n :]
    return {k: struct.unpack(f"<{(t['data_offsets'][1] - t['data_offsets'][0]) // 4}f",
                             body[slice(*t["data_offsets"])])
            for k, t in head.items() if t["dtype"] == "F32"}


def rows():
    return [(((i * 7) % 13 - 6) / 5, ((i * 5) % 11 - 5) / 4) for i in range(ROWS)]


def error(w, bias, lo, hi):
    return sum((w[0] * a + w[1] * b + bias[0] - (2 * a - b + 0.5)) ** 2 for a, b in rows()[lo:hi]) / (hi - lo)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        os.chdir(tmp)
        os.environ["GTC_CACHE_DIR"] = tmp + "/cache"
        with open("line.csv", "w") as f:
            f.write("a,b,c\n" + "".join(f"{a},{b},{2 * a - b + 0.5}\n" for a, b in rows()))
        json.dump(MODEL, open("m.json", "w"))
        gtc("train", "m.json", "--out", "run")
        t = tensors("run/last.safetensors")
        assert {"y.weight", "ema.y.weight", "y.bias", "ema.y.bias"} <= t.keys(), t.keys()
        mean, raw = error(t["ema.y.weight"], t["ema.y.bias"], 36, 48), error(t["y.weight"], t["y.bias"], 36, 48)
        last = list(csv.DictReader(open("run/metrics.csv")))[-1]
        assert abs(float(last["val_loss"]) - mean) < 1e-4 * mean, (last, mean, raw)
        assert abs(raw - mean) > 0.01 * mean, "the two cannot be told apart"

        best = tensors("run/best.safetensors")
        gtc("predict", "run", "--data", "line.csv", "--out", "p.csv")
        got = list(csv.DictReader(open("p.csv")))
        assert len(got) == ROWS, got[:2]
        w, bias = best["ema.y.weight"], best["ema.y.bias"]
        for (a, b), line in zip(rows(), got):
            want = w[0] * a + w[1] * b + bias[0]
            value = float(list(line.values())[-1])
            assert abs(value - want) < 1e-5, (line, want)


main()
