#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program from outside: exit codes, messages with their place, the keys of --json, files."""
import csv, json, math, os, random, re, shutil, subprocess, sys, tempfile, time

GTC = os.path.abspath(os.environ.get("GTC", "build/gtc"))
checks = failures = 0


def gtc(*args, env=None, cwd=None, stdin=None):
    e = dict(os.environ, **(env or {}))
    return subprocess.run([GTC, *args], capture_output=True, text=True, env=e, cwd=cwd, input=stdin)


def check(ok, what, p=None):
    global checks, failures
    checks += 1
    if not ok:
        failures += 1
        print(f"FAILED: {what}")
        if p is not None:
            print(f"  exit {p.returncode}\n  stdout: {p.stdout[-800:]}\n  stderr: {p.stderr[-800:]}")


def fails(code, why, *args, **kw):
    """One precise line (a JSON error also shows its source), the right exit code, nothing on stdout."""
    p = gtc(*args, **kw)
    check(p.returncode == code and re.search(why, p.stderr) and not p.stdout, f"{args}: {code}, /{why}/", p)
    check(len(p.stderr.splitlines()) <= 8 and "assert" not in p.stderr, f"{args}: short", p)
    return p


def good(*args, **kw):
    p = gtc(*args, **kw)
    check(p.returncode == 0, f"{args}: exit 0", p)
    return p


def obj(*args, keys, **kw):
    p = good(*args, "--json", **kw)
    lines = p.stdout.splitlines()
    try:
        o = json.loads(lines[-1])
    except (IndexError, ValueError):
        check(False, f"{args}: one JSON object on the last line", p)
        return {}
    check(len(lines) == 1, f"{args}: nothing but the object", p)
    missing = [k for k in keys.split() if k not in o]
    check(not missing, f"{args}: keys {missing}", p)
    return o


def write(path, text):
    with open(path, "w", newline="") as f:
        f.write(text)


def table(path, rows=240, seed=1):
    rng = random.Random(seed)
    with open(path, "w") as f:
        f.write("id,a,b,color,price,kind\n")
        for i in range(rows):
            a, b, c = rng.gauss(0, 1), rng.gauss(5, 2), rng.choice(["red", "green", "blue"])
            price = 3 * a - b + {"red": 0, "green": 4, "blue": -2}[c]
            f.write(f"{i+1},{a:.4f},{b:.4f},{c},{price:.4f},{'high' if price > -4 else 'low'}\n")


def series(path, rows=300):
    with open(path, "w") as f:
        f.write("date,temp,wind\n")
        for i in range(rows):
            f.write(f"2020-{1 + i // 28 % 12:02d}-{1 + i % 28:02d} 00:00,"
                    f"{10 + 8 * math.sin(i / 9):.3f},{math.cos(i / 5):.3f}\n")


def usage():
    p = good("--help")
    check("compile" in p.stdout and "predict" in p.stdout, "gtc --help lists the verbs", p)
    check(re.match(r"gtc \d+\.\d+\.\d+\n$", good("--version").stdout), "gtc --version")
    for verb in "init compile train predict eval opt emit verify doctor devices cache".split():
        p = good(verb, "--help")
        check(f"usage: gtc {verb}" in p.stdout and not p.stderr, f"gtc {verb} --help", p)
        fails(2, "no option", verb, "--frobnicate")
    p = gtc()
    check(p.returncode == 2 and "usage" in p.stderr and not p.stdout, "gtc alone", p)
    fails(2, "did you mean 'train'", "trian")
    fails(2, "did you mean '--epochs'", "train", "--epoch", "3")
    fails(2, "wants an integer", "train", "--epochs", "x")
    fails(2, "wants an integer", "train", env={"GTC_EPOCHS": "x"})
    fails(2, "MODEL.json", "compile")
    fails(2, "no plan", "train")
    fails(2, "no run", "predict")
    fails(2, "no run", "eval")
    fails(2, "stats or clear", "cache", "empty")
    p = gtc("eval", "--json")
    check(p.returncode == 2 and json.loads(p.stdout)["exit_code"] == 2, "errors under --json", p)


