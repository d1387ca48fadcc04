#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records what PyTorch computes, for tests/recording_check.c to compare gtc with.

    make.py [NAME...]        writes NAME.safetensors beside this file; all cases without NAME
    make.py --list           the names

Wants torch (2.15 wrote the files) and numpy; nothing of gtc.  The cases stand in of_layers.py,
of_training.py (losses, optimizers) and of_zoo.py; each names a net in gtc's model.json and the
same net in modules of torch.nn, so a new case is one entry.  After make.py, test_recorded finds it.

A file is small because weights and data are not in it: both sides draw them.  Element i of the
tensor NAME is offset + scale * u, where
    h = FNV-1a of 64 bits of SEED followed by NAME,  z = splitmix64's mix of h + (i + 1) * golden,
    u = (2 * (z >> 44) + 1 - 2^20) / 2^20,           in (-1, 1), of 21 bits,
so with scale a power of two and offset 0, 1/2 or 1 it is exact in f32.  Classes are z mod their
number.  Metadata say how: "fill.NAME" = "SHAPE OFFSET SCALE" or "SHAPE below K".

What is recorded, all f32, from PyTorch in double (its own f32 is compared on the way, and must lie
within the tolerances that the test grants gtc):
    loss output grad.NAME next.NAME        of a training step; NAME a parameter or a data input,
                                           for next a running statistic after it
    predict probe.NAME                     in eval mode; predict only where it is not the output
    stepK.NAME                             a parameter after K steps of an optimizer
A tensor of a zoo model with more than 128 elements stands as "some.X": its Euclidean norm, its
largest magnitude, then 16 elements, those at z mod count of the tensor "some.X"; metadata "shape.X"
has its shape.  A gradient that is 0 but for rounding (of a bias before batch_norm) is stored as 0."""
import argparse
import copy
import json
import math
import os
import struct
import sys

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN, MOST, SOME = 0x9E3779B97F4A7C15, 128, 16
MASK = (1 << 64) - 1
OUTPUT, GRADIENT = 1e-5, 1e-4  # the tolerances, relative to a tensor's largest value


def draw(name, n):
    h = 14695981039346656037
    for c in name.encode():
        h = (h ^ c) * 1099511628211 & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def spelled(shape):
    return ",".join(str(n) for n in shape) or "-"


class Record:
    """One file in the making."""

    def __init__(self, seed, most):
        self.seed, self.most, self.meta, self.tensor = seed, most, {}, {}
        if seed:
            self.meta["seed"] = seed

    def fill(self, name, shape, offset, scale):
        n = math.prod(shape)
        self.meta[f"fill.{name}"] = f"{spelled(shape)} {offset:g} {scale:g}"
        u = (2.0 * (draw(self.seed + name, n) >> np.uint64(44)).astype(np.float64) + 1 - 2**20) / 2**20
        x = offset + scale * u
        assert (x == x.astype(np.float32)).all(), f"{name}: not exact in f32"
        return torch.from_numpy(x.reshape(shape))

    def fill_below(self, name, shape, k):
        self.meta[f"fill.{name}"] = f"{spelled(shape)} below {k}"
        z = draw(self.seed + name, math.prod(shape)) % np.uint64(k)
        return torch.from_numpy(z.astype(np.int64).reshape(shape))

    def give(self, name, x):
        """The values themselves, not how they are drawn."""
        del self.meta[f"fill.{name}"]
        self.tensor[f"given.{name}"] = np.array(x.numpy(), np.float32, order="C")
        return x.float().double()

    def put(self, name, x):
        x = np.array(x.detach().numpy(), np.float32, order="C")
        assert np.isfinite(x).all(), f"{name}: not finite"
        if x.size <= self.most:
            self.tensor[name] = x
            return
        at = draw(self.seed + "some." + name, SOME) % np.uint64(x.size)
        some = x.reshape(-1)[at.astype(np.int64)]
        norm = np.sqrt((x.astype(np.float64) ** 2).sum())
        self.tensor[f"some.{name}"] = np.concatenate([np.float32([norm, np.abs(x).max()]), some])
        self.meta[f"shape.{name}"] = spelled(x.shape)

    def write(self, path):
        head, at = {"__metadata__": self.meta}, 0
        for name, x in self.tensor.items():
            head[name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [at, at + x.nbytes]}
            at += x.nbytes
        text = json.dumps(head, separators=(",", ":")).encode()
        with open(path, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            for x in self.tensor.values():
                f.write(x.tobytes())


class Case:
    """A net on both sides, and what is asked of it.

    model   gtc's model.json as an object (its data section is filled in), or the path of one
    net     builds the torch module; parameters have gtc's names
    x       data inputs: name -> shape without the batch
    target  "like" the output, ("below", k) for classes, or (offset, scale)
    loss    (output, target) -> scalar
    spread  name -> (offset, scale) of parameters and inputs that want other than the usual, or
            ("below", k) for whole numbers
    words   the first input holds numbers below this, as from text
    given   name -> function of the drawn parameter or input: what it gives is stored
    rows    how many of the batch count
    predict what a user reads from the output in eval mode
    train   whether a training step is recorded
    steps   how many steps of `optimizer` (net -> torch.optim) are, instead; `clip` what comes before
            it, `ema` the decay of a running mean
    probe   name -> function of the net and its inputs"""

    def __init__(self, name, model, net, x, loss=torch.nn.functional.mse_loss, target="like", batch=3,
                 rows=None, spread=None, predict=lambda y: y, train=True, sets=(), seed="", steps=0,
                 optimizer=None, clip=None, lr=0.0, probe=None, given=None, ema=0, words=0):
        self.name, self.model, self.net, self.x = name, model, net, x
        self.loss, self.target, self.batch, self.rows = loss, target, batch, rows or batch
        self.spread, self.predict, self.train, self.sets = spread or {}, predict, train, sets
        self.seed, self.steps, self.optimizer, self.clip = seed, steps, optimizer, clip
        self.lr, self.probe, self.given, self.ema = lr, probe or {}, given or {}, ema
        self.words = words


def usual(name, shape):
    """Weights of about PyTorch's size; what multiplies is near 1, what adds near 0."""
    if len(shape) > 1:
        fan = math.prod(shape[1:])
        return 0, 2.0 ** (1 - math.ceil(math.log2(fan) / 2))
    return (1, 0.25) if name.endswith(("weight", "running_var")) else (0, 0.25)


