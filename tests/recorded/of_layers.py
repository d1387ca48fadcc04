# SPDX-License-Identifier: Apache-2.0
"""The layers of models/layers.def as modules of torch.nn, on odd shapes.

A case is a list of branches: a layer's type, the shapes of its inputs (channels last, without the
batch), a module, how it is called where its axes stand otherwise, and the layer's keys.  Each branch
reads inputs of its own; what they give is laid flat, side by side, and multiplied by one trained
slope below zero, so that a case of layers without parameters can be trained too."""
import torch
from torch import nn
from torch.nn import functional as F

from make import Case


def plain(m, *x):
    return m(*x)


def channels_first(m, x):
    return m(x.movedim(-1, 1)).movedim(1, -1)


def then(f, call=plain):
    """call, then the activation f"""
    return lambda m, *x: f(call(m, *x))


class Function(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, *x):
        return self.f(*x)


class Branches(nn.Module):
    def __init__(self, branches):
        super().__init__()
        self.branches = branches
        for name, (_, module, _) in branches.items():
            if isinstance(module, nn.Module):
                setattr(self, name, module)
        self.end = nn.PReLU()

    def forward(self, *x):
        out, at = [], 0
        for shapes, module, call in self.branches.values():
            out.append(call(module, *x[at : at + len(shapes)]).flatten(1))
            at += len(shapes)
        return self.end(torch.cat(out, 1))


def layer(name, *branches, **more):
    """branches: rows; layers are named l1, l2, .., their inputs x, x2, x3, .. through all branches,
    the shape that stands for a mask the last of its layer"""
    layers, parts, inputs, flat = [], {}, {}, []
    for i, (keys, shapes, module, call) in enumerate(branches):
        own = "l" + str(i + 1)
        shapes = shapes if isinstance(shapes, list) else [shapes]
        shapes += [keys["mask"]] if "mask" in keys else []
        names = [f"x{len(inputs) + k + 1}" if inputs or k else "x" for k in range(len(shapes))]
        inputs.update(zip(names, shapes))
        parts[own] = (shapes, module, call)
        keys.update({"mask": names.pop()} if "mask" in keys else {})
        layers.append({"name": own, **keys, "input": names if len(names) > 1 else names[0]})
        flat.append({"name": own + "f", "type": "flatten", "input": own})
    layers += flat
    if len(flat) > 1:
        layers.append({"name": "all", "type": "concat", "input": [f["name"] for f in flat]})
    layers.append({"name": "end", "type": "prelu"})
    model = {"layers": layers, "loss": {"type": "mse"}, "optimizer": {"type": "sgd"}}
    return Case(name, model, lambda: Branches(parts), inputs, **more)


def row(type, x, module, call=plain, **keys):
    return ({"type": type, **keys}, x, module, call)


ACTIVATIONS = {
    "relu": F.relu, "leaky_relu": F.leaky_relu, "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu, "tanh": torch.tanh,
    "sigmoid": torch.sigmoid, "elu": F.elu, "softplus": F.softplus, "mish": F.mish,
    "hard_sigmoid": F.hardsigmoid, "hard_swish": F.hardswish, "relu6": F.relu6,
    "softmax": lambda x: F.softmax(x, -1), "hard_tanh": F.hardtanh,
}


def dense():
    yield layer("dense", row("dense", (5,), nn.Linear(5, 7), units=7),
                row("dense", (3, 4), nn.Linear(4, 6, bias=False), units=6, bias=False),
                row("dense", (2, 3, 3), nn.Linear(3, 1), units=1),
                row("dense", (3,), nn.Linear(3, 5), then(lambda x: F.leaky_relu(x, 0.3)), units=5,
                    activation="leaky_relu", slope=0.3),
                row("dense", (3,), nn.Linear(3, 5), then(lambda x: F.elu(x, 0.6)), units=5,
                    activation="elu", alpha=0.6))
    # wide, so that the corners at 3 and 6 are on either side of them
    yield layer("dense-activations", *[row("dense", (5,), nn.Linear(5, 7), then(f), units=7, activation=a)
                                       for a, f in ACTIVATIONS.items()], spread={"x11": (0, 4), "x12": (0, 4), "x13": (0, 8), "x15": (0, 2)})
    some = [row(a, (3, 5), Function(f)) for a, f in ACTIVATIONS.items()]
    some += [row("leaky_relu", (7,), nn.LeakyReLU(0.2), slope=0.2), row("elu", (7,), nn.ELU(0.7), alpha=0.7),
             row("prelu", (7,), nn.PReLU()),
             row("prelu", (3, 5), nn.PReLU(5), channels_first, per_channel=True)]
    yield layer("activations", *some, spread={"x11": (0, 4), "x12": (0, 4), "x13": (0, 8), "x15": (0, 2), "x9": (0, 32)})