def bad_input():
    write("bad.json", '{ "name": "x",\n  "layers": [ { "type": "dense", "unitz": 3 } ] }\n')
    fails(3, r"bad.json:\d+:\d+: error: .*", "compile", "bad.json")
    write("bad.json", "{ nope")
    fails(3, r"bad.json:1:\d+: error: ", "compile", "bad.json")
    fails(4, r"absent.json.*No such file", "compile", "absent.json")
    fails(3, r"epochs", "compile", "price.json", "--set", "train.epochs=-1")
    fails(3, r"did you mean", "compile", "price.json", "--set", "train.epoch=1")
    fails(2, r"no-such-device", "compile", "price.json", "--device", "no-such-device")
    fails(2, r"--mode", "compile", "price.json", "--mode", "fast")
    fails(2, r"--libraries: wants auto, all or none", "compile", "price.json", "--libraries", "some")
    lines = open("table.csv").read().splitlines()
    cases = {
        "ragged": (lines[:9] + ["1,2"] + lines[9:], r"table.csv:10:\d+: error"),
        "text": (lines[:4] + ["4,abc,5,red,1,low"] + lines[4:], r"table.csv:5:\d+: error"),
        "gap": (lines[:6] + ["6,,5,red,1,low"] + lines[6:], r"table.csv:7:\d+: error"),
        "quote": (lines[:3] + ['"x'], r"table.csv:\d+:\d+: error"),
        "header": (lines[:1], r"rows"),
        "column": ([line.replace("price", "cost") for line in lines], r"price"),
    }
    os.makedirs("bad", exist_ok=True)
    shutil.copy("price.json", "bad/price.json")
    for what, (text, why) in cases.items():
        write("bad/table.csv", "\n".join(text) + "\n")
        p = gtc("train", "bad/price.json")
        check(p.returncode == 3 and re.search(why, p.stderr), f"{what}: exit 3, /{why}/", p)
    check(not os.path.exists("runs"), "no run folder is made for bad data")