def fill_net(case, record, net):
    named = [*net.named_parameters(), *net.named_buffers()]
    for name, p in named:
        if name.endswith("num_batches_tracked"):
            continue
        assert name in case.spread or "." in name, name
        offset, scale = case.spread.get(name, usual(name, p.shape))
        p.data = record.fill(name, tuple(p.shape), offset, scale)
        if name in case.given:
            p.data = record.give(name, case.given[name](p.data))
    for name in [n for n in case.spread if n not in dict(named) and n not in case.x]:
        raise SystemExit(f"{case.name}: nothing is called {name}")


def fill_target(case, record, shape):
    if case.target == "like":
        return record.fill("y", shape, 0, 1)
    if case.target[0] == "below":
        record.meta["classes"] = str(case.target[1])
        return record.fill_below("y", shape[:-1], case.target[1])
    if case.target[0] == "given":
        return record.give("y", case.target[1](record.fill("y", shape, 0, 2)))
    return record.fill("y", shape, *case.target)


def train_step(case, net, x, y):
    """Everything that one step gives, by name."""
    net = copy.deepcopy(net).train()
    x = {name: v[: case.rows].clone().requires_grad_(v.is_floating_point()) for name, v in x.items()}
    output = net(*x.values())
    loss = case.loss(output, y[: case.rows])
    loss.backward()
    got = {"loss": loss, "output": output}
    for name, p in [*net.named_parameters(), *x.items()]:
        if p.requires_grad:
            got[f"grad.{name}"] = torch.zeros_like(p) if p.grad is None else p.grad
    for name, p in net.named_buffers():
        if not name.endswith("num_batches_tracked"):
            got[f"next.{name}"] = p
    most = max((g.abs().max().item() for n, g in got.items() if n.startswith("grad.")), default=0)
    for name, g in got.items():
        if name.startswith("grad.") and g.abs().max() < 1e-12 * most:
            got[name] = torch.zeros_like(g)
    return got, most


