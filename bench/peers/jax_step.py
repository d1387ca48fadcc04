#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The nets of bench/nets in JAX, timed as bench-step times them in gtc.

    jax_step.py NET [--device cpu|cuda] [--threads N] [--seconds S]
    jax_step.py --params NET...         what each net has for parameters, without timing it

NET is a name (bench/nets/NAME.json) or the path of a model.json.  One whole training step, forward,
loss, backward, clipping by norm, Adam, is one jitted function whose parameters and moments are
donated.  Five steps warm up (the first one is cold_s, compilation included), then steps for S
seconds; a step ends when its results are there; the last line is JSON.

The net is built from the same file that gtc reads; a layer, key or value that has no counterpart
here is an error.  JAX takes gtc's order of axes, channels last, as it is.  Recurrent layers are a
lax.scan with the input's product in front, as JAX's own libraries write them."""
import argparse
import json
import os
import sys
import time

NETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "nets")
WARM_UP, MOST_STEPS = 5, 4000


def arguments():
    p = argparse.ArgumentParser(description="time one training step in JAX")
    p.add_argument("net", nargs="+", help="a name in bench/nets or a model.json")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--seconds", type=float, default=3)
    p.add_argument("--params", action="store_true", help="print parameter counts only")
    a = p.parse_args()
    if len(a.net) > 1 and not a.params:
        p.error("one net at a time")
    return a


ARGS = arguments()
if ARGS.device == "cpu":  # XLA's pool has a thread a core that the process may use
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:ARGS.threads])
os.environ["JAX_PLATFORMS"] = ARGS.device
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402
jax.config.update("jax_default_matmul_precision", "float32")  # gtc computes in f32, without TF32


class Draw:
    """Parameters in the order in which they are asked for."""

    def __init__(self):
        self.key = jax.random.key(1)

    def normal(self, *shape):
        self.key, now = jax.random.split(self.key)
        return jax.random.normal(now, shape)

    def weight(self, *shape):
        fan_in = 1
        for n in shape[:-1]:
            fan_in *= n
        return self.normal(*shape) * fan_in ** -0.5

    def dense(self, inputs, units):
        return {"w": self.weight(inputs, units), "b": jnp.zeros(units)}

    def norm(self, channels):
        return {"scale": jnp.ones(channels), "bias": jnp.zeros(channels)}


def take(layer, **keys):
    """The values of `keys` in a layer, with their defaults; a key that is not asked for is an error."""
    unknown = set(layer) - set(keys) - {"name", "type", "activation"}
    if unknown:
        raise SystemExit(f"layer {layer['name']}: no JAX counterpart for {sorted(unknown)}")
    return [layer.get(key, default) for key, default in keys.items()]


def choice(table, key, layer):
    if key not in table:
        raise SystemExit(f"layer {layer['name']}: no JAX counterpart for {key}")
    return table[key]


def linear(p, x):
    return x @ p["w"] + p["b"]


# A layer type: a function of the layer, its input's channels and a Draw that returns parameters, a
# function of these and the input, and the output's channels.
def dense(layer, c, draw):
    (units,) = take(layer, units=None)
    return draw.dense(c, units), linear, units


def conv(axes):
    order = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}[axes]

    def build(layer, c, draw):
        filters, kernel = take(layer, filters=None, kernel=None)

        def apply(p, x):
            return lax.conv_general_dilated(x, p["w"], (1,) * axes, "SAME",
                                            dimension_numbers=order) + p["b"]
        p = {"w": draw.weight(*(kernel,) * axes, c, filters), "b": jnp.zeros(filters)}
        return p, apply, filters
    return build


def lstm_cell(p, z, state):
    h, c = state
    i, f, g, o = jnp.split(z + linear(p["hidden"], h), 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def gru_cell(p, z, state):
    (h,) = state
    zr, zu, zn = jnp.split(z, 3, -1)
    hr, hu, hn = jnp.split(linear(p["hidden"], h), 3, -1)
    u = jax.nn.sigmoid(zu + hu)
    return ((1 - u) * jnp.tanh(zn + jax.nn.sigmoid(zr + hr) * hn) + u * h,)


def recurrent(cell, gates, states):
    def build(layer, c, draw):
        units, layers, returns = take(layer, units=None, layers=1, **{"return": "sequence"})
        if returns not in ("sequence", "last"):
            raise SystemExit(f"layer {layer['name']}: cannot return {returns}")
        params = [{"input": draw.dense(units if k else c, gates * units),
                   "hidden": draw.dense(units, gates * units)} for k in range(layers)]

        def apply(params, x):  # (B, T, C)
            x = x.swapaxes(0, 1)
            for p in params:
                def step(state, z, p=p):
                    state = cell(p, z, state)
                    return state, state[0]
                start = (jnp.zeros((x.shape[1], units)),) * states
                x = lax.scan(step, start, linear(p["input"], x))[1]
            return x[-1] if returns == "last" else x.swapaxes(0, 1)
        return params, apply, units
    return build


def normalise(p, x, axes, eps):
    mean = x.mean(axes, keepdims=True)
    return (x - mean) * lax.rsqrt(x.var(axes, keepdims=True) + eps) * p["scale"] + p["bias"]


def batch_norm(layer, c, draw):
    """Without running statistics: nothing reads them in a training step, and JAX drops what is not read."""
    take(layer)
    return draw.norm(c), lambda p, x: normalise(p, x, tuple(range(x.ndim - 1)), 1e-5), c


def max_pool(axes):
    def build(layer, c, draw):
        (kernel,) = take(layer, kernel=2)
        window = (1, *(kernel,) * axes, 1)
        return {}, lambda p, x: lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID"), c
    return build


def global_avg_pool(layer, c, draw):
    take(layer)
    return {}, lambda p, x: x.mean(tuple(range(1, x.ndim - 1))), c


def attention_pool(layer, c, draw):
    (score,) = take(layer, score="linear")
    squash = choice({"linear": lambda x: x, "tanh": jnp.tanh}, score, layer)
    return draw.dense(c, 1), lambda p, x: (jax.nn.softmax(linear(p, squash(x)), 1) * x).sum(1), c


def transformer_block(layer, c, draw):
    (heads,) = take(layer, heads=None)
    activation = choice(ACTIVATIONS, layer.get("activation", "relu"), layer)

    def apply(p, x):
        b, t, _ = x.shape
        qkv = linear(p["in"], normalise(p["norm1"], x, -1, 1e-5)).reshape(b, t, 3, heads, c // heads)
        mixed = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        x = x + linear(p["out"], mixed.reshape(b, t, c))
        return x + linear(p["down"], activation(linear(p["up"], normalise(p["norm2"], x, -1, 1e-5))))
    p = {"norm1": draw.norm(c), "in": draw.dense(c, 3 * c), "out": draw.dense(c, c),
         "norm2": draw.norm(c), "up": draw.dense(c, 4 * c), "down": draw.dense(4 * c, c)}
    return p, apply, c


LAYERS = {
    "dense": dense,
    "conv1d": conv(1),
    "conv2d": conv(2),
    "lstm": recurrent(lstm_cell, 4, 2),
    "gru": recurrent(gru_cell, 3, 1),
    "batch_norm": batch_norm,
    "max_pool1d": max_pool(1),
    "max_pool2d": max_pool(2),
    "global_avg_pool": global_avg_pool,
    "attention_pool": attention_pool,
    "transformer_block": transformer_block,
}
HAS_ACTIVATION_INSIDE = ["transformer_block"]
ACTIVATIONS = {"relu": jax.nn.relu, "gelu_tanh": jax.nn.gelu}


def net_load(name):
    path = name if name.endswith(".json") else os.path.join(NETS, name + ".json")
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def net_build(model):
    """Parameters, and the net as a function of them and x."""
    draw, channels, params, applied = Draw(), model["data"]["random"]["x"][-1], [], []
    for layer in model["layers"]:
        p, apply, channels = choice(LAYERS, layer["type"], layer)(layer, channels, draw)
        after = lambda x: x  # noqa: E731
        if "activation" in layer and layer["type"] not in HAS_ACTIVATION_INSIDE:
            after = choice(ACTIVATIONS, layer["activation"], layer)
        params.append(p)
        applied.append((apply, after))

    def forward(params, x):
        for p, (apply, after) in zip(params, applied):
            x = after(apply(p, x))
        return x
    return params, forward


def net_data(model):
    """One batch: x, y and the loss of a prediction."""
    random, batch, draw = model["data"]["random"], model["train"]["batch_size"], Draw()
    x, loss = draw.normal(batch, *random["x"]), model["loss"]["type"]
    if loss == "cross_entropy":
        y = jax.random.randint(draw.key, (batch, 1), 0, random["classes"])
        return x, y, lambda z, y: -jnp.take_along_axis(jax.nn.log_softmax(z), y, 1).mean()
    if loss == "mse":
        return x, draw.normal(batch, *random["y"]), lambda z, y: ((z - y) ** 2).mean()
    raise SystemExit(f"no loss {loss} here")


def net_step(model):
    """The training step as a function, and the number of parameters."""
    params, forward = net_build(model)
    x, y, loss = net_data(model)
    optimizer, clip = model["optimizer"], model["train"]["clip_norm"]
    if optimizer["type"] != "adam" or set(optimizer) - {"type", "learning_rate"}:
        raise SystemExit("only plain adam here")
    rate, beta1, beta2, eps = optimizer["learning_rate"], 0.9, 0.999, 1e-8
    each = jax.tree_util.tree_map

    def update(params, moment1, moment2, count, x, y):
        value, grads = jax.value_and_grad(lambda p: loss(forward(p, x), y))(params)
        norm = jnp.sqrt(sum((g * g).sum() for g in jax.tree_util.tree_leaves(grads)))
        grads = each(lambda g: g * jnp.minimum(1.0, clip / (norm + 1e-6)), grads)
        moment1 = each(lambda m, g: beta1 * m + (1 - beta1) * g, moment1, grads)
        moment2 = each(lambda v, g: beta2 * v + (1 - beta2) * g * g, moment2, grads)
        count = count + 1
        step = rate / (1 - beta1 ** count)
        params = each(lambda p, m, v: p - step * m / (jnp.sqrt(v / (1 - beta2 ** count)) + eps),
                      params, moment1, moment2)
        return params, moment1, moment2, count, value

    update = jax.jit(update, donate_argnums=(0, 1, 2))
    zeros = each(jnp.zeros_like, params)
    state = [params, zeros, each(jnp.copy, zeros), jnp.zeros(())]

    def step():
        *state[:], value = update(*state, x, y)
        jax.block_until_ready((state, value))
    return step, sum(p.size for p in jax.tree_util.tree_leaves(params))


def main():
    if ARGS.params:
        print(json.dumps({m["name"]: net_step(m)[1] for m in map(net_load, ARGS.net)}))
        return 0
    model = net_load(ARGS.net[0])
    step, params = net_step(model)
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
        "fw": "jax", "wl": model["name"], "mode": "jax", "nt": ARGS.threads,
        **{key: float(f"{ms[i]:.4g}") for key, i in at.items()}, "n": n,
        "params": params, "cold_s": round(cold, 3), "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }))
    return 0


if __name__ == "__main__":
    sys.exit(main())
