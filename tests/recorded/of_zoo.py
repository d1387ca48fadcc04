# SPDX-License-Identifier: Apache-2.0
"""The models of models/*.json, written as their users would in torch.nn.

Data come as gtc has them, channels last.  Dropout is set to 0 on both sides: its masks are gtc's
own."""
import torch
from torch import nn
from torch.nn import functional as F

from make import Case
from of_layers import Pool, channels_first, encoder, last_states, later, states


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden1, self.hidden2, self.y = nn.Linear(120, 64), nn.Linear(64, 32), nn.Linear(32, 1)

    def forward(self, x):
        return self.y(F.relu(self.hidden2(F.relu(self.hidden1(x.flatten(1))))))


class Skip(nn.Module):
    """A deep part, and a linear one beside it."""

    def __init__(self, width, flat, outputs):
        super().__init__()
        self.deep, self.skip = nn.Linear(width, outputs), nn.Linear(flat, outputs)

    def forward(self, x):
        return self.deep(self.features(x)) + self.skip(x.flatten(1))


class Demo(Skip):
    def __init__(self):
        super().__init__(16, 120, 1)
        self.conv, self.gru = nn.Conv1d(5, 16, 3, padding=1), nn.GRU(16, 16, batch_first=True)

    def features(self, x):
        return last_states(self.gru, F.relu(channels_first(self.conv, x)))


class CnnLstm(Skip):
    def __init__(self):
        super().__init__(64, 240, 1)
        self.conv, self.lstm = nn.Conv1d(5, 32, 3, padding=1), nn.LSTM(32, 64, batch_first=True)
        self.pool = Pool(64)

    def sequence(self, x):
        return states(self.lstm, F.relu(channels_first(self.conv, x)))

    def features(self, x):
        return self.pool(self.sequence(x))


class LstmAttention(Skip):
    def __init__(self):
        super().__init__(32, 60, 2)
        self.lstm, self.pool = nn.LSTM(2, 32, batch_first=True), Pool(32, torch.tanh)

    def sequence(self, x):
        return states(self.lstm, x)

    def features(self, x):
        return self.pool(self.sequence(x))


def attention(net, x):
    return net.pool.shares(net.sequence(x))[..., 0]


class AncLstm(Skip):
    def __init__(self):
        super().__init__(32, 32, 1)
        self.lstm, self.hidden = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 32)

    def features(self, x):
        return F.relu(self.hidden(last_states(self.lstm, x)))


class Cnn2d(Skip):
    def __init__(self):
        super().__init__(32, 48 * 9, 1)
        for i, (n, m) in enumerate([(1, 16), (16, 32), (32, 32)], 1):
            setattr(self, f"conv{i}", nn.Conv2d(n, m, 3, padding=1))
            setattr(self, f"norm{i}", nn.BatchNorm2d(m))

    def features(self, x):
        x = x.unsqueeze(1)
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), (2, 1))
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), (2, 1))
        return F.relu(self.norm3(self.conv3(x))).mean((2, 3))


class FashionCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.hidden, self.logits = nn.Linear(1568, 128), nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x.movedim(-1, 1)))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        return self.logits(F.relu(self.hidden(x.movedim(1, -1).flatten(1))))


class DLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear_trend, self.linear_season = nn.Linear(336, 96), nn.Linear(336, 96)

    def forward(self, x):
        rows = x.mT
        trend = F.avg_pool1d(F.pad(rows, (12, 12), mode="replicate"), 25, 1)
        return (self.linear_trend(trend) + self.linear_season(rows - trend)).mT


