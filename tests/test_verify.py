#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gtc verify: zoo models pass it, and a kernel that is compiled wrong is named with its layer.

Wrong kernels come from a C compiler that is wrong: a script in its place spoils one line of what it
is given and calls the real one.  Neither gtc nor its cache knows."""
import json, os, shutil, stat, subprocess, sys, tempfile

GTC = os.path.abspath(os.environ.get("GTC", "build/gtc"))
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
failures = 0


def data(x, y, **more):
    return "data=" + json.dumps({"random": {"x": x, "y": y, "rows": 64, **more}})


# Of the data's shapes only; layers as narrow as keeps them what they are.
ZOO = {
    "mlp.json": [data([5, 5], [1]), "layers.hidden1.units=19", "layers.hidden2.units=9"],
    "pm25_cnn_lstm.json": [data([12, 5], [1]), "layers.conv.filters=8", "layers.lstm.units=17"],
    "lstm_attention.json": [data([11, 2], [2]), "layers.lstm.units=16"],
    "tcn.json": [data([14, 1], [1])] + [f"layers.{c}=6" for c in
                 ("in.units", "conv1.filters", "conv2.filters", "conv3.filters")],
    "fashion_cnn.json": [data([12, 12, 1], [], classes=10), "layers.conv1.filters=4",
                         "layers.conv2.filters=7", "layers.hidden.units=18"],
}


def fault(what, p):
    global failures
    failures += 1
    print(f"FAILED: {what}\n  exit {p.returncode}\n  {p.stdout[-900:]}\n  {p.stderr[-900:]}")


def verify(model, *args, env=None):
    """The process, and its object ({} if there is none)."""
    sets = [a for s in ZOO[model] for a in ("--set", s)]
    p = subprocess.run([GTC, "verify", os.path.join(ROOT, "models", model), "--json", *sets, *args],
                       capture_output=True, text=True, env=dict(os.environ, **(env or {})))
    try:
        return p, json.loads(p.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return p, {}


def zoo_passes(models):
    for model in models:
        p, o = verify(model)
        few = o.get("undecided", 1) + o.get("loose", 1) <= .05 * o.get("elements", 0)
        if p.returncode or not o.get("ok") or o["first_bad"] is not None or o["checked"] < 20 or not few:
            fault(f"{model} verifies", p)
        else:
            print(f"{model}: {o['checked']} tensors, {o['kernels']} kernels, worst {o['worst']:.3f}, "
                  f"{o['undecided']} undecided, {o['loose']} loose of {o['elements']}")


def bad_compiler(folder, edit):
    """A compiler that replaces edit[0] by edit[1] in every .c it is given."""
    path = os.path.join(folder, "cc")
    real = next(filter(None, map(shutil.which, ("clang", "gcc", "cc"))))
    with open(path, "w") as f:
        f.write("#!" + sys.executable + "\n"
                "import os, sys\n"
                f"old, new = {edit!r}\n"
                "for a in sys.argv[1:]:\n"
                "    if a.endswith('.c') and os.path.isfile(a):\n"
                "        with open(a) as f: text = f.read()\n"
                "        with open(a, 'w') as f: f.write(text.replace(old, new))\n"
                f"os.execv({real!r}, [{real!r}] + sys.argv[1:])\n")
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
    return path


# what is spoiled, the model, what the kernel's name holds, the layer's name
FAULTS = [
    (("y = y / (y + 2.0f);", "y = y / (y + 2.001f);"), "pm25_cnn_lstm.json", "lstm", "lstm"),
    (("y / (y + 2.0f)", "y / (y + 2.0001f)"), "lstm_attention.json", "lstm", "lstm"),
    (("q = q * r + 0x1.fffffep-2f;", "q = q * r + 0x1.ff0000p-2f;"), "fashion_cnn.json", "loss", ""),
]


def wrong_kernel_is_named(edit, model, kernel, layer):
    with tempfile.TemporaryDirectory() as folder:
        env = {"CC": bad_compiler(folder, edit), "GTC_CACHE_DIR": os.path.join(folder, "cache")}
        p, o = verify(model, env=env)
    bad = o.get("first_bad") or {}
    if p.returncode != 70 or o.get("ok") is not False or kernel not in bad.get("kernel", "") or bad.get("layer") != layer:
        fault(f"{model} with {edit[1]}: kernel {kernel} of layer {layer} is named", p)
    else:
        print(f"{model}: {bad['kernel']}, layer {bad['layer']}: {bad['what'][:100]}")


def main():
    zoo_passes(ZOO)
    for f in FAULTS:
        wrong_kernel_is_named(*f)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