def whole_way():
    p = good("init", "--from", "table.csv", "--target", "price", "--out", "price.json")
    check("regression" in p.stdout and "counts rows" in p.stderr, "init says what it guessed", p)
    fails(2, "there already", "init", "--from", "table.csv", "--target", "price", "--out", "price.json")
    good("init", "--from", "table.csv", "--target", "price", "--out", "price.json", "--force")
    fails(2, 'did you mean "price"', "init", "--from", "table.csv", "--target", "prize")
    bad_input()
    o = obj("compile", "price.json", keys="plan device mode precision params ops kernels compiled cached calls "
            "compile_ms peak_bytes")
    check(o.get("plan") == ".gtc/table.plan.json" and os.path.exists(o["plan"]), "compile writes the plan")
    p = good("compile", "price.json")
    check(re.search(r"hidden1\s+dense\s+\[64\]\s+\d+", p.stdout), "the layer table", p)
    o = obj("train", "--epochs", "3", "--seed", "4", keys="run device mode precision epochs_run best_epoch "
            "train_loss val_loss test step_ms samples_per_s compile_ms seconds skipped_steps")
    run = o["run"]
    check(o["epochs_run"] == 3 and {"loss", "rmse", "mae", "r2"} <= o["test"].keys(), "train's result")
    check(re.match(r"runs/\d{8}-\d{6}-table", run), "name of the run folder")
    files = "model.json fit.json best.safetensors last.safetensors metrics.csv training.log predictions.csv result.json"
    for f in files.split():
        check(os.path.exists(f"{run}/{f}"), f"the run has {f}")
    check(json.load(open(f"{run}/result.json")) == o, "result.json is the object")
    check(json.load(open(f"{run}/model.json"))["train"]["epochs"] == 3, "the resolved config is saved")
    head = open(f"{run}/metrics.csv").readline().strip().split(",")
    wanted = "epoch step train_loss val_loss lr grad_norm ms_per_batch samples_per_s epoch_s total_s peak_bytes"
    check(set(wanted.split()) <= set(head), "columns of metrics.csv")
    e = obj("eval", keys="rows loss rmse mae r2")
    check(abs(e["rmse"] - o["test"]["rmse"]) < 1e-6 * e["rmse"], "eval repeats the test")
    p = good("predict")
    rows = list(csv.DictReader(p.stdout.splitlines()))
    check(list(rows[0]) == ["row", "price", "price_pred"], "predict's columns", p)
    check(p.stdout == open(f"{run}/predictions.csv").read(), "predict repeats predictions.csv")
    rmse = math.sqrt(sum((float(r["price"]) - float(r["price_pred"])) ** 2 for r in rows) / len(rows))
    check(abs(rmse - e["rmse"]) < 1e-5 * rmse, f"rmse of the file {rmse} is the reported {e['rmse']}")
    o = obj("predict", run, "--split", "all", "--out", "all.csv", keys="rows output seconds rows_per_s")
    check(o["rows"] == 240 and len(open("all.csv").readlines()) == 241, "predict --split all")
    table("other.csv", 50, seed=9)
    o = obj("eval", run, "--data", "other.csv", keys="rows rmse")
    check(o["rows"] == 50, "eval --data takes every row")
    shutil.copytree(run, "moved")
    os.makedirs("elsewhere", exist_ok=True)
    p = gtc("predict", "../moved", "--data", "../other.csv", cwd="elsewhere")
    check(p.returncode == 0 and len(p.stdout.splitlines()) == 51, "a bundle works from elsewhere", p)
    fails(2, "already holds a run", "train", "price.json", "--out", run)
    o = obj("train", "price.json", "--out", "exact", "--epochs", "1", "--mode", "eager", keys="run mode")
    check(o["run"] == "exact" and o["mode"] == "eager", "--out is the folder")
    o = obj("train", "--resume=exact", "--epochs", "2", keys="run epochs_run mode")
    check(o["epochs_run"] == 2 and o["mode"] == "eager", "--resume goes on, as it was compiled")
    before = {f: open(f"exact/{f}").read() for f in ("model.json", "fit.json")}
    fails(3, "hidden1.weight", "train", "--resume=exact", "--set", "layers.hidden1.units=5")
    fails(3, "rows", "train", "--resume=exact", "--set", "data.split=[0.5,0.2,0.3]")
    check(before == {f: open(f"exact/{f}").read() for f in before}, "a refused change leaves the run alone")
    p = good("train", "price.json", "--epochs", "1", "--run-suffix", "a b/c", "--quiet")
    check(all("warning: " in line for line in p.stderr.splitlines()) and "-table-a_b_c" in p.stdout, "--quiet and --run-suffix", p)


def other_kinds():
    good("init", "--from", "table.csv", "--target", "kind", "--out", "kind.json")
    o = obj("train", "kind.json", "--epochs", "4", keys="test")
    check({"loss", "accuracy", "macro_f1"} <= o["test"].keys(), f"scores of classes: {o}")
    rows = list(csv.DictReader(good("predict").stdout.splitlines()))
    check({r["kind_pred"] for r in rows} <= {"high", "low"}, "classes go by their names")
    acc = sum(r["kind"] == r["kind_pred"] for r in rows) / len(rows)
    check(abs(acc - o["test"]["accuracy"]) < 1e-6, "accuracy of the file is the reported one")
    p = good("init", "--from", "series.csv", "--target", "temp", "--out", "series.json")
    check("forecast" in p.stdout, "dates make a forecast", p)
    o = obj("train", "series.json", "--epochs", "2", "--set", "layers.lstm.units=6", keys="test")
    check("baseline_rmse" in o["test"], f"persistence beside a forecast: {o}")
    rows = list(csv.DictReader(good("predict").stdout.splitlines()))
    check(list(rows[0]) == ["date", "temp", "temp_pred"] and rows[0]["date"].startswith("2020"), "labels are times")