def corners():
    """Slopes where the formula changes, and of equal values."""
    def at(*values):
        return lambda x: torch.tensor(values, dtype=torch.float64).expand(x.shape[0], -1).reshape(x.shape)

    some = [row(a, (7,), Function(f)) for a, f in ACTIVATIONS.items() if a != "softmax"]
    some += [row("elu", (7,), nn.ELU(0.6), alpha=0.6),
             row("max_pool1d", (6, 1), nn.MaxPool1d(3), channels_first, kernel=3),
             row("global_max_pool", (6, 1), nn.AdaptiveMaxPool1d(1), channels_first)]
    given = {("x" if i == 0 else f"x{i + 1}"): at(0, 3, -3, 6, -6, 1, -1) for i in range(len(ACTIVATIONS))}
    given[f"x{len(given) + 1}"] = at(1, 2, 2, 0, 0, 0)
    given[f"x{len(given) + 1}"] = at(1, 2, 2, 0, 2, 0)
    yield layer("activations-corners", *some, given=given)


def convolutions():
    cf = channels_first
    yield layer("conv1d", row("conv1d", (7, 3), nn.Conv1d(3, 5, 3, padding="same"), cf, filters=5, kernel=3),
                row("conv1d", (11, 2), nn.Conv1d(2, 5, 3, stride=2, dilation=2), cf, filters=5, kernel=3,
                    stride=2, dilation=2, padding="valid"),
                row("conv1d", (7, 6), nn.Conv1d(6, 9, 4, padding=2, groups=3, bias=False), then(torch.tanh, cf),
                    filters=9, kernel=4, padding=2, groups=3, bias=False, activation="tanh"),
                row("conv1d", (9, 3), nn.Conv1d(3, 2, 4, padding="same"), cf, filters=2, kernel=4),
                row("conv1d", (9, 3), nn.Conv1d(3, 2, 4, dilation=3, padding="same"), cf, filters=2, kernel=4, dilation=3))
    yield layer("conv2d", row("conv2d", (5, 7, 3), nn.Conv2d(3, 5, 3, padding="same"), cf, filters=5, kernel=3),
                row("conv2d", (7, 6, 2), nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 3)), cf,
                    filters=3, kernel=[3, 2], stride=[2, 1], padding=[1, 2], dilation=[1, 3]),
                row("conv2d", (5, 5, 4), nn.Conv2d(4, 4, 3, groups=4, bias=False), then(F.silu, cf), filters=4, kernel=3,
                    groups=4, padding="valid", bias=False, activation="silu"),
                row("conv2d", (5, 4, 4), nn.Conv2d(4, 6, 2, padding="same", groups=2), cf, filters=6, kernel=2, groups=2))
    yield layer("conv3d", row("conv3d", (3, 4, 5, 2), nn.Conv3d(2, 3, 3, padding="same"), cf, filters=3, kernel=3),
                row("conv3d", (5, 4, 3, 2), nn.Conv3d(2, 3, (2, 3, 1), stride=(2, 1, 1), padding=(0, 2, 1),
                                                     dilation=(1, 2, 1), bias=False), then(F.relu, cf),
                    filters=3, kernel=[2, 3, 1], stride=[2, 1, 1], padding=[0, 2, 1], dilation=[1, 2, 1], bias=False,
                    groups=1, activation="relu"))
    yield layer("conv_transpose", row("conv_transpose1d", (5, 3), nn.ConvTranspose1d(3, 4, 3), cf, filters=4, kernel=3),
                row("conv_transpose1d", (4, 4), nn.ConvTranspose1d(4, 6, 3, stride=3, padding=1, output_padding=2, groups=2,
                                                                  dilation=2, bias=False), then(F.gelu, cf),
                    filters=6, kernel=3, stride=3, padding=1, output_padding=2, groups=2, dilation=2, bias=False,
                    activation="gelu"),
                row("conv_transpose2d", (3, 4, 2), nn.ConvTranspose2d(2, 3, 2, stride=2), cf, filters=3, kernel=2, stride=2),
                row("conv_transpose2d", (3, 2, 4), nn.ConvTranspose2d(4, 2, (3, 2), stride=(2, 1), padding=(1, 0), groups=2,
                                                                     output_padding=(1, 0), dilation=(1, 2), bias=False),
                    then(F.relu, cf), filters=2, kernel=[3, 2], stride=[2, 1], padding=[1, 0], groups=2,
                    output_padding=[1, 0], dilation=[1, 2], bias=False, activation="relu"),
                row("conv_transpose3d", (2, 3, 2, 4), nn.ConvTranspose3d(4, 2, (2, 1, 3), stride=(2, 1, 1), padding=(1, 0, 1),
                                                                        groups=2, output_padding=(1, 0, 0), dilation=(1, 1, 2),
                                                                        bias=False),
                    then(F.silu, cf), filters=2, kernel=[2, 1, 3], stride=[2, 1, 1], padding=[1, 0, 1], groups=2,
                    output_padding=[1, 0, 0], dilation=[1, 1, 2], bias=False, activation="silu"))


