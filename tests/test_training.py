#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Training from end to end: it learns, it looks neither ahead nor at the test rows, and modes,
threads and batch sizes give the same losses."""
import csv, json, os, subprocess, sys, tempfile, time

GTC = os.path.abspath(os.environ.get("GTC", "build/gtc"))
ROOT = os.getcwd()
checks = failures = 0


def check(ok, what):
    global checks, failures
    checks += 1
    failures += not ok
    print(f"{'ok    ' if ok else 'FAILED'} {what}", flush=True)


def gtc(*args):
    p = subprocess.run([GTC, *args], capture_output=True, text=True)
    if p.returncode != 0:
        print(f"gtc {' '.join(args)}: exit {p.returncode}\n{p.stderr[-2000:]}")
        sys.exit(1)
    return p.stdout


def train(*args):
    return json.loads(gtc("train", *args, "--json").splitlines()[-1])


def losses(run):
    return [float(r["train_loss"]) for r in csv.DictReader(open(f"{run}/metrics.csv"))]


def worst(a, b):
    return max(abs(x - y) / max(abs(x), 1e-12) for x, y in zip(a, b, strict=True))


def small(rows, classes=0, **train_keys):
    """Dense layers with everything that could depend on the batch: dropout and batch norm."""
    data = {"x": [10], "rows": rows + 20, **({"classes": classes} if classes else {"y": [1]})}
    return {
        "name": "small",
        "data": {"random": data, "split": [rows, 10, 10]},
        "layers": [
            {"name": "a", "type": "dense", "units": 32, "activation": "relu"},
            {"name": "n", "type": "batch_norm"},
            {"name": "d", "type": "dropout", "rate": 0.3},
            {"name": "b", "type": "dense", "units": classes or 1},
        ],
        "loss": {"type": "cross_entropy" if classes else "mse"},
        "optimizer": {"type": "adam", "learning_rate": 1e-3},
        "train": {"epochs": 50, "batch_size": rows, "seed": 2, **train_keys},
    }


def save(name, model):
    json.dump(model, open(name, "w"))
    return name


def learns():
    o = train(f"{ROOT}/models/demo.json", "--out", "demo")
    t = o["test"]
    check(t["rmse"] < 0.95 * t["baseline_rmse"], f"demo: rmse {t['rmse']} against {t['baseline_rmse']} by persistence")
    e = json.loads(gtc("eval", "demo", "--json"))
    check(e["baseline_rmse"] == t["baseline_rmse"] and abs(e["rmse"] - t["rmse"]) <= 1e-6 * t["rmse"],
          "eval repeats the test score")
    model = small(48, classes=4, shuffle=True)
    model["layers"] = [layer for layer in model["layers"] if layer["type"] == "dense"]
    o = train(save("fit.json", model), "--out", "fit", "--set", "train.epochs=300", "--set",
              "optimizer.learning_rate=1e-2")
    check(losses("fit")[-1] < 0.02, f"one batch of random classes is learnt by heart: {losses('fit')[-1]}")


def same_losses():
    """50 steps of one batch each, with dropout on."""
    save("m.json", small(64))
    base = None
    for mode in ("default", "eager"):
        for threads in ("1", "2"):
            run = f"{mode}{threads}"
            train("m.json", "--out", run, "--mode", mode, "--threads", threads)
            base = base or losses(run)
            check(worst(base, losses(run)) < 1e-4, f"{mode}, {threads} threads: worst {worst(base, losses(run)):.1e}")
    train("m.json", "--out", "again", "--threads", "1")
    check(base == losses("again"), "the same again, to the last digit")
    train("m.json", "--out", "seed", "--seed", "3")
    check(worst(base, losses("seed")) > 1e-3, "another seed, another run")


def tail_batches():
    """A batch that is not full trains as one of that size does."""
    for rows in (1, 31, 63):
        save("t.json", small(rows, epochs=10))
        train("t.json", "--out", f"full{rows}")
        train("t.json", "--out", f"tail{rows}", "--batch-size", "64")
        w = worst(losses(f"full{rows}"), losses(f"tail{rows}"))
        check(w < 1e-4, f"{rows} rows in a batch of 64: worst {w:.1e}")


def no_leak():
    """What comes after a window's end and target is not known to its prediction."""
    lines = open(f"{ROOT}/models/data/demo.csv").read().splitlines()
    head, rows = lines[0], lines[1:]
    cut = int(len(rows) * 0.9)
    text = gtc("predict", "demo", "--out", "-")

    def spoil(row):
        stamp, *cells = row.split(",")
        return ",".join([stamp] + [c if c in ("", "NA") else "7" for c in cells])

    spoilt = rows[:cut] + [spoil(r) for r in rows[cut:]]
    open("demo.csv", "w").write("\n".join([head] + spoilt) + "\n")
    os.makedirs("data", exist_ok=True)
    os.replace("demo.csv", "data/demo.csv")
    other = gtc("predict", "demo", "--data-dir", os.getcwd(), "--out", "-")
    a, b = text.splitlines(), other.splitlines()
    check(len(a) == len(b) and a != b, "the later rows are others")
    stamp = rows[cut].split(",")[0]
    before = [i for i, line in enumerate(a) if i and line.split(",")[0] < stamp]
    check(len(before) > 500 and all(a[i] == b[i] for i in before),
          f"{len(before)} predictions before the change are byte-equal")
    o = train(f"{ROOT}/models/demo.json", "--out", "spoilt", "--data-dir", os.getcwd(), "--epochs", "2")
    p = train(f"{ROOT}/models/demo.json", "--out", "whole", "--epochs", "2")
    check(losses("spoilt") == losses("whole") and o["val_loss"] == p["val_loss"],
          "test rows change neither training nor validation")


def early_stopping():
    save("e.json", small(64, epochs=400, patience=5))
    o = train("e.json", "--out", "early")
    check(o["epochs_run"] < 400 and o["best_epoch"] == o["epochs_run"] - 5,
          f"stops 5 epochs after the best: {o['epochs_run']}, {o['best_epoch']}")
    rows = list(csv.DictReader(open("early/metrics.csv")))
    best = min(rows, key=lambda r: float(r["val_loss"]))
    check(int(best["epoch"]) == o["best_epoch"], "the best epoch has the least val_loss")
    o = train("e.json", "--out", "steps", "--max-steps", "7", "--batch-size", "20")
    check(o["steps"] == 7, "max_steps ends training inside an epoch")


def main():
    t0 = time.time()
    with tempfile.TemporaryDirectory() as tmp:
        os.chdir(tmp)
        os.environ.setdefault("GTC_CACHE_DIR", tmp + "/cache")
        for part in (learns, same_losses, tail_batches, no_leak, early_stopping):
            part()
    print(f"{checks} checks, {failures} failed, {time.time() - t0:.1f} s")
    sys.exit(failures > 0)


main()