def what_comes():
    """Predictions of what the file does not know yet, and none of their scores."""
    rows = [line.split(",") for line in open("series.csv").read().splitlines()]
    rows[90][1] = ""
    write("later.csv", "\n".join(",".join(r) for r in rows[:100]) + "\n")
    good("train", "series.json", "--epochs", "1", "--out", "ahead", "--set", "data.horizon=3", "--set",
         "data.missing=ffill", "--set", "layers.lstm.units=4", "--set", "data.window=6")
    p = good("predict", "ahead", "--data", "later.csv")
    got = list(csv.DictReader(p.stdout.splitlines()))
    check(len(got) == 99 - 5, f"a prediction for each window: {len(got)}", p)
    last = rows[99][0]
    check([r["date"] for r in got[-4:]] == [last] + [f"{last}+{i}" for i in (1, 2, 3)], "labels ahead", p)
    check([r["temp"] == "" for r in got[-4:]] == [False, True, True, True], "what is not known is empty", p)
    check(all(math.isfinite(float(r["temp_pred"])) for r in got), "all is predicted", p)
    o = obj("eval", "ahead", "--data", "later.csv", keys="rows rmse baseline_rmse")
    check(o["rows"] == 99 - 5 - 3 - 1 and o["rmse"] > 0, f"only what is known is scored: {o}")
    write("later.csv", "\n".join(",".join(line.split(",")[:5]) for line in open("table.csv").read().splitlines()) + "\n")
    good("train", "kind.json", "--epochs", "1", "--out", "kinds")
    p = good("predict", "kinds", "--data", "later.csv")
    got = list(csv.DictReader(p.stdout.splitlines()))
    check({r["kind"] for r in got} == {""} and {r["kind_pred"] for r in got} <= {"high", "low"}, "no class is made up", p)
    fails(3, "no target column", "eval", "kinds", "--data", "later.csv")
    p = good("train", "--resume=kinds")
    check("nan" not in p.stdout and p.stdout.startswith("1 epochs"), "a run that was complete", p)
    p = good("predict", "kinds", "--out", "/dev/stdout", "--quiet")
    check(p.stdout.startswith("row,kind,kind_pred"), "--out /dev/stdout", p)


def odd_names():
    """Any file makes a model.json that compiles; texts in the data and in paths stay as they are."""
    d = "a b'c \u00fc"
    os.makedirs(d)
    write(f"{d}/1 m\u00e4rz 'x'.csv", '"gr\u00f6\u00dfe, m","a ""b"""\n' + "".join(f"{i % 7},{i % 7 * 3}.5\n" for i in range(90)))
    p = gtc("init", "--from", "1 m\u00e4rz 'x'.csv", "--target", 'a "b"', cwd=d)
    check(p.returncode == 0, "init of a file with an odd name", p)
    p = gtc("train", "model.json", "--epochs", "1", "--out", "r u'n", "--json", cwd=d)
    check(p.returncode == 0 and json.loads(p.stdout)["run"] == "r u'n", "odd names train", p)
    p = gtc("predict", f"{d}/r u'n")
    check(list(csv.DictReader(p.stdout.splitlines()))[0].keys() == {"row", 'a "b"', 'a "b"_pred'}, "odd columns", p)
    write("words.csv", "a,b,y\n" + "".join(f"{'uv'[i % 2]},{'rst'[i % 3]},{i % 2}\n" for i in range(60)))
    good("init", "--from", "words.csv", "--target", "y", "--out", "words.json")
    good("train", "words.json", "--epochs", "1", "--out", "words")
    fails(2, "there are a, b, y", "init", "--from", "words.csv", "--target", "z", "--out", "none.json")
    os.makedirs("ro")
    write("ro/.gtc", "no folder\n")
    p = gtc("train", "../words.json", "--epochs", "1", "--out", "../kept", cwd="ro")
    check(p.returncode == 0 and "name of this run" in p.stderr, "a run that cannot be remembered", p)