def pools():
    cf = channels_first
    for kind, made in (("max", (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)),
                       ("avg", (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d))):
        yield layer(f"{kind}_pool", row(f"{kind}_pool1d", (7, 3), made[0](2), cf),
                    row(f"{kind}_pool1d", (9, 3), made[0](3, stride=2), cf, kernel=3, stride=2),
                    row(f"{kind}_pool2d", (5, 6, 3), made[1](2), cf, kernel=2),
                    row(f"{kind}_pool2d", (5, 7, 2), made[1]((2, 3), stride=(1, 2)), cf, kernel=[2, 3], stride=[1, 2]),
                    row(f"{kind}_pool3d", (3, 5, 4, 2), made[2]((2, 3, 1), stride=(1, 1, 2)), cf, kernel=[2, 3, 1],
                        stride=[1, 1, 2]))
    yield layer("resampled", row("adaptive_avg_pool1d", (12, 3), nn.AdaptiveAvgPool1d(4), cf, output=4),
                row("adaptive_avg_pool2d", (6, 9, 2), nn.AdaptiveAvgPool2d((2, 3)), cf, output=[2, 3]),
                row("adaptive_avg_pool2d", (5, 9, 2), nn.AdaptiveAvgPool2d((3, 4)), cf, output=[3, 4]),
                row("adaptive_avg_pool3d", (3, 5, 4, 2), nn.AdaptiveAvgPool3d((2, 3, 4)), cf, output=[2, 3, 4]),
                row("adaptive_max_pool1d", (7, 3), nn.AdaptiveMaxPool1d(3), cf, output=3),
                row("adaptive_max_pool2d", (5, 4, 2), nn.AdaptiveMaxPool2d((3, 2)), cf, output=[3, 2]),
                row("adaptive_max_pool3d", (3, 5, 4, 2), nn.AdaptiveMaxPool3d((2, 3, 1)), cf, output=[2, 3, 1]),
                row("adaptive_avg_pool1d", (5, 3), nn.AdaptiveAvgPool1d(7), cf, output=7),
                row("adaptive_max_pool2d", (3, 2, 2), nn.AdaptiveMaxPool2d((5, 4)), cf, output=[5, 4]),
                row("k_max_pool1d", (7, 3), Function(lambda x: x.topk(3, 1).values), k=3),
                row("cumsum", (5, 3), Function(lambda x: x.cumsum(1))),
                row("global_avg_pool", (5, 3), nn.AdaptiveAvgPool1d(1), cf),
                row("global_avg_pool", (3, 5, 2), nn.AdaptiveAvgPool2d(1), cf),
                row("global_max_pool", (5, 3), nn.AdaptiveMaxPool1d(1), cf),
                row("global_max_pool", (3, 5, 2), nn.AdaptiveMaxPool2d(1), cf),
                row("upsample1d", (5, 3), nn.Upsample(scale_factor=2), cf),
                row("upsample1d", (3, 2), nn.Upsample(scale_factor=3), cf, scale=3),
                row("upsample2d", (3, 2, 3), nn.Upsample(scale_factor=(2, 3)), cf, scale=[2, 3]),
                row("upsample3d", (2, 1, 3, 2), nn.Upsample(scale_factor=(2, 3, 1)), cf, scale=[2, 3, 1]))
    yield layer("pad1d", row("pad1d", (5, 3), nn.ConstantPad1d((2, 1), 0), cf, before=2, after=1),
                row("pad1d", (5, 3), nn.ConstantPad1d((0, 3), 0.75), cf, after=3, value=0.75),
                row("pad1d", (5, 3), nn.ReflectionPad1d((4, 2)), cf, before=4, after=2, mode="reflect"),
                row("pad1d", (5, 3), nn.ReplicationPad1d((1, 6)), cf, before=1, after=6, mode="replicate"),
                row("pad1d", (5, 3), nn.CircularPad1d((3, 4)), cf, before=3, after=4, mode="circular"))
    yield layer("pad2d", row("pad2d", (3, 4, 2), nn.ConstantPad2d((1, 0, 2, 1), -0.5), cf, before=[2, 1], after=[1, 0],
                             value=-0.5),
                row("pad2d", (3, 4, 2), nn.ReflectionPad2d((3, 1, 2, 1)), cf, before=[2, 3], after=[1, 1], mode="reflect"),
                row("pad2d", (3, 4, 2), nn.ReplicationPad2d((1, 2, 3, 1)), cf, before=[3, 1], after=[1, 2], mode="replicate"),
                row("pad2d", (3, 4, 2), nn.CircularPad2d((4, 1, 2, 3)), cf, before=[2, 4], after=[3, 1], mode="circular"))
    yield layer("pad3d", row("pad3d", (2, 3, 4, 2), nn.ConstantPad3d((1, 0, 2, 1, 0, 3), -0.5), cf, before=[0, 2, 1],
                             after=[3, 1, 0], value=-0.5),
                row("pad3d", (2, 3, 4, 2), nn.ReflectionPad3d((3, 1, 2, 1, 1, 0)), cf, before=[1, 2, 3], after=[0, 1, 1],
                    mode="reflect"),
                row("pad3d", (1, 3, 4, 2), nn.ReplicationPad3d((1, 2, 3, 1, 2, 0)), cf, before=[2, 3, 1], after=[0, 1, 2],
                    mode="replicate"),
                row("pad3d", (2, 3, 4, 1), nn.CircularPad3d((4, 1, 2, 3, 1, 2)), cf, before=[1, 2, 4], after=[2, 3, 1],
                    mode="circular"))