def train_steps(case, net, x, y):
    net = copy.deepcopy(net).train()
    optimizer, got = case.optimizer(net), {}
    mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(case.ema))
    for k in range(case.steps):
        optimizer.zero_grad()
        loss = case.loss(net(*x.values()), y)
        loss.backward()
        if case.clip:
            case.clip(list(net.parameters()))
        optimizer.step()
        got[f"step{k + 1}.loss"] = loss
        mean.update_parameters(net)
        for name, p in mean.module.named_parameters() if case.ema else ():
            got[f"step{k + 1}.ema.{name}"] = p.detach().clone()
        for name, p in net.named_parameters():
            got[f"step{k + 1}.{name}"] = p.detach().clone()
    return got, 0


def in_use(case, net, x):
    net, got = copy.deepcopy(net).eval(), {}
    with torch.no_grad():
        if not case.steps:
            got["predict"] = case.predict(net(*x.values()))
        for name, read in case.probe.items():
            got[f"probe.{name}"] = read(net, *x.values())
    return got


def single(x):
    return x.float() if torch.is_floating_point(x) else x


def compare_single(case, net, x, y, got, most):
    """PyTorch's own f32 must pass the test too: the worst error in units of the tolerance."""
    low, lx = copy.deepcopy(net).float(), {k: single(v) for k, v in x.items()}
    have = in_use(case, low, lx)
    if case.steps:
        have.update(train_steps(case, low, lx, single(y))[0])
    elif case.train:
        have.update(train_step(case, low, lx, single(y))[0])
    worst = 0
    for name, want in got.items():
        tolerance = GRADIENT if name.startswith("grad.") else OUTPUT
        largest = want.abs().max().item() or most
        err = (have[name].double() - want).abs().max().item()
        worst = max(worst, err / (tolerance * largest + 1e-300))
    return worst


def record(case):
    r = Record(case.seed, MOST if isinstance(case.model, str) else math.inf)
    net = case.net().double()
    fill_net(case, r, net)
    x = {}
    for name, shape in case.x.items():
        how = case.spread.get(name, (0, 2))
        shape = (case.batch, *shape)
        x[name] = r.fill_below(name, shape, how[1]) if how[0] == "below" else r.fill(name, shape, *how)
        if name in case.given:
            x[name] = r.give(name, case.given[name](x[name]))
    shape = tuple(copy.deepcopy(net).train()(*x.values()).shape)
    y = fill_target(case, r, shape)

    got, most = in_use(case, net, x), 0
    if case.steps or case.train:
        more, most = (train_steps if case.steps else train_step)(case, net, x, y)
        got.update(more)
    if "output" in got and torch.allclose(got["predict"][: case.rows], got["output"], 1e-9, 1e-12):
        del got["predict"]
    for name, t in got.items():
        r.put(name, t)
    worst = compare_single(case, net, x, y, got, most)
    if isinstance(case.model, str):
        r.meta["file"] = case.model
        r.meta["set"] = "\n".join(case.sets)
    else:
        data = {name: list(s) for name, s in case.x.items()}
        data.update({"classes": case.target[1]} if case.target[0] == "below" else {"y": list(shape[1:])})
        r.meta["model"] = json.dumps({"data": {"random": {**data, "rows": 8}}, **case.model})
    if case.words:
        r.meta["words"] = str(case.words)
    r.meta.update(inputs=" ".join(case.x), batch=str(case.batch), rows=str(case.rows), lr=f"{case.lr:g}",
                  steps=str(case.steps))
    r.write(os.path.join(HERE, case.name + ".safetensors"))
    return worst


def main():
    sys.path.insert(0, HERE)
    sys.dont_write_bytecode = True
    sys.modules["make"] = sys.modules[__name__]
    import of_layers  # noqa: E402
    import of_training  # noqa: E402
    import of_zoo  # noqa: E402

    p = argparse.ArgumentParser(description="record what PyTorch computes")
    p.add_argument("name", nargs="*", help="cases; all when absent")
    p.add_argument("--list", action="store_true", help="names of the cases")
    a = p.parse_args()
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)
    cases = {c.name: c for c in [*of_layers.cases(), *of_training.cases(), *of_zoo.cases()]}
    if a.list:
        print("\n".join(cases))
        return 0
    failed = 0
    for name in a.name or cases:
        worst = record(cases[name])
        failed += worst > 1
        print(f"{name}: PyTorch's f32 is within {worst:.2f} of the tolerance")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
