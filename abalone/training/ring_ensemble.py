"""``fit_rings``: all members of the ring ensemble trained at once, each with a batch order of its own.

The weights returned are an exponential moving average over the steps. This makes early stopping unnecessary, so no best
epoch is chosen; a fit on training and validation rows has no rows left to choose one with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from abalone.model.columns import OLD_FROM_RINGS
from abalone.model.distribution import THRESHOLDS, mean_rings, median_rings, ring_interval, ring_shares
from abalone.model.networks import RingDistribution
from abalone.settings import RingsSettings
from abalone.training.history import Curves, append_epoch, check_finite
from abalone.training.implemented import require_settings
from abalone.training.progress import AfterEpoch, ignore_epoch
from abalone.training.ring_schedule import with_schedule
from abalone.training.torch_setup import Adam, cpu_settings, find_device, skip_compiler_import

BETAS = (0.9, 0.98)
IMPLEMENTED = ("learning_rate", "weight_decay", "batch_size", "epochs", "average", "seed", "device")
USED_BY_STAGE = ("refit",)  # which fits twice
EVALUATED_PER_NETWORK = 256  # rows of each member; their activations stay in the processor's cache


def fit_rings(
    settings: RingsSettings,
    x: Tensor,
    rings: np.ndarray,
    train: np.ndarray,
    watched: np.ndarray | None = None,
    after_epoch: AfterEpoch = ignore_epoch,
) -> tuple[RingDistribution, Curves]:
    """Train the ensemble that ``settings`` describes.

    The loss is the sum over the thresholds t of the binary cross-entropy of "rings >= t". The learning rate is
    constant, which the moving average of the weights makes up for.

    Parameters
    ----------
    settings : RingsSettings
        Network, optimiser, seed, device. The same settings give the same weights, bit for bit, on the same machine.
    x : Tensor [n, 10], float32
        All rows, as ``features.encode`` gives them.
    rings : array [n], int64
        Number of rings of each row.
    train : array, int64
        Row numbers. These rows alone decide standardisation, initial biases and weights.
    watched : array, int64, optional
        Numbers of rows whose loss is measured every epoch, and which are used for nothing else. Without them the
        curves have one point, that of the last epoch.
    after_epoch : callable, optional
        Called at the end of each epoch with what was measured, to show progress.

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
        If a loss is infinite or NaN at the end of an epoch.
    BadValue
        If the device is not available.
    NotImplementedByEngine
        If there is a setting that ``fit_rings`` does not know.
    """
    network = settings.model_config("regression")
    require_settings("fit_rings", settings, network, (*IMPLEMENTED, *USED_BY_STAGE))
    settings = with_schedule(settings, len(train))
    skip_compiler_import()
    device = find_device(settings.device)
    with cpu_settings():
        distribution, generators = untrained_ensemble(settings, x, rings, train)
        z = distribution.prepare(x).to(device)
        y = threshold_targets(rings).to(device)
        distribution.to(device)
        data = {"train": (z[train], y[train])}
        if watched is not None:
            data["val"] = (z[watched], y[watched])
        curves = _train(settings, distribution, data, generators, after_epoch)
    return distribution.cpu().eval(), curves


def threshold_targets(rings: np.ndarray) -> Tensor:
    """Whether a row has at least t rings, for each threshold t: 0 or 1, float32 [n, 28]."""
    reached = np.asarray(rings)[:, None] >= np.array(THRESHOLDS)
    return torch.from_numpy(reached.astype(np.float32))


@torch.no_grad()
def untrained_ensemble(
    settings: RingsSettings, x: Tensor, rings: np.ndarray, train: np.ndarray
) -> tuple[RingDistribution, list[torch.Generator]]:
    """Build the ensemble that a training starts from.

    Weights are drawn in torch's default way. The last biases are the logits of the shares of the training rows that
    reach each threshold, so that training starts near the baseline.

    Returns
    -------
    distribution : RingDistribution
        With fitted preparation.
    generators : list of Generator
        One per member, which goes on to draw its batch order.
    """
    distribution = RingDistribution(settings.members, settings.hidden_sizes)
    distribution.prepare.fit(x[train])
    seeds = np.random.SeedSequence(settings.seed).generate_state(settings.members).tolist()
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for weight, bias in zip(distribution.weights, distribution.biases):
        bound = 1 / math.sqrt(weight.shape[1])
        for k, generator in enumerate(generators):
            weight[k].uniform_(-bound, bound, generator=generator)
            bias[k].uniform_(-bound, bound, generator=generator)
    shares = threshold_targets(rings[train]).mean(0)  # [28]
    distribution.biases[-1].copy_(shares.logit(eps=0.5 / len(train)))
    return distribution, generators


def _train(
    settings: RingsSettings,
    distribution: RingDistribution,
    data: dict[str, tuple[Tensor, Tensor]],
    generators: list[torch.Generator],
    after_epoch: AfterEpoch,
) -> Curves:
    """The loop; ``data`` has prepared rows [n, D] and targets [n, 28] by part. Leaves the averaged weights in place."""
    z, y = data["train"]
    parameters = list(distribution.parameters())
    averaged = [p.detach().clone() for p in parameters]
    optimizer = _optimizer(settings, distribution)
    curves: Curves = {}
    epochs = int(settings.epochs)

    for epoch in range(1, epochs + 1):
        order = torch.stack([torch.randperm(len(z), generator=g) for g in generators]).to(z.device)  # [K, n]
        for rows in order.split(settings.batch_size, 1):  # [K, B]
            _clear_gradients(parameters)
            logits = distribution.logits(z[rows])  # [K, B, 28]
            loss = F.binary_cross_entropy_with_logits(logits, y[rows], reduction="sum") / rows.shape[1]
            loss.backward()
            optimizer.step()
            torch._foreach_lerp_(averaged, [p.detach() for p in parameters], 1 - settings.average)

        measured = {}
        if "val" in data or epoch == epochs:
            _swap(parameters, averaged)
            for part, (inputs, targets) in data.items():
                measured[f"loss/{part}"] = _loss(distribution, inputs, targets)
            check_finite(measured, epoch, settings, curves)
            append_epoch(curves, measured)
            _swap(parameters, averaged)
        after_epoch(measured)

    _swap(parameters, averaged)
    _clear_gradients(parameters)
    return curves


def _optimizer(settings: RingsSettings, distribution: RingDistribution) -> Adam:
    """AdamW, whose weight decay leaves biases out."""
    groups: list[dict[str, Any]] = [
        {"params": list(distribution.weights)},
        {"params": list(distribution.biases), "weight_decay": 0},
    ]
    return Adam(
        groups,
        lr=settings.learning_rate,
        betas=BETAS,
        weight_decay=settings.weight_decay,
        decoupled_weight_decay=True,
        fused=True,
    )


def _clear_gradients(parameters: Sequence[Tensor]) -> None:
    """Do what ``Optimizer.zero_grad`` does, without importing torch.compile's machinery."""
    for p in parameters:
        p.grad = None