def norms():
    cf = channels_first
    yield layer("batch_norm", row("batch_norm", (5,), nn.BatchNorm1d(5)),
                row("batch_norm", (3, 5, 2), nn.BatchNorm2d(2, eps=1e-3, momentum=0.3), then(F.relu, cf), eps=1e-3,
                    momentum=0.3, activation="relu"),
                row("batch_norm", (7, 3), nn.BatchNorm1d(3), cf), batch=5)
    yield layer("batch_norm-tail", row("batch_norm", (5,), nn.BatchNorm1d(5)),
                row("batch_norm", (3, 3), nn.BatchNorm1d(3), cf), batch=7, rows=4)
    yield layer("layer_norm", row("layer_norm", (3, 5), nn.LayerNorm(5)), row("layer_norm", (7,), nn.LayerNorm(7)),
                row("layer_norm", (2, 3, 5), nn.LayerNorm((3, 5), eps=1e-3, bias=False), then(F.gelu), axes=2, eps=1e-3,
                    bias=False, activation="gelu"),
                row("layer_norm", (3, 5), nn.LayerNorm(5, elementwise_affine=False), affine=False))
    yield layer("rms_norm", row("rms_norm", (3, 5), nn.RMSNorm(5, eps=2.0**-23)),
                row("rms_norm", (2, 3, 5), nn.RMSNorm((3, 5), eps=1e-2), then(F.silu), axes=2, eps=1e-2, activation="silu"),
                row("rms_norm", (3, 5), nn.RMSNorm(5, eps=2.0**-23, elementwise_affine=False), affine=False))
    yield layer("group_norm", row("group_norm", (5, 6), nn.GroupNorm(3, 6), cf, groups=3),
                row("group_norm", (3, 5, 4), nn.GroupNorm(2, 4, eps=1e-3, affine=False), then(F.relu, cf), groups=2,
                    eps=1e-3, affine=False, activation="relu"), row("group_norm", (9,), nn.GroupNorm(3, 9), groups=3),
                row("instance_norm", (5, 3), nn.InstanceNorm1d(3), cf),
                row("instance_norm", (3, 4, 2), nn.InstanceNorm2d(2, eps=1e-3, affine=True), then(F.relu, cf), eps=1e-3,
                    affine=True, activation="relu"))
    # masks are gtc's own; what a rate of 0 and use give is not
    yield layer("dropout", row("dropout", (3, 5), nn.Dropout(0), rate=0))
    yield layer("dropout-use", row("dropout", (3, 5), nn.Dropout(0.4), rate=0.4),
                row("multi_head_attention", (5, 6), nn.MultiheadAttention(6, 2, 0.5, batch_first=True), attention,
                    heads=2, dropout=0.5),
                row("transformer_block", (5, 6), encoder(6, 2, dropout=0.5), heads=2, dropout=0.5),
                train=False)


