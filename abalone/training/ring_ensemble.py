"""The training of a ring distribution: all members of the ensemble at once, each in an order of its own."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from abalone.model.columns import OLD_FROM_RINGS
from abalone.model.networks import THRESHOLDS, RingDistribution, mean_rings, ring_interval
from abalone.settings import RingsSettings
from abalone.training.history import check_finite
from abalone.training.torch_setup import Adam, cpu_settings, find_device, leave_compiler_out

BETAS = (0.9, 0.98)
EVALUATED_PER_NETWORK = 256  # rows of each member; their activations stay in the processor's cache
Curves = dict[str, list[float]]


def fit_rings(
    settings: RingsSettings, x: Tensor, rings: np.ndarray, train: np.ndarray, watched: np.ndarray | None = None
) -> tuple[RingDistribution, Curves]:
    """Train the ensemble that ``settings`` describes.

    The loss is the sum over the thresholds of the binary cross-entropy of rings >= t. The weights that come out are an
    exponential moving average over the steps, so that a constant learning rate does no harm at the end.

    Parameters
    ----------
    settings : RingsExperiment
        Network, optimiser, seed, device. The same one gives the same weights, to the last bit, on the same machine.
    x : Tensor [n, 10], float32
        All rows, as ``features.encode`` gives them.
    rings : array [n], int64
        Number of rings of each row.
    train : array, int64
        Numbers of the rows that decide everything: standardisation, first biases, weights.
    watched : array, int64, optional
        Numbers of rows to draw a curve of, and for nothing else; without them the curves are their last points.

    Returns
    -------
    distribution : RingDistribution
        On the CPU, in eval mode.
    curves : dict of str to list of float
        ``loss/train``, and ``loss/val`` of the watched rows, of the averaged weights at the end of each epoch: mean
        over members and rows, in nats.

    Raises
    ------
    TrainingDiverged
        If a loss is not finite at the end of an epoch.
    BadValue
        If the device is not there.
    """
    leave_compiler_out()
    device = find_device(settings.device)
    parts = {"train": train} if watched is None else {"train": train, "val": watched}
    with cpu_settings():
        distribution, generators = untrained_ensemble(settings, x, rings, train)
        z, y = distribution.prepare(x).to(device), threshold_targets(rings).to(device)
        distribution.to(device)
        data = {part: (z[rows], y[rows]) for part, rows in parts.items()}
        curves = _train(settings, distribution, data, generators)
    return distribution.cpu().eval(), curves


def threshold_targets(rings: np.ndarray) -> Tensor:
    """Whether there are at least t rings, 0 or 1, float32 [n, 28]."""
    return torch.from_numpy((np.asarray(rings)[:, None] >= np.array(THRESHOLDS)).astype(np.float32))


@torch.no_grad()
def untrained_ensemble(
    settings: RingsSettings, x: Tensor, rings: np.ndarray, train: np.ndarray
) -> tuple[RingDistribution, list[torch.Generator]]:
    """An ensemble before training, and the generator of each member, which draws its batches next.

    Weights are drawn in torch's way. The last biases stand at the shares of the training rows, so that training begins
    at the baseline.
    """
    distribution = RingDistribution(settings.members, settings.hidden_sizes)
    distribution.prepare.fit(x[train])
    states = np.random.SeedSequence(settings.seed).generate_state(settings.members).tolist()
    generators = [torch.Generator().manual_seed(state) for state in states]
    for weight, bias in zip(distribution.weights, distribution.biases):
        bound = 1 / math.sqrt(weight.shape[1])
        for k, generator in enumerate(generators):
            weight[k].uniform_(-bound, bound, generator=generator)
            bias[k].uniform_(-bound, bound, generator=generator)
    distribution.biases[-1].copy_(threshold_targets(rings[train]).mean(0).logit(eps=0.5 / len(train)))
    return distribution, generators


def _train(settings: RingsSettings, distribution: RingDistribution, data, generators) -> Curves:
    """The loop; ``data`` is prepared rows [n, D] and targets [n, 28] of each part."""
    (z, y), parameters = data["train"], list(distribution.parameters())
    matrices, biases = {"params": list(distribution.weights)}, {"params": list(distribution.biases), "weight_decay": 0}
    optimizer = Adam(
        [matrices, biases], settings.learning_rate, BETAS,
        weight_decay=settings.weight_decay, decoupled_weight_decay=True, fused=True,
    )  # fmt: skip
    averaged = [p.detach().clone() for p in parameters]
    curves: Curves = {}
    for epoch in range(1, settings.epochs + 1):
        order = torch.stack([torch.randperm(len(z), generator=g) for g in generators]).to(z.device)  # [K, n]
        for rows in order.split(settings.batch_size, 1):
            for p in parameters:  # not by the optimiser, whose way imports torch.compile's machinery
                p.grad = None
            logits = distribution.logits(z[rows])  # [K, B, 28]
            loss = F.binary_cross_entropy_with_logits(logits, y[rows], reduction="sum") / rows.shape[1]
            loss.backward()
            optimizer.step()
            torch._foreach_lerp_(averaged, [p.detach() for p in parameters], 1 - settings.average)
        if "val" in data or epoch == settings.epochs:
            _swap(parameters, averaged)
            measured = {f"loss/{part}": _loss(distribution, *rows) for part, rows in data.items()}
            check_finite(measured, epoch, settings, curves)
            for name, value in measured.items():
                curves.setdefault(name, []).append(value)
            if epoch < settings.epochs:
                _swap(parameters, averaged)
    for p in parameters:
        p.grad = None
    return curves


def _swap(parameters: list[Tensor], averaged: list[Tensor]) -> None:
    """Let the network compute with the averaged weights, or train again."""
    for i, p in enumerate(parameters):
        p.data, averaged[i] = averaged[i], p.data


@torch.no_grad()
def _loss(distribution: RingDistribution, z: Tensor, y: Tensor) -> float:
    k = len(distribution.weights[0])
    total = z.new_zeros(())
    for rows, labels in zip(z.split(EVALUATED_PER_NETWORK), y.split(EVALUATED_PER_NETWORK)):
        logits = distribution.logits(rows.expand(k, -1, -1))
        total += F.binary_cross_entropy_with_logits(logits, labels.expand_as(logits), reduction="sum")
    return float(total) / (k * len(z))


@torch.inference_mode()
def answers(distribution: RingDistribution, x: Tensor) -> dict[str, np.ndarray]:
    """All that a distribution says of rows [n, 10], float64 [n] each.

    Returns
    -------
    dict
        ``probability_old``; ``predicted_rings``, the mean; ``rings_low`` and ``rings_high``, the ends of the interval.
    """
    probabilities = distribution(x).double()
    low, high = ring_interval(probabilities)
    said = {
        "probability_old": probabilities[:, THRESHOLDS.index(OLD_FROM_RINGS)],
        "predicted_rings": mean_rings(probabilities),
        "rings_low": low.double(),
        "rings_high": high.double(),
    }
    return {name: values.numpy() for name, values in said.items()}