def _swap(parameters: Sequence[Tensor], averaged: list[Tensor]) -> None:
    """Exchange the network's weights and their moving average."""
    for i, p in enumerate(parameters):
        weights = p.data
        p.data = averaged[i]
        averaged[i] = weights


@torch.no_grad()
def _loss(distribution: RingDistribution, z: Tensor, y: Tensor) -> float:
    """Mean over members and rows."""
    members = len(distribution.weights[0])
    total = z.new_zeros(())
    for rows, labels in zip(z.split(EVALUATED_PER_NETWORK), y.split(EVALUATED_PER_NETWORK)):
        logits = distribution.logits(rows.expand(members, -1, -1))
        total += F.binary_cross_entropy_with_logits(logits, labels.expand_as(logits), reduction="sum")
    return float(total) / (members * len(z))


@torch.inference_mode()
def count_probabilities(distribution: RingDistribution, x: Tensor) -> np.ndarray:
    """Predict the probability of each number of rings.

    Parameters
    ----------
    distribution : RingDistribution
    x : Tensor [n, 10], float32
        Rows in raw units.

    Returns
    -------
    ndarray [n, 29], float64
        P(rings = r) for r = 1 to 29.
    """
    return ring_shares(distribution(x).double()).numpy()


@torch.inference_mode()
def answers(distribution: RingDistribution, x: Tensor) -> dict[str, np.ndarray]:
    """Predictions of a ring distribution.

    Parameters
    ----------
    distribution : RingDistribution
    x : Tensor [n, 10], float32
        Rows in raw units.

    Returns
    -------
    dict of str to array [n], float64
        ``probability_old``; ``predicted_rings``, the mean; ``rings_median``; ``rings_low`` and ``rings_high``, the
        ends of the interval.
    """
    probabilities = distribution(x).double()
    low, high = ring_interval(probabilities)
    columns = {
        "probability_old": probabilities[:, THRESHOLDS.index(OLD_FROM_RINGS)],
        "predicted_rings": mean_rings(probabilities),
        "rings_median": median_rings(probabilities).double(),
        "rings_low": low.double(),
        "rings_high": high.double(),
    }
    return {name: values.numpy() for name, values in columns.items()}