def states(m, x):
    return m(x)[0]


def last_states(m, x):
    h = m(x)[1]
    h = h[0] if isinstance(h, tuple) else h
    return torch.cat(list(h[-2:] if m.bidirectional else h[-1:]), -1)


class OneBias(nn.Module):
    """A recurrent layer of torch whose second bias is 0 but for a gru's n gate."""

    def __init__(self, m, gru=False):
        super().__init__()
        self.plan, self.names = [m], []
        h = m.hidden_size
        for name, p in list(m.named_parameters()):
            if not name.startswith("bias_hh"):
                self.register_parameter(name, p)
            elif gru:
                self.register_parameter(name.replace("hh", "hn"), nn.Parameter(torch.zeros(h)))
        self.bidirectional, self.gru, self.hidden = m.bidirectional, gru, h

    def forward(self, x):
        values = dict(self.named_parameters())
        for name in [n for n in values if n.startswith("bias_ih")]:
            zeros = torch.zeros_like(values[name])
            if self.gru:
                zeros = torch.cat([zeros[: 2 * self.hidden], values[name.replace("ih", "hn")]])
            values[name.replace("ih", "hh")] = zeros
        values = {n: v for n, v in values.items() if "hn" not in n}
        return torch.func.functional_call(self.plan[0].to(x.dtype), values, x)


