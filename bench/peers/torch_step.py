#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The nets of bench/nets in PyTorch, timed as bench-step times them in gtc.

    torch_step.py NET [--mode eager|channels_last|default|max-autotune|graph] [--device cpu|cuda]
                  [--threads N] [--seconds S]
    torch_step.py --params NET...       what each net has for parameters, without timing it

NET is a name (bench/nets/NAME.json) or the path of a model.json.  One whole training step is
zero_grad, forward, loss, backward, clip_grad_norm_, fused Adam.  Five steps warm up (the first one
is cold_s, compilation by torch.compile included), then steps for S seconds; the last line is JSON.
On a GPU a step ends when the GPU has done it, and `graph` is the eager step captured by hand as one
CUDA graph and replayed.

The net is built from the same file that gtc reads, so the two cannot drift apart; a layer, key or
value that has no counterpart here is an error.  gtc's tensors are channels-last, PyTorch's
convolutions want the channels second.  A net of convolutions alone gets its data in PyTorch's
order, with nothing to transpose; one that also has a recurrent layer transposes between the two,
as anyone would write it."""
import argparse
import json
import os
import sys
import time

NETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "nets")
MODES = ["eager", "channels_last", "default", "max-autotune", "graph"]
WARM_UP, MOST_STEPS = 5, 4000


def arguments():
    p = argparse.ArgumentParser(description="time one training step in PyTorch")
    p.add_argument("net", nargs="+", help="a name in bench/nets or a model.json")
    p.add_argument("--mode", choices=MODES, default="eager")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--seconds", type=float, default=3)
    p.add_argument("--params", action="store_true", help="print parameter counts only")
    a = p.parse_args()
    if len(a.net) > 1 and not a.params:
        p.error("one net at a time")
    if a.mode == "graph" and a.device != "cuda":
        p.error("a graph is for cuda")
    return a


ARGS = arguments()
os.environ["OMP_NUM_THREADS"] = str(ARGS.threads)  # read when torch loads
import torch  # noqa: E402
from torch import nn  # noqa: E402
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # gtc computes in f32


def take(layer, **keys):
    """The values of `keys` in a layer, with their defaults; a key that is not asked for is an error."""
    unknown = set(layer) - set(keys) - {"name", "type", "activation"}
    if unknown:
        raise SystemExit(f"layer {layer['name']}: no PyTorch counterpart for {sorted(unknown)}")
    return [layer.get(key, default) for key, default in keys.items()]


def choice(table, key, layer):
    if key not in table:
        raise SystemExit(f"layer {layer['name']}: no PyTorch counterpart for {key}")
    return table[key]


class Swap(nn.Module):
    """(B, T, C) to (B, C, T) and back."""

    def forward(self, x):
        return x.transpose(1, 2)


class Recurrent(nn.Module):
    def __init__(self, kind, inputs, units, layers, last):
        super().__init__()
        self.cell = kind(inputs, units, layers, batch_first=True)
        self.last = last

    def forward(self, x):
        h = self.cell(x)[0]  # (B, T, H)
        return h[:, -1] if self.last else h


class AttentionPool(nn.Module):
    def __init__(self, features, squash):
        super().__init__()
        self.score = nn.Linear(features, 1)
        self.squash = squash

    def forward(self, x):  # (B, T, H) to (B, H)
        weight = self.score(torch.tanh(x) if self.squash else x).softmax(1)
        return (weight * x).sum(1)


class Mean(nn.Module):
    """The mean over every axis between the channels, which come second, and the end."""

    def __init__(self, ndim):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool1d(1) if ndim == 1 else nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return self.pool(x).flatten(1)


# A layer type: a function of the layer, its input's channels and number of axes between batch and
# channels, that returns the module, its output's channels and axes, and whether the module wants
# the channels second (None: it takes either).
def dense(layer, c, axes):
    (units,) = take(layer, units=None)
    return nn.Linear(c, units), units, axes, False


def conv(kind):
    def build(layer, c, axes):
        filters, kernel = take(layer, filters=None, kernel=None)
        if kernel % 2 == 0:  # gtc's "same"
            raise SystemExit(f"layer {layer['name']}: an even kernel pads its sides unequally")
        return kind(c, filters, kernel, padding=kernel // 2), filters, axes, True
    return build


def recurrent(kind):
    def build(layer, c, axes):
        units, layers, returns = take(layer, units=None, layers=1, **{"return": "sequence"})
        if returns not in ("sequence", "last"):
            raise SystemExit(f"layer {layer['name']}: cannot return {returns}")
        last = returns == "last"
        return Recurrent(kind, c, units, layers, last), units, 0 if last else 1, False
    return build


def batch_norm(layer, c, axes):
    take(layer)
    return {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}[axes](c), c, axes, True


def max_pool(kind):
    def build(layer, c, axes):
        (kernel,) = take(layer, kernel=2)
        return kind(kernel), c, axes, True
    return build


def global_avg_pool(layer, c, axes):
    take(layer)
    return Mean(axes), c, 0, True


def attention_pool(layer, c, axes):
    (score,) = take(layer, score="linear")
    if score not in ("linear", "tanh"):
        raise SystemExit(f"layer {layer['name']}: no score {score} here")
    return AttentionPool(c, score == "tanh"), c, 0, False


def transformer_block(layer, c, axes):
    (heads,) = take(layer, heads=None)
    activation = choice(ACTIVATIONS, layer.get("activation", "relu"), layer)()
    return nn.TransformerEncoderLayer(c, heads, 4 * c, dropout=0, activation=activation,
                                      batch_first=True, norm_first=True), c, axes, False


LAYERS = {
    "dense": dense,
    "conv1d": conv(nn.Conv1d),
    "conv2d": conv(nn.Conv2d),
    "lstm": recurrent(nn.LSTM),
    "gru": recurrent(nn.GRU),
    "batch_norm": batch_norm,
    "max_pool1d": max_pool(nn.MaxPool1d),
    "max_pool2d": max_pool(nn.MaxPool2d),
    "global_avg_pool": global_avg_pool,
    "attention_pool": attention_pool,
    "transformer_block": transformer_block,
}
HAS_ACTIVATION_INSIDE = ["transformer_block"]
ACTIVATIONS = {"relu": nn.ReLU, "gelu_tanh": lambda: nn.GELU("tanh")}


def net_load(name):
    path = name if name.endswith(".json") else os.path.join(NETS, name + ".json")
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def net_build(model):
    """The module, and whether its input has the channels second."""
    shape = model["data"]["random"]["x"]
    channels, axes = shape[-1], len(shape) - 1
    second = axes > 0 and not any(l["type"] in ("lstm", "gru") for l in model["layers"])
    input_second = second
    modules = []
    for layer in model["layers"]:
        build = choice(LAYERS, layer["type"], layer)
        module, channels, axes_out, wants = build(layer, channels, axes)
        if axes and wants != second:
            if axes != 1:
                raise SystemExit(f"layer {layer['name']}: data of {axes} axes would be transposed")
            modules.append(Swap())
            second = wants
        modules.append(module)
        axes = axes_out
        if "activation" in layer and layer["type"] not in HAS_ACTIVATION_INSIDE:
            modules.append(choice(ACTIVATIONS, layer["activation"], layer)())
    return nn.Sequential(*modules), input_second


def net_data(model, channels_second):
    """One batch: x, y and the loss."""
    random, batch = model["data"]["random"], model["train"]["batch_size"]
    shape = list(random["x"])
    if channels_second:
        shape.insert(0, shape.pop())
    x = torch.randn(batch, *shape)
    loss = model["loss"]["type"]
    if loss == "cross_entropy":
        return x, torch.randint(0, random["classes"], (batch,)), nn.CrossEntropyLoss()
    if loss == "mse":
        return x, torch.randn(batch, *random["y"]), nn.MSELoss()
    raise SystemExit(f"no loss {loss} here")


def net_step(model, mode):
    """The training step as a function, and the number of parameters."""
    net, channels_second = net_build(model)
    x, y, loss = net_data(model, channels_second)
    net, x, y = (t.to(ARGS.device) for t in (net, x, y))
    if mode == "channels_last":
        if x.dim() != 4:
            raise SystemExit("channels_last is for nets of 2-d convolutions")
        net, x = (t.to(memory_format=torch.channels_last) for t in (net, x))
    optimizer = model["optimizer"]
    if optimizer["type"] != "adam" or set(optimizer) - {"type", "learning_rate"}:
        raise SystemExit("only plain adam here")
    params = list(net.parameters())
    adam = torch.optim.Adam(params, optimizer["learning_rate"], fused=True,
                            capturable=mode == "graph")
    clip = model["train"]["clip_norm"]
    forward = net
    if mode in ("default", "max-autotune"):
        forward = torch.compile(net, mode=mode)

    def step():
        adam.zero_grad(set_to_none=True)
        loss(forward(x), y).backward()
        nn.utils.clip_grad_norm_(params, clip)
        adam.step()

    if ARGS.device == "cuda":
        step = graphed(step) if mode == "graph" else step
        step = synchronized(step)
    return step, sum(p.numel() for p in params)


def synchronized(step):
    def whole():
        step()
        torch.cuda.synchronize()
    return whole


def graphed(step):
    """The step as one CUDA graph, captured after a warm-up on a side stream, as PyTorch's notes say."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def main():
    torch.set_num_threads(ARGS.threads)
    torch.manual_seed(1)
    if ARGS.params:
        print(json.dumps({m["name"]: net_step(m, "eager")[1] for m in map(net_load, ARGS.net)}))
        return 0
    model = net_load(ARGS.net[0])
    step, params = net_step(model, ARGS.mode)
    t = time.perf_counter()
    step()
    cold = time.perf_counter() - t
    for _ in range(WARM_UP - 1):
        step()
    ms = []
    start = time.perf_counter()
    while time.perf_counter() - start < ARGS.seconds and len(ms) < MOST_STEPS:
        t = time.perf_counter()
        step()
        ms.append(1e3 * (time.perf_counter() - t))
    ms.sort()
    n = len(ms)
    at = {"min_ms": 0, "med_ms": n // 2, "p10_ms": n // 10, "p90_ms": n - 1 - n // 10}
    print(json.dumps({
        "fw": "torch", "wl": model["name"], "mode": ARGS.mode, "nt": torch.get_num_threads(),
        **{key: float(f"{ms[i]:.4g}") for key, i in at.items()}, "n": n,
        "params": params, "cold_s": round(cold, 3), "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if ARGS.device == "cuda" else "cpu",
    }))
    return 0


if __name__ == "__main__":
    sys.exit(main())
