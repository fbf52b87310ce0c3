"""The guide's training as a tutorial writes it: ``DataLoader``, three phases per epoch, ``.item()`` per batch.

It is the oracle that ``abalone.training.fit`` is tested against, and the peer that its speed is measured against.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from abalone.data.splitting import Split
from abalone.settings import StageSettings
from abalone.training.history import SPLITS


class Replay(Sampler):
    """The permutations that ``fit`` draws from the same generator, row by row."""

    def __init__(self, rows: int, order: torch.Generator):
        self.rows, self.order = rows, order

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self.rows, generator=self.order).tolist())

    def __len__(self) -> int:
        return self.rows


def make_dataloaders(
    x: Tensor, y: Tensor, split: Split, batch_size: int, order: torch.Generator | None = None
) -> dict[str, DataLoader]:
    """A loader per split over standardised ``x`` [n, d] and targets ``y``; ``order`` replays the order of ``fit``."""
    datasets = {name: TensorDataset(x[getattr(split, name)], y[getattr(split, name)]) for name in SPLITS}
    loaders = {name: DataLoader(dataset, batch_size=batch_size) for name, dataset in datasets.items()}
    if order is None:
        loaders["train"] = DataLoader(datasets["train"], batch_size=batch_size, shuffle=True)
    else:
        replay = Replay(len(datasets["train"]), order)
        loaders["train"] = DataLoader(datasets["train"], batch_size=batch_size, sampler=replay)
    return loaders


def train_model(
    network: nn.Module, dataloaders: dict[str, DataLoader], experiment: StageSettings
) -> tuple[nn.Module, dict[str, list[float]]]:
    """Train ``network`` and return it with the weights of its best epoch on validation, and its curves.

    As in the guide, ``loss/train`` is the mean over the epoch's own batches, while the weights still move.
    """
    device = next(network.parameters()).device
    classifying = experiment.task == "classification"
    criterion = nn.CrossEntropyLoss() if classifying else nn.MSELoss()
    optimizer = torch.optim.Adam(
        network.parameters(), lr=experiment.learning_rate, weight_decay=experiment.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=experiment.gamma)
    curves: dict[str, list[float]] = {f"{metric}/{name}": [] for metric in ("loss", "accuracy") for name in SPLITS}
    best_loss, best_weights = float("inf"), copy.deepcopy(network.state_dict())

    for _ in range(experiment.epochs):
        for phase in SPLITS:
            network.train(phase == "train")
            running_loss, running_hits, rows = 0.0, 0, 0
            for inputs, labels in dataloaders[phase]:
                inputs, labels = inputs.to(device), labels.to(device)
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = network(inputs)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * len(inputs)
                rows += len(inputs)
                if classifying:
                    running_hits += (outputs.argmax(1) == labels).sum().item()
            if phase == "train":
                scheduler.step()
            curves[f"loss/{phase}"].append(running_loss / rows)
            curves[f"accuracy/{phase}"].append(running_hits / rows)
            if phase == "val" and running_loss / rows < best_loss:
                best_loss, best_weights = running_loss / rows, copy.deepcopy(network.state_dict())

    if experiment.checkpoint == "best":
        network.load_state_dict(best_weights)
    return network.eval(), curves