def recurrent():
    for kind, made in (("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)):
        yield layer(kind, row(kind, (5, 3), made(3, 4, batch_first=True), states, units=4),
                    row(kind, (4, 3), made(3, 5, batch_first=True), last_states, units=5, **{"return": "last"}),
                    batch=4, rows=3)
        yield layer(f"{kind}-stacked",
                    row(kind, (5, 3), made(3, 3, num_layers=2, bidirectional=True, batch_first=True), states, units=3, layers=2,
                        bidirectional=True),
                    row(kind, (5, 2), made(2, 3, bidirectional=True, batch_first=True), last_states, units=3,
                        bidirectional=True, **{"return": "last"}),
                    row(kind, (3, 2), OneBias(made(2, 5, batch_first=True), kind == "gru"), states, units=5, bias="single"))


class Pool(nn.Module):
    """A score for each step, softmax over time, weighted sum."""

    def __init__(self, channels, before=lambda x: x):
        super().__init__()
        self.weight, self.bias = nn.Linear(channels, 1).parameters()
        self.before = before

    def shares(self, x):
        return F.softmax(F.linear(self.before(x), self.weight, self.bias), 1)

    def forward(self, x):
        return (self.shares(x) * x).sum(1)


def attention(m, x, memory=None, **more):
    memory = x if memory is None else memory
    return m(x, memory, memory, need_weights=False, **more)[0]


def later(x):
    """A mask of what a step may not see."""
    return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)


def encoder(width, heads, **more):
    more = {"dropout": 0, "dim_feedforward": 4 * width, "norm_first": True, **more}
    return nn.TransformerEncoderLayer(width, heads, batch_first=True, **more)


def attentions():
    yield layer("attention_pool", row("attention_pool", (5, 3), Pool(3), probe="shares"),
                row("attention_pool", (7, 4), Pool(4, torch.tanh), score="tanh"),
                probe={"shares": lambda net, *x: net.l1.shares(x[0])[..., 0]})
    yield layer("multi_head_attention",
                row("multi_head_attention", (5, 6), nn.MultiheadAttention(6, 2, batch_first=True), attention, heads=2),
                row("multi_head_attention", (7, 6), nn.MultiheadAttention(6, 3, bias=False, batch_first=True),
                    lambda m, x: attention(m, x, attn_mask=later(x)), heads=3, bias=False, causal=True),
                row("multi_head_attention", [(5, 4), (3, 4)], nn.MultiheadAttention(4, 1, batch_first=True), attention, heads=1))
    yield layer("transformer_block", row("transformer_block", (5, 6), encoder(6, 2), heads=2),
                row("transformer_block", (4, 6), encoder(6, 3, dim_feedforward=7, norm_first=False, layer_norm_eps=1e-3,
                                                        activation=F.gelu), lambda m, x: m(x, src_mask=later(x)),
                    heads=3, hidden=7, norm="post", eps=1e-3, causal=True, activation="gelu"),
                row("transformer_block", (3, 4), encoder(4, 1, bias=False), heads=1, bias=False))


def turned(x, base):
    """Channels i and i + d / 2 of (B, H, T, d) as a complex number, turned by t / base^(2i / d)."""
    half = x.shape[-1] // 2
    rate = base ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = torch.arange(x.shape[2], dtype=x.dtype)[:, None] * rate
    x = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([x.real, x.imag], -1)


def rotary_attention(m, x, base=10000.0, **more):
    """nn.MultiheadAttention, whose queries and keys turn; torch.nn has no rotary positions."""
    q, k, v = F.linear(x, m.in_proj_weight, m.in_proj_bias).unflatten(-1, (3, m.num_heads, -1)).movedim(2, 0).transpose(2, 3)
    y = F.scaled_dot_product_attention(turned(q, base), turned(k, base), v, **more)
    return m.out_proj(y.transpose(1, 2).flatten(2))


def rotary_block(m, x):
    h = x + rotary_attention(m.self_attn, m.norm1(x))
    return h + m.linear2(m.activation(m.linear1(m.norm2(h))))


def unseen(steps, n):
    """key_padding_mask of the first n steps."""
    return torch.arange(steps) >= n


def masked():
    mha = "multi_head_attention"
    yield layer("attention-masked",
                row(mha, (5, 6), nn.MultiheadAttention(6, 2, batch_first=True), lambda m, x, n: attention(
                    m, x, key_padding_mask=unseen(5, n)), heads=2, mask=(1,)),
                row(mha, [(3, 4), (5, 4)], nn.MultiheadAttention(4, 1, batch_first=True), lambda m, x, z, seen: attention(
                    m, x, z, key_padding_mask=seen <= 0), heads=1, mask=(5,)),
                row("transformer_block", (5, 6), encoder(6, 2), lambda m, x, n: m(x, src_key_padding_mask=unseen(5, n)),
                    heads=2, mask=(1,)), spread={"x2": (2, 2), "x7": (2, 2)})
    yield layer("attention-rotary",
                row(mha, (5, 8), nn.MultiheadAttention(8, 2, batch_first=True), rotary_attention, heads=2, rotary=True),
                row(mha, (7, 6), nn.MultiheadAttention(6, 1, batch_first=True), lambda m, x: rotary_attention(
                    m, x, 100.0, is_causal=True), heads=1, rotary=True, rotary_base=100, causal=True),
                row("transformer_block", (5, 4), encoder(4, 2), rotary_block, heads=2, rotary=True, rotary_base=1e4))


def no_row_2(w):
    return w.index_fill(0, torch.tensor(2), 0)


class Tied(nn.Module):
    """Words to vectors and back with one table; then a dense layer and its transpose."""

    def __init__(self):
        super().__init__()
        self.words, self.back = nn.Embedding(7, 4), OnlyBias(7)
        self.down, self.up = nn.Linear(7, 3), OnlyBias(7)

    def forward(self, x):
        y = F.linear(self.words(x), self.words.weight, self.back.bias)
        return F.linear(self.down(y), self.down.weight.T, self.up.bias)


class OnlyBias(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n))


