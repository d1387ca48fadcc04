#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""models/behaviour_cnn.json and behaviour_transformer.json in PyTorch: the same windows, labels,
split, scaling, network, optimizer and stopping, so that test scores can be compared.

    torch_behaviour.py MODEL.json --data-dir DIR [--seed N]

Windows and everything but the network are read from the model file that gtc reads; a key that has no
counterpart here is an error.  The two networks are written out below, by the name of the model.  The
last line is JSON: test accuracy and macro F1 with the weights of the best epoch, and the number of
parameters, which has to be gtc's."""
import argparse
import copy
import csv
import json
import os
import time

import numpy as np
import torch
from torch import nn

SPLITS = ("train", "val", "test")


def arguments():
    p = argparse.ArgumentParser(description="train a behaviour model in PyTorch")
    p.add_argument("model")
    p.add_argument("--data-dir", required=True)
    p.add_argument("--seed", type=int)
    p.add_argument("--threads", type=int, default=1)
    return p.parse_args()


def check_keys(section, known):
    unknown = set(section) - known
    if unknown:
        raise SystemExit(f"no counterpart here for {sorted(unknown)}")


def windows_read(data, folder):
    """{split: (x (N, T, C) f32, y (N))}, scaled by what the windows of the train split hold."""
    check_keys(data, {"npy", "segment", "group", "split", "window", "stride", "target_rows", "scaler"})
    if data["target_rows"] != "majority" or data["scaler"] != "standard":
        raise SystemExit("only majority labels and standard scaling here")
    x = np.load(os.path.join(folder, data["npy"]["x"])).astype(np.float64)
    y = np.load(os.path.join(folder, data["npy"]["y"])).astype(np.int64)
    index, length, stride = data["segment"], data["window"], data["stride"]
    starts = {split: [] for split in SPLITS}
    with open(os.path.join(folder, index["index"]), encoding="utf-8") as f:
        for line in csv.DictReader(f):
            first, count = int(line[index["start"]]), int(line[index["count"]])
            for split in SPLITS:
                if line[data["group"]] in data["split"][split]:
                    starts[split] += range(first, first + count - length + 1, stride)
    seen = np.zeros(len(x), bool)
    for s in starts["train"]:
        seen[s : s + length] = True
    scaled = ((x - x[seen].mean(0)) / x[seen].std(0)).astype(np.float32)
    out = {}
    for split in SPLITS:
        rows = np.array(starts[split])[:, None] + np.arange(length)
        labels = np.array([np.bincount(w).argmax() for w in y[rows]])
        out[split] = torch.from_numpy(scaled[rows]), torch.from_numpy(labels)
    return out


class Cnn(nn.Module):
    """(B, T, 6) to (B, 5)."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv1d(6, 32, 7, padding=3), nn.BatchNorm1d(32)
        self.conv2, self.norm2 = nn.Conv1d(32, 64, 5, padding=2), nn.BatchNorm1d(64)
        self.conv3, self.norm3 = nn.Conv1d(64, 64, 3, padding=1), nn.BatchNorm1d(64)
        self.pool, self.drop, self.y = nn.MaxPool1d(2), nn.Dropout(0.3), nn.Linear(64, 5)

    def forward(self, x):
        h = x.transpose(1, 2)
        h = self.pool(torch.relu(self.norm1(self.conv1(h))))
        h = self.pool(torch.relu(self.norm2(self.conv2(h))))
        h = torch.relu(self.norm3(self.conv3(h)))
        return self.y(self.drop(h.mean(2)))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv1d(6, 48, 4, stride=4)
        self.place = nn.Parameter(torch.randn(16, 48))
        self.blocks = nn.Sequential(*(
            nn.TransformerEncoderLayer(48, 4, 96, 0.1, "gelu", batch_first=True, norm_first=True)
            for _ in range(2)))
        self.norm, self.y = nn.LayerNorm(48), nn.Linear(48, 5)

    def forward(self, x):
        h = self.patch(x.transpose(1, 2)).transpose(1, 2) + self.place
        return self.y(self.norm(self.blocks(h)).mean(1))


NETS = {"behaviour_cnn": Cnn, "behaviour_transformer": Transformer}


def optimizer_make(cfg, net):
    check_keys(cfg, {"type", "learning_rate", "weight_decay", "decayed"})
    if cfg["type"] != "adamw" or cfg["decayed"] != "weights":
        raise SystemExit("only adamw that decays weights here")
    params = list(net.parameters())
    return torch.optim.AdamW(
        [{"params": [p for p in params if p.dim() > 1], "weight_decay": cfg["weight_decay"]},
         {"params": [p for p in params if p.dim() < 2], "weight_decay": 0}],
        lr=cfg["learning_rate"])


def predict(net, x):
    net.eval()
    with torch.no_grad():
        return torch.cat([net(part) for part in x.split(512)])


def scores(truth, guess):
    f1 = []
    for k in np.union1d(truth, guess):
        both = np.sum((truth == k) & (guess == k))
        f1.append(2 * both / (np.sum(truth == k) + np.sum(guess == k)))
    return float(np.mean(truth == guess)), float(np.mean(f1))


def train(net, data, cfg, optimizer):
    """The weights of the epoch with the least validation loss, and its number."""
    check_keys(cfg, {"epochs", "batch_size", "patience", "clip_norm", "seed"})
    loss_of, (x, y) = nn.CrossEntropyLoss(), data["train"]
    best, best_epoch, weights = np.inf, 0, None
    for epoch in range(1, cfg["epochs"] + 1):
        net.train()
        for rows in torch.randperm(len(x)).split(cfg["batch_size"]):
            optimizer.zero_grad(set_to_none=True)
            loss_of(net(x[rows]), y[rows]).backward()
            if cfg.get("clip_norm"):
                nn.utils.clip_grad_norm_(net.parameters(), cfg["clip_norm"])
            optimizer.step()
        val = loss_of(predict(net, data["val"][0]), data["val"][1]).item()
        if val < best:
            best, best_epoch, weights = val, epoch, copy.deepcopy(net.state_dict())
        if epoch - best_epoch >= cfg["patience"]:
            break
    net.load_state_dict(weights)
    return best_epoch, best


def main():
    args = arguments()
    with open(args.model, encoding="utf-8") as f:
        model = json.load(f)
    seed = model["train"]["seed"] if args.seed is None else args.seed
    torch.set_num_threads(args.threads)
    torch.manual_seed(seed)
    data = windows_read(model["data"], args.data_dir)
    net = NETS[model["name"]]()
    start = time.perf_counter()
    epoch, val_loss = train(net, data, model["train"], optimizer_make(model["optimizer"], net))
    x, y = data["test"]
    accuracy, macro_f1 = scores(y.numpy(), predict(net, x).argmax(1).numpy())
    print(json.dumps({
        "fw": "torch", "model": model["name"], "seed": seed, "best_epoch": epoch,
        "val_loss": round(val_loss, 5), "accuracy": round(accuracy, 4), "macro_f1": round(macro_f1, 4),
        "params": sum(p.numel() for p in net.parameters()),
        "windows": {s: len(data[s][1]) for s in SPLITS},
        "seconds": round(time.perf_counter() - start, 1), "torch": torch.__version__}))


if __name__ == "__main__":
    main()