class Tcn(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(1, 24)
        for i, dilation in enumerate((2, 8, 24), 1):
            setattr(self, f"conv{i}", nn.Conv1d(24, 24, 3, dilation=dilation))
        self.change, self.level = nn.Linear(24, 1), nn.Linear(1, 1, bias=False)

    def forward(self, x):
        h = self.get_submodule("in")(F.instance_norm(x.mT).mT).mT
        for conv, past in ((self.conv1, 4), (self.conv2, 16), (self.conv3, 48)):
            h = h + F.gelu(conv(F.pad(h, (past, 0))))
        return self.level(x[:, -1]) + self.change(h[..., -1])


def tcn():
    net = Tcn()
    net.add_module("in", net.enter)  # no name for an attribute
    del net.enter
    return net


class BehaviourCnn(nn.Module):
    def __init__(self):
        super().__init__()
        for i, (n, m, kernel) in enumerate([(6, 32, 7), (32, 64, 5), (64, 64, 3)], 1):
            setattr(self, f"conv{i}", nn.Conv1d(n, m, kernel, padding="same"))
            setattr(self, f"norm{i}", nn.BatchNorm1d(m))
        self.y = nn.Linear(64, 5)

    def forward(self, x):
        x = F.max_pool1d(F.relu(self.norm1(self.conv1(x.mT))), 2)
        x = F.max_pool1d(F.relu(self.norm2(self.conv2(x))), 2)
        return self.y(F.relu(self.norm3(self.conv3(x))).mean(2))


class BehaviourTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.place = nn.Conv1d(6, 48, 4, stride=4), nn.Embedding(16, 48)
        self.block1, self.block2 = [encoder(48, 4, dim_feedforward=96, activation="gelu") for _ in range(2)]
        self.norm, self.y = nn.LayerNorm(48), nn.Linear(48, 5)

    def forward(self, x):
        x = channels_first(self.patch, x) + self.place.weight
        return self.y(self.norm(self.block2(self.block1(x))).mean(1))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.add_module("in", nn.Conv1d(1, 16, 9, padding=4))
        down, up = [16, 24, 32, 48, 64], [16, 24, 32, 48]
        for i in range(1, 5):
            setattr(self, f"down{i}", nn.Conv1d(down[i - 1], down[i], 9, stride=2, padding=4))
        for i, below in zip((3, 2, 1, 0), (64, 48, 32, 24)):
            setattr(self, f"up{i}", nn.Conv1d(below + down[i], up[i], 5, padding=2))
        self.y = nn.Conv1d(17, 1, 1)

    def forward(self, x):
        x = x.mT
        seen = [F.leaky_relu(self.get_submodule("in")(x))]
        for i in range(1, 5):
            seen.append(F.leaky_relu(getattr(self, f"down{i}")(seen[-1])))
        h = seen[4]
        for i in (3, 2, 1, 0):
            h = torch.cat([F.interpolate(h, scale_factor=2), seen[i]], 1)
            h = F.leaky_relu(getattr(self, f"up{i}")(h))
        return self.y(torch.cat([h, x], 1)).mT


class GptChar(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.place = nn.Embedding(65, 20), nn.Embedding(13, 20)
        for i in (1, 2, 3):
            setattr(self, f"block{i}", encoder(20, 4, activation="gelu"))
        self.norm, self.y = nn.LayerNorm(20), nn.Linear(20, 65)

    def forward(self, x):
        h = self.token(x) + self.place.weight
        for block in (self.block1, self.block2, self.block3):
            h = block(h, src_mask=later(x))
        return self.y(self.norm(h))


class ResNet18(nn.Module):
    """Residuals are of two 3x3 convolutions; the first of a stage halves both axes."""

    WIDTH = (4, 5, 6, 7)

    def __init__(self):
        super().__init__()
        self.convolve("stem", 1, 4, 3, 1)
        self.stem_norm, n = nn.BatchNorm2d(4), 4
        for stage, width in enumerate(self.WIDTH, 1):
            for block in "ab":
                name, stride = f"s{stage}{block}", 2 if stage > 1 and block == "a" else 1
                for i, (inner, kernel, step) in enumerate([(n, 3, stride), (width, 3, 1), (n, 1, 2)][: 2 + (stride == 2)], 1):
                    self.convolve(f"{name}_conv{i}", inner, width, kernel, step)
                    setattr(self, f"{name}_norm{i}", nn.BatchNorm2d(width))
                n = width
        self.logits = nn.Linear(n, 10)

    def convolve(self, name, n, m, kernel, stride):
        setattr(self, name, nn.Conv2d(n, m, kernel, stride, kernel // 2, bias=False))

    def forward(self, x):
        x = F.relu(self.stem_norm(self.stem(x.movedim(-1, 1))))
        for stage in range(1, 5):
            for block in "ab":
                conv = [getattr(self, f"s{stage}{block}_conv{i}", None) for i in (1, 2, 3)]
                norm = [getattr(self, f"s{stage}{block}_norm{i}", None) for i in (1, 2, 3)]
                h = norm[1](conv[1](F.relu(norm[0](conv[0](x)))))
                x = F.relu(h + (norm[2](conv[2](x)) if conv[2] else x))
        return self.logits(x.mean((2, 3)))


def narrow(net):
    """The overrides that give models/resnet18.json the widths of ResNet18."""
    return [f"layers.{name}.filters={m.out_channels}" for name, m in net.named_modules() if isinstance(m, nn.Conv2d)]


class VitTiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.place = nn.Conv2d(1, 12, 4, stride=4), nn.Embedding(6, 12)
        for i in range(1, 13):
            setattr(self, f"block{i}", encoder(12, 3, activation="gelu"))
        self.norm, self.logits = nn.LayerNorm(12), nn.Linear(12, 10)

    def forward(self, x):
        x = channels_first(self.patch, x).flatten(1, 2) + self.place.weight
        for i in range(1, 13):
            x = getattr(self, f"block{i}")(x)
        return self.logits(self.norm(x).mean(1))


def softmax(y):
    return F.softmax(y, -1)


def zoo(name, net, x, predict=lambda y: y, **more):
    return Case("zoo-" + name, f"models/{name}.json", net, {"x": x}, predict=predict, **more)


def cases():
    yield zoo("mlp", Mlp, (24, 5))
    yield zoo("demo", Demo, (24, 5))
    yield zoo("pm25_cnn_lstm", CnnLstm, (48, 5), probe={"attention": attention})
    yield zoo("pm25_cnn2d", Cnn2d, (48, 9), sets=["layers.drop.rate=0"])
    yield zoo("lstm_attention", LstmAttention, (30, 2))
    yield zoo("anc_lstm", AncLstm, (32, 1))
    yield zoo("fashion_cnn", FashionCnn, (28, 28, 1), softmax, loss=nn.CrossEntropyLoss(),
              target=("below", 10), sets=["layers.drop.rate=0"])
    images = {"loss": nn.CrossEntropyLoss(), "target": ("below", 10)}
    yield zoo("resnet18", ResNet18, (9, 10, 1), softmax, sets=narrow(ResNet18()), **images)
    smooth = {**images, "loss": nn.CrossEntropyLoss(label_smoothing=0.1)}
    yield zoo("vit_tiny", VitTiny, (12, 8, 1), softmax, sets=["layers.patch.filters=12", "layers.tokens.shape=[-1,12]"], **smooth)
    yield zoo("etth1_dlinear", DLinear, (336, 7))
    yield zoo("tcn", tcn, (96, 1), sets=["layers.drop.rate=0"])
    yield zoo("unet1d", UNet, (48, 1), sets=["data.window=48"])
    classes = {"loss": nn.CrossEntropyLoss(), "target": ("below", 5)}
    yield zoo("behaviour_cnn", BehaviourCnn, (64, 6), softmax, sets=["layers.drop.rate=0"], **classes)
    yield zoo("behaviour_transformer", BehaviourTransformer, (64, 6),
              sets=["layers.block1.dropout=0", "layers.block2.dropout=0"], **classes)
    yield zoo("gpt_char", GptChar, (13,), sets=["layers.token.dim=20", "data.window=13"], loss=lambda p, y: F.cross_entropy(p.movedim(-1, 1), y),
              target=("below", 65), spread={"x": ("below", 65)}, words=65)