def embeddings():
    yield layer("embedding", row("embedding", (5,), nn.Embedding(7, 3), vocab=7, dim=3),
                row("embedding", (2, 3), nn.Embedding(5, 4, padding_idx=2), vocab=5, dim=4, padding=2),
                row("position_encoding", (5, 7), Function(lambda x: x + sines(*x.shape[1:], x.dtype))),
                row("position_encoding", (9, 4), Function(lambda x: x + sines(*x.shape[1:], x.dtype))),
                spread={"x": ("below", 7), "x2": ("below", 5)}, given={"l2.weight": no_row_2})
    tied = [{"type": "embedding", "name": "words", "input": "x", "vocab": 7, "dim": 4},
            {"type": "dense", "name": "back", "units": 7, "tied": "words"}, {"type": "dense", "name": "down", "units": 3},
            {"type": "dense", "name": "up", "units": 7, "tied": "down"}]
    yield Case("tied", {"layers": tied, "loss": {"type": "mse"}, "optimizer": {"type": "sgd"}}, Tied, {"x": (5,)},
               spread={"x": ("below", 7)})


def sines(steps, channels, dtype):
    i = torch.arange(channels)
    angle = torch.arange(steps, dtype=dtype)[:, None] / 10000 ** ((i - i % 2).to(dtype) / channels)
    return torch.where(i % 2 == 0, angle.sin(), angle.cos())


GRU_CELL = {
    "units": 4, "state": {"h": "units"},
    "weights": {"weight_ih_l0": ["3 * units", "features"], "weight_hh_l0": ["3 * units", "units"],
                "bias_ih_l0": "3 * units", "bias_hn_l0": {"shape": "units"}},
    "update": {"a": "weight_ih_l0 @ x + bias_ih_l0", "g": "weight_hh_l0 @ h",
               "r": "sigmoid(a[0:units] + g[0:units])", "z": "sigmoid(a[units:2 * units] + g[units:2 * units])",
               "n": "tanh(a[2 * units:3 * units] + r * (g[2 * units:3 * units] + bias_hn_l0))",
               "h": "(1 - z) * n + z * h"}}
LSTM_CELL = {
    "state": {"h": 3, "c": 3},
    "weights": {"weight_ih_l0": [12, "features"], "weight_hh_l0": [12, 3], "bias_ih_l0": 12, "bias_hh_l0": 12},
    "update": {"a": "weight_ih_l0 @ x + bias_ih_l0 + weight_hh_l0 @ h + bias_hh_l0", "i": "sigmoid(a[0:3])",
               "f": "sigmoid(a[3:6])", "g": "tanh(a[6:9])", "o": "sigmoid(a[9:12])", "c": "f * c + i * g",
               "h": "o * tanh(c)"}}


