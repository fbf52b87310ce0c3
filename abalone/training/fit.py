"""``fit``: the guide's training loop with the same steps and the same results, several times faster.

What makes it faster: rows are standardised once instead of in every batch; all weights lie in one flat tensor, so that
Adam has one tensor to step (``fast_network.flatten``); the kernels of Adam and of the gradients are called directly
(``fast_network.batch_gradient``); the three splits are evaluated in one pass; and denormal numbers are flushed to zero
(``torch_setup.cpu_settings``).

The plain loop is kept in ``benchmarks/guide_loop.py``; a test compares the weights of both after three epochs, which
must agree within 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abalone.data.splitting import Split
from abalone.model.networks import Classifier, Regressor
from abalone.settings import StageSettings
from abalone.training.fast_network import batch_gradient, flatten, unflatten
from abalone.training.history import SPLITS, Curves, History, append_epoch, check_finite, rmse_from_losses
from abalone.training.implemented import require_settings
from abalone.training.initialization import untrained_model
from abalone.training.progress import AfterEpoch, ignore_epoch
from abalone.training.torch_setup import Adam, cpu_settings, find_device, skip_compiler_import

EVALUATED_AT_ONCE = 1024  # rows; their activations stay in the processor's cache
IMPLEMENTED = (  # beside the settings of the network, which any nn.Sequential may have
    "standardize_target",
    "learning_rate",
    "gamma",
    "weight_decay",
    "batch_size",
    "epochs",
    "checkpoint",
    "seed",
    "device",
)


def fit(
    settings: StageSettings,
    x: Tensor,
    rings: np.ndarray | Tensor,
    split: Split,
    after_epoch: AfterEpoch = ignore_epoch,
) -> tuple[nn.Module, History]:
    """Train the model that ``settings`` describes.

    Parameters
    ----------
    settings : StageSettings
        Network, optimiser, seed, device. The same settings give the same curves, bit for bit, on the same machine.
    x : Tensor [n, 10], float32
        All rows, as ``features.encode`` gives them; if float64, everything is computed in float64.
    rings : array or Tensor [n], int64
        Number of rings of each row.
    split : Split
        Row numbers. Training rows alone decide standardisation and weights; validation rows choose the epoch. Without
        test rows there are no curves of them.
    after_epoch : callable, optional
        Called at the end of each epoch with what was measured, to show progress.

    Returns
    -------
    model : Classifier or Regressor
        On the CPU, in eval mode, with the weights of ``history.reported_epoch``.
    history : History

    Raises
    ------
    TrainingDiverged
        If a loss is infinite or NaN at the end of an epoch.
    BadValue
        If the device is not available.
    NotImplementedByEngine
        If there is a setting that ``fit`` does not know.
    """
    require_settings("fit", settings, settings.model_config(), IMPLEMENTED)
    skip_compiler_import()
    device = find_device(settings.device)
    parts = [split.train, split.val, split.test]
    sizes = [len(part) for part in parts]
    # nn.Dropout draws from torch's global generator, so its state is saved here and restored afterwards.
    with cpu_settings(), torch.random.fork_rng(range(torch.cuda.device_count())):
        model, y, order = untrained_model(settings, x, rings, split)
        prepared = model.prepare(x)  # once, here: inside the loop it would be repeated for every batch
        rows = torch.from_numpy(np.concatenate(parts))
        model.to(device)
        history = _train(settings, model, prepared[rows].to(device), y[rows].to(device), sizes, order, after_epoch)
    return model.cpu().eval(), history


def _train(
    settings: StageSettings,
    model: Classifier | Regressor,
    x: Tensor,
    y: Tensor,
    sizes: list[int],
    order: torch.Generator,
    after_epoch: AfterEpoch,
) -> History:
    """The guide's loop. Rows of ``x`` [n, d] and ``y`` are those of train, val and test in turn, ``sizes`` of each."""
    network = model.network
    x_train = x[: sizes[0]]
    y_train = y[: sizes[0]]
    criterion = F.cross_entropy if isinstance(model, Classifier) else F.mse_loss
    weights = flatten(network)
    set_gradient = batch_gradient(network, criterion)
    optimizer = Adam([weights], lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=settings.gamma)
    metrics: Curves = {}
    best_loss = math.inf
    best_epoch = 0
    best_weights = weights.detach().clone()
    best_buffers = [buffer.clone() for buffer in network.buffers()]  # such as a batch norm's running statistics

    for epoch in range(1, settings.epochs + 1):
        network.train()
        shuffled = torch.randperm(sizes[0], generator=order).to(x.device)
        input_batches = x_train[shuffled].split(settings.batch_size)
        label_batches = y_train[shuffled].split(settings.batch_size)
        for inputs, labels in zip(input_batches, label_batches):
            set_gradient(inputs, labels)
            optimizer.step()

        measured = _evaluate(model, x, y, sizes)
        measured["learning_rate"] = float(scheduler.get_last_lr()[0])
        check_finite(measured, epoch, settings, metrics)
        append_epoch(metrics, measured)
        if measured["loss/val"] < best_loss:
            best_loss = measured["loss/val"]
            best_epoch = epoch
            best_weights.copy_(weights.detach())
            _copy_all(network.buffers(), best_buffers)
        scheduler.step()
        after_epoch(measured)

    reported_epoch = settings.epochs
    if settings.checkpoint == "best":
        reported_epoch = best_epoch
        weights.detach().copy_(best_weights)
        _copy_all(best_buffers, network.buffers())
    unflatten(network)
    return History(metrics=metrics, best_epoch=best_epoch, reported_epoch=reported_epoch)


def _copy_all(sources: Iterable[Tensor], targets: Iterable[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


@torch.no_grad()
def _evaluate(model: Classifier | Regressor, x: Tensor, y: Tensor, sizes: list[int]) -> dict[str, float]:
    """Loss and accuracy, or loss and RMSE, of the three splits."""
    model.network.eval()
    output = torch.cat([model.network(rows) for rows in x.split(EVALUATED_AT_ONCE)])
    if isinstance(model, Classifier):
        values = {
            "loss": F.cross_entropy(output, y, reduction="none"),
            "accuracy": (output.argmax(1) == y).to(output.dtype),
        }
    else:
        squared_errors = (output - y).square() * model.target_scale**2  # [n, 1], rings squared
        values = {"loss": squared_errors[:, 0]}

    means = {}
    for name, value in values.items():
        for part, rows in zip(SPLITS, value.split(sizes)):
            if len(rows) > 0:
                means[f"{name}/{part}"] = rows.mean()
    measured = dict(zip(means, torch.stack(list(means.values())).tolist()))  # all at once: one transfer from a GPU
    if isinstance(model, Regressor):
        measured.update(rmse_from_losses(measured))
    return measured