def too_little():
    """One line, even where all splits are empty."""
    os.makedirs("few")
    write("few/table.csv", "".join(open("table.csv").readlines()[:2]))
    shutil.copy("price.json", "few/price.json")
    p = fails(3, "no samples to train on", "train", "few/price.json", "--set", "data.window=8")
    check(len(p.stderr.splitlines()) == 1, "one row: one line", p)
    write("few/table.csv", "a,b,color,price\n" + "1,2,red,NA\n" * 50)
    p = fails(3, r'table.csv:2:\d+: error: column "price" has no values', "train", "few/price.json")
    write("few/table.csv", "a,b,color,p\n" + "1,2,red,3\n" * 50)
    fails(3, 'no column "q" for "target"; there are a, b, color, p', "train", "few/price.json", "--set", "data.target=q")


def numeric_abort():
    p = gtc("train", "price.json", "--out", "nan", "--set", "optimizer.type=sgd", "--set",
            "optimizer.learning_rate=1e30", "--set", "train.clip_norm=0", "--set", "data.target_scaler=none")
    check(p.returncode == 5 and "last good checkpoint" in p.stderr, "a loss that is no number: exit 5", p)
    check(os.path.exists("nan/last.safetensors"), "the last good checkpoint is there")
    fails(3, "no best weights", "predict", "nan")


def tools():
    o = obj("doctor", keys="ok devices compilers libraries")
    check(o["devices"][0]["name"] == "cpu", "doctor finds the cpu")
    check(obj("devices", keys="devices")["devices"], "devices")
    obj("cache", keys="dir entries bytes")
    check(good("cache", "clear").returncode == 0, "cache clear")
    check(obj("cache", "stats", keys="entries").get("entries") == 0, "cache is empty then")
    gir = "graph (%x: f32[2,3]) {\n  %1 = exp %x : f32[2,3]\n  return %1\n}\n"
    p = good("opt", "-", "--passes=dce", stdin=gir)
    check("exp %x" in p.stdout, "opt prints the graph", p)
    fails(3, r"<stdin>:1:\d+: error", "opt", "-", stdin="graf")
    p = good("opt", "-", "--passes=dce", stdin="# a golden file\n" + gir + "# expect:\n" + gir)
    check(p.stdout.count("graph (") == 1, "opt reads a golden file", p)
    fails(2, "nosuchpass", "opt", "-", "--passes=nosuchpass", stdin=gir)
    check(good("opt", "--list").stdout.count("\n") > 3, "opt --list")
    p = good("emit", "price.json")
    check("hidden1" in p.stdout and "launch 0" in p.stdout, "emit maps launches to layers", p)
    p = good("emit", "price.json", "--target", "cuda", "--json")
    made = json.loads(p.stdout.splitlines()[-1])["kernels"]
    check(all(k["launches"] >= 1 for k in made), "emit counts the launches of a kernel", p)
    check("graph (" in good("emit", "price.json", "--graph").stdout, "emit --graph")
    check(obj("emit", "price.json", "--program", "predict", keys="kernels")["kernels"], "emit --json")
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            p = subprocess.run([GTC, "predict", "exact"], stdout=full, stderr=subprocess.PIPE, text=True)
        check(p.returncode == 4 and "stdout" in p.stderr, f"a full disk shows: {p.returncode} {p.stderr}")


def main():
    t0 = time.time()
    with tempfile.TemporaryDirectory() as tmp:
        os.chdir(tmp)
        os.environ["GTC_CACHE_DIR"] = tmp + "/cache"
        table("table.csv")
        series("series.csv")
        for part in (usage, whole_way, other_kinds, what_comes, odd_names, too_little, numeric_abort, tools):
            part()
    print(f"{checks} checks, {failures} failed, {time.time() - t0:.1f} s")
    sys.exit(failures > 0)


main()