def cells():
    def backwards(m, x):
        return m(x.flip(1))[0].flip(1)

    yield layer("cell", row("cell", (5, 3), OneBias(nn.GRU(3, 4, batch_first=True), True), states, **GRU_CELL),
                row("cell", (5, 2), nn.LSTM(2, 3, batch_first=True), lambda m, x: m(x)[1][1][0], **LSTM_CELL, output="c",
                    **{"return": "last"}),
                row("cell", (4, 3), nn.LSTM(3, 3, batch_first=True), backwards, **LSTM_CELL, reverse=True))


class ByLargest(nn.Module):
    """The vector of a step's largest channel, and of the smallest element of all."""

    def __init__(self):
        super().__init__()
        self.words, self.one = nn.Embedding(7, 3), nn.Embedding(35, 2)

    def forward(self, x):
        return torch.cat([self.words(x.argmax(-1)).flatten(1), self.one(x.flatten(1).argmin(-1))], 1)


def einsum(equation):
    return Function(lambda *x: torch.einsum(equation, *x))


def products():
    yield layer("reduce", row("reduce", (5, 3), Function(lambda x: x.sum((1, 2))[:, None]), op="sum", keep=True),
                row("reduce", (2, 5, 3), Function(lambda x: x.mean((1, 3))), op="mean", axes=[0, 2]),
                row("reduce", (5, 7), Function(lambda x: x.max(1).values), op="max", axes=0),
                row("reduce", (2, 3, 5), Function(lambda x: x.flatten(1, 2).min(1, keepdim=True).values), op="min",
                    axes=[0, 1], keep=True))
    places = [{"name": "place", "type": "reduce", "input": "x", "op": "argmax", "axes": -1},
              {"name": "words", "type": "embedding", "vocab": 7, "dim": 3}, {"name": "flat", "type": "flatten"},
              {"name": "low", "type": "reduce", "input": "x", "op": "argmin"},
              {"name": "one", "type": "embedding", "vocab": 35, "dim": 2},
              {"name": "y", "type": "concat", "input": ["flat", "one"]}]
    yield Case("reduce-places", {"layers": places, "loss": {"type": "mse"}, "optimizer": {"type": "sgd"}}, ByLargest,
               {"x": (5, 7)})
    yield layer("einsum", *[row("einsum", list(shapes), einsum(e), equation=e) for e, *shapes in (
        ("bij,bjk->bik", (3, 5), (5, 2)), ("bti->bit", (5, 3)), ("btc->bc", (5, 3)), ("bi,bj->bij", (3,), (5,)),
        ("bthd,bshd->bhts", (3, 2, 5), (4, 2, 5)), ("bij,bjk,bk->bi", (2, 3), (3, 5), (5,)))])


def moves():
    yield layer("moves", row("position_embedding", (5, 3), nn.Embedding(5, 3), lambda m, x: x + m(torch.arange(5))),
                row("last", (5, 3), Function(lambda x: x[:, -1])), row("flatten", (2, 3, 5), nn.Flatten()),
                row("reshape", (4, 3), nn.Unflatten(1, (2, 2)), shape=[2, -1, 3]),
                row("transpose", (4, 3), Function(lambda x: x.mT)),
                row("concat", [(4, 3), (4, 2)], Function(lambda a, b: torch.cat([a, b], -1))),
                row("concat", [(2, 3), (1, 3), (4, 3)], Function(lambda *x: torch.cat(x, 1)), axis=0),
                row("add", [(5, 3), (5, 3), (5, 3)], Function(lambda a, b, c: a + b + c)),
                row("subtract", [(7,), (7,), (7,)], Function(lambda a, b, c: a - b - c)),
                row("multiply", [(3, 2), (3, 2), (3, 2)], Function(lambda a, b, c: a * b * c)),
                row("minimum", [(5, 3), (5, 3)], Function(torch.minimum)),
                row("maximum", [(7,), (7,), (7,)], Function(lambda a, b, c: a.maximum(b).maximum(c))))


def cases():
    for some in (dense, corners, convolutions, pools, norms, recurrent, attentions, masked, embeddings,
                 cells, products, moves):
        yield from some()
