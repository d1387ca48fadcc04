# SPDX-License-Identifier: Apache-2.0
"""The losses and optimizers of models/*.def, beside those of torch.nn and torch.optim.

PyTorch has neither focal nor quantile loss nor Lion: those are written out here from their papers,
and only their gradients are PyTorch's."""
import torch
from torch import nn
from torch.nn import functional as F

from make import Case


class Net(nn.Module):
    """Two dense layers, or one."""

    def __init__(self, units, hidden=None, inputs=5):
        super().__init__()
        if hidden:
            self.h = nn.Linear(inputs, hidden)
        self.l = nn.Linear(hidden or inputs, units)
        self.hidden = hidden

    def forward(self, x):
        return self.l(torch.tanh(self.h(x)) if self.hidden else x)


def focal(gamma):
    def loss(p, y):
        nll = F.cross_entropy(p, y, reduction="none")
        return ((1 - torch.exp(-nll)) ** gamma * nll).mean()

    return loss


def quantile(q):
    return lambda p, y: torch.maximum(q * (y - p), (q - 1) * (y - p)).mean()


def softmax(x):
    return F.softmax(x, -1)


def kl(p, y):
    return F.kl_div(F.log_softmax(p, -1), y, reduction="batchmean")


def loss(name, torch_loss, keys=None, target="like", units=3, x=(5,), predict=lambda p: p, given=None):
    """Of five rows the last does not count."""
    kind = name.split("-")[0]
    layers = [{"name": "l", "type": "dense", "units": units}, {"name": "end", "type": "flatten", "input": "l"}]
    model = {"layers": layers[: 1 if len(x) > 1 or target[0] == "below" else 2],
             "loss": {"type": kind, **(keys or {})}, "optimizer": {"type": "sgd"}}
    model["loss"]["prediction"] = model["layers"][-1]["name"]
    return Case("loss-" + name, model, lambda: Net(units, inputs=x[-1]), {"x": x}, loss=torch_loss, target=target,
                predict=predict, batch=5, rows=4, given=given)


def losses():
    yield loss("mse", nn.MSELoss())
    yield loss("mae", nn.L1Loss(), x=(3, 5))
    yield loss("huber", nn.HuberLoss(delta=0.75), {"delta": 0.75})
    level = {"l.weight": torch.zeros_like, "l.bias": lambda b: torch.tensor([0.5, -0.25, 1]).double()}
    corner = ("given", lambda y: torch.tensor([0.5, 0.75, -3]).double().expand(y.shape))
    yield loss("mae-corners", nn.L1Loss(), target=corner, given=level)
    yield loss("huber-corners", nn.HuberLoss(), target=corner, given=level)
    yield loss("cross_entropy", nn.CrossEntropyLoss(), target=("below", 7), units=7, predict=softmax)
    yield loss("cross_entropy-smooth", nn.CrossEntropyLoss(label_smoothing=0.1), {"label_smoothing": 0.1},
               target=("below", 7), units=7, predict=softmax)
    yield loss("cross_entropy-steps", lambda p, y: F.cross_entropy(p.movedim(-1, 1), y, label_smoothing=0.25),
               {"label_smoothing": 0.25}, target=("below", 7), units=7, x=(3, 5), predict=softmax)
    yield loss("focal", focal(1.5), {"gamma": 1.5}, target=("below", 5), units=5, predict=softmax)
    yield loss("bce", nn.BCEWithLogitsLoss(), target=(0.5, 0.5), predict=torch.sigmoid)
    yield loss("quantile", quantile(0.8), {"quantile": 0.8})
    yield loss("kl", kl, target=("given", softmax), units=7, predict=softmax)
    yield loss("kl-steps", kl, target=("given", softmax), units=4, x=(3, 5), predict=softmax)


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, algorithm 2."""

    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                update = (group["betas"][0] * m + (1 - group["betas"][0]) * p.grad).sign()
                p.sub_(group["lr"] * (update + group["weight_decay"] * p))
                m.mul_(group["betas"][1]).add_((1 - group["betas"][1]) * p.grad)


def optimizer(name, made, keys=None, lr=2.0**-5, train=None, clip=None, groups=None, ema=0, **args):
    model = {"layers": [{"name": "h", "type": "dense", "units": 5, "activation": "tanh"},
                        {"name": "l", "type": "dense", "units": 3}],
             "loss": {"type": "mse"}, "optimizer": {"type": name.split("-")[0], **(keys or {})}, "train": train or {}}

    def start(net):
        return made(groups(net) if groups else net.parameters(), lr=lr, **args)

    return Case("optimizer-" + name, model, lambda: Net(3, 5, 4), {"x": (4,)}, steps=4, optimizer=start, lr=lr, clip=clip,
                ema=ema)


def only_weights(net):
    return [{"params": [p for p in net.parameters() if p.ndim > 1]},
            {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0}]


def optimizers():
    o = torch.optim
    yield optimizer("sgd", o.SGD, {"weight_decay": 0.25}, weight_decay=0.25)
    yield optimizer("sgd-momentum", o.SGD, {"momentum": 0.75}, momentum=0.75)
    yield optimizer("sgd-nesterov", o.SGD, {"momentum": 0.75, "nesterov": True, "weight_decay": 0.25}, momentum=0.75,
                    nesterov=True, weight_decay=0.25)
    yield optimizer("sgd-clip_norm", o.SGD, train={"clip_norm": 0.25}, clip=lambda p: nn.utils.clip_grad_norm_(p, 0.25))
    yield optimizer("sgd-clip_value", o.SGD, train={"clip_value": 0.0625},
                    clip=lambda p: nn.utils.clip_grad_value_(p, 0.0625))
    yield optimizer("sgd-ema", o.SGD, train={"ema": 0.75}, ema=0.75)
    yield optimizer("adam", o.Adam)
    yield optimizer("adam-all", o.Adam, {"beta1": 0.75, "beta2": 0.9375, "eps": 1e-3, "weight_decay": 0.25},
                    betas=(0.75, 0.9375), eps=1e-3, weight_decay=0.25)
    yield optimizer("adamw", o.AdamW)
    yield optimizer("adamw-weights", o.AdamW, {"beta1": 0.75, "beta2": 0.9375, "eps": 1e-3, "weight_decay": 0.25,
                                               "decayed": "weights"}, groups=only_weights,
                    betas=(0.75, 0.9375), eps=1e-3, weight_decay=0.25)
    yield optimizer("rmsprop", o.RMSprop)
    yield optimizer("rmsprop-all", o.RMSprop, {"alpha": 0.75, "eps": 1e-3, "momentum": 0.75, "weight_decay": 0.25},
                    alpha=0.75, eps=1e-3, momentum=0.75, weight_decay=0.25)
    yield optimizer("adagrad", o.Adagrad)
    yield optimizer("adagrad-all", o.Adagrad, {"lr_decay": 0.25, "start": 0.5, "eps": 1e-3, "weight_decay": 0.25},
                    lr_decay=0.25, initial_accumulator_value=0.5, eps=1e-3, weight_decay=0.25)
    yield optimizer("lion", Lion)
    yield optimizer("lion-all", Lion, {"beta1": 0.75, "beta2": 0.9375, "weight_decay": 0.25}, betas=(0.75, 0.9375),
                    weight_decay=0.25)


def cases():
    yield from losses()
    yield from optimizers()
