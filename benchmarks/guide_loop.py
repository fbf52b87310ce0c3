"""The guide's training as a tutorial writes it: ``DataLoader``, three phases per epoch, ``.item()`` per batch.

Tests compare ``abalone.training.fit`` with it, and benchmarks measure their speed against it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from abalone.data.splitting import Split
from abalone.model.networks import build
from abalone.settings import StageSettings
from abalone.training.history import SPLITS
from abalone.training.initialization import targets


class ReplayedOrder(Sampler):
    """Row numbers in the order that ``fit`` draws from the same generator."""

    def __init__(self, rows: int, order: torch.Generator):
        self.rows = rows
        self.order = order

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
        sampler = ReplayedOrder(len(datasets["train"]), order)
        loaders["train"] = DataLoader(datasets["train"], batch_size=batch_size, sampler=sampler)
    return loaders


def prepare_guide(
    settings: StageSettings, x: Tensor, rings: np.ndarray, split: Split
) -> tuple[nn.Module, dict[str, DataLoader]]:
    """An untrained network and the loaders to train it with, from rows ``x`` [n, 10] in raw units."""
    model = build(settings.model_config())
    model.prepare.fit(x[split.train])
    y = targets(model, torch.tensor(rings))
    return model.network, make_dataloaders(model.prepare(x), y, split, settings.batch_size)


def train_model(
    network: nn.Module, dataloaders: dict[str, DataLoader], settings: StageSettings
) -> tuple[nn.Module, dict[str, list[float]]]:
    """Train ``network`` and return it with the weights of its best epoch on validation, and its curves.

    As in the guide, ``loss/train`` is the mean over the epoch's own batches, taken while the weights still change.
    """
    device = next(network.parameters()).device
    classifying = settings.task == "classification"
    criterion = nn.CrossEntropyLoss() if classifying else nn.MSELoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=settings.gamma)
    curves: dict[str, list[float]] = {f"{metric}/{name}": [] for metric in ("loss", "accuracy") for name in SPLITS}
    best_loss = float("inf")
    best_weights = copy.deepcopy(network.state_dict())

    for _ in range(settings.epochs):
        for phase in SPLITS:
            network.train(phase == "train")
            running_loss = 0.0
            running_hits = 0
            rows = 0
            for inputs, labels in dataloaders[phase]:
                inputs = inputs.to(device)
                labels = labels.to(device)
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
            epoch_loss = running_loss / rows
            curves[f"loss/{phase}"].append(epoch_loss)
            curves[f"accuracy/{phase}"].append(running_hits / rows)
            if phase == "val" and epoch_loss < best_loss:
                best_loss = epoch_loss
                best_weights = copy.deepcopy(network.state_dict())

    if settings.checkpoint == "best":
        network.load_state_dict(best_weights)
    return network.eval(), curves
