#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Models with a target for each row of a window, from end to end: a text whose next character follows
from the last two is learnt through an embedding, noise is taken out of a sine, and predictions have a
line for each row, in order."""
import csv, json, math, os, random, struct, subprocess, sys, tempfile, time

GTC = os.path.abspath(os.environ.get("GTC", "build/gtc"))
checks = failures = 0


def check(ok, what):
    global checks, failures
    checks += 1
    failures += not ok
    print(f"{'ok    ' if ok else 'FAILED'} {what}", flush=True)


def gtc(*args, status=0):
    p = subprocess.run([GTC, *args], capture_output=True, text=True)
    if p.returncode != status:
        print(f"gtc {' '.join(args)}: exit {p.returncode}\n{p.stderr[-2000:]}")
        sys.exit(1)
    return p.stdout if status == 0 else p.stderr


def last(text):
    return json.loads(text.splitlines()[-1])


def save(name, data):
    with open(name, "w", encoding="utf-8") as f:
        json.dump(data, f)
    return name


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def text():
    """"ab" is followed by "\\n" or "é" in turn: only the characters before tell which."""
    with open("t.txt", "w", encoding="utf-8") as f:
        f.write("ab\nabé" * 510 + "abz" + "ab\nabé" * 70)
    model = {
        "name": "text",
        "data": {"text": "t.txt", "category_as": "index", "window": 8, "stride": 3, "eval_stride": 8,
                 "target_rows": "each", "split": [0.7, 0.1, 0.2]},
        "layers": [{"name": "e", "type": "embedding", "vocab": 4, "dim": 8},
                   {"name": "g", "type": "gru", "units": 12},
                   {"name": "y", "type": "dense", "units": 4}],
        "loss": {"type": "cross_entropy"},
        "optimizer": {"type": "adam", "learning_rate": 2e-2},
        "train": {"epochs": 6, "batch_size": 32, "seed": 1},
    }
    o = last(gtc("train", save("text.json", model), "--out", "text", "--json"))
    check(o["test"]["accuracy"] > 0.9, f"the next character: {o['test']['accuracy']}")
    rows = rows_of("text/predictions.csv")
    whole = open("t.txt", encoding="utf-8").read()
    check(len(rows) % 8 == 0 and len(rows) > 450, f"{len(rows)} lines, whole windows")
    check(all(whole[int(r["row"]) - 1] == r["char"] for r in rows), "each line has the character of its row")
    check("z" not in {r["char"] for r in rows}, "no window has a character that training had not")
    steps = {int(b["row"]) - int(a["row"]) for a, b in zip(rows, rows[1:])}
    check(min(steps) == 1 and len(steps) == 2, f"rows follow each other but for one gap: {steps}")
    e = last(gtc("eval", "text", "--json"))
    check(e["rows"] == len(rows) and e["accuracy"] == o["test"]["accuracy"], "eval scores row by row")
    with open("u.txt", "w", encoding="utf-8") as f:
        f.write("ab\nabéab\nabéab\na")
    gtc("predict", "text", "--data", "u.txt", "--out", "u.csv")
    rows = rows_of("u.csv")
    check([r["char"] for r in rows[-8:]] == [*"abéab\na", ""] and rows[-1]["char_pred"] == "b",
          "what lies behind the end is predicted too")
    some = gtc("predict", "text", "--generate", "300", "--data", "u.txt")
    check(some == gtc("predict", "text", "--generate", "300", "--data", "u.txt", "--out", "-"), "the same text again")
    check(some != gtc("predict", "text", "--generate", "300", "--data", "u.txt", "--seed", "2"), "another seed, another text")
    pairs = {a + b for a, b in zip("a" + some, some)}
    common = sum(some.count(p) for p in ("ab", "b\n", "bé", "\na", "éa"))
    check(len(some) == 300 and set(some) <= set("ab\né") and common > 280, f"of the text's own kind: {common}, {pairs}")
    check(some[0] == "b" or gtc("predict", "text", "--generate", "1", "--data", "u.txt", "--seed", "3") == "b",
          "it goes on behind the end")
    with open("v.txt", "w", encoding="utf-8") as f:
        f.write("ab\na")
    check("no samples" in gtc("predict", "text", "--generate", "3", "--data", "v.txt", status=3),
          "a start that is too short is refused")
    check("--generate: wants 1 to" in gtc("predict", "text", "--generate", "0", status=2), "no characters are none")
    gtc("train", "--resume=text", "--set", "train.epochs=7")
    model["layers"][0]["vocab"] = 3
    check("the data have 4 words" in gtc("train", save("few.json", model), "--out", "few", status=3),
          "a table that is too small is refused")


def wav(name, samples):
    data = struct.pack(f"<{len(samples)}h", *samples)
    with open(name, "wb") as f:
        f.write(b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " +
                struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16) + b"data" + struct.pack("<I", len(data)) + data)


def sound():
    random.seed(1)
    wav("s.wav", [int(9000 * math.sin(0.1 * t) + 4000 * math.sin(0.037 * t)) for t in range(6000)])
    wav("n.wav", [random.randint(-900, 900) for _ in range(6000)])
    model = {
        "name": "sound",
        "data": {"wav": "s.wav", "mix": {"noise": "n.wav", "snr": 3}, "window": 64, "stride": 16,
                 "eval_stride": 64, "target_rows": "each", "split": [0.7, 0.15, 0.15]},
        "layers": [{"name": "c", "type": "conv1d", "filters": 8, "kernel": 15, "activation": "tanh"},
                   {"name": "y", "type": "conv1d", "filters": 1, "kernel": 15}],
        "loss": {"type": "mse"},
        "optimizer": {"type": "adam", "learning_rate": 5e-3},
        "train": {"epochs": 8, "batch_size": 32, "seed": 1},
    }
    o = last(gtc("train", save("sound.json", model), "--out", "sound", "--json"))
    t = o["test"]
    clean = math.sqrt((9000 ** 2 + 4000 ** 2) / 2) / 32768
    check(abs(t["baseline_rmse"] / clean * 10 ** 0.15 - 1) < 0.1, f"the mixture is 3 dB off: {t['baseline_rmse']}")
    check(t["rmse"] < 0.5 * t["baseline_rmse"], f"less noise: {t['rmse']} of {t['baseline_rmse']}")
    rows = rows_of("sound/predictions.csv")
    check([int(r["row"]) for r in rows] == list(range(int(rows[0]["row"]), int(rows[0]["row"]) + len(rows))),
          "windows tile the test rows")
    error = math.sqrt(sum((float(r["s"]) - float(r["s_pred"])) ** 2 for r in rows) / len(rows))
    check(abs(error / t["rmse"] - 1) < 1e-4, "the score is that of the lines")
    gtc("predict", "sound", "--data", "s.wav", "--out", "p.csv")
    check("this is none" in gtc("predict", "sound", "--generate", "3", status=3), "a sound does not go on as a text")
    rows = rows_of("p.csv")
    check(len(rows) >= 5900 and all(r["y"] == "" and r["y_pred"] for r in rows), "a recording is a mixture as it comes")


def main():
    t0 = time.time()
    with tempfile.TemporaryDirectory() as tmp:
        os.chdir(tmp)
        os.environ.setdefault("GTC_CACHE_DIR", tmp + "/cache")
        for part in (text, sound):
            part()
    print(f"{checks} checks, {failures} failed, {time.time() - t0:.1f} s")
    sys.exit(failures > 0)


main()
