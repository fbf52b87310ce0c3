"""The guide's training loop, made fast: same steps, same results, several times less CPU."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial, reduce

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abalone.config import BadValue, Experiment, UserError
from abalone.dataset import Split, is_old
from abalone.models import Classifier, Regressor, build, init_weights

SPLITS = ("train", "val", "test")
EVALUATED_AT_ONCE = 1024  # rows; their activations stay in the processor's cache


class Adam(torch.optim.Adam):
    """torch's Adam and its fused kernel, without what torch does around that in Python: half of a step's time.

    Every parameter must have a gradient; ``amsgrad``, ``maximize`` and closures are not for it.
    """

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter by its gradient."""
        for group in self.param_groups:
            params, (beta1, beta2) = group["params"], group["betas"]
            step, mean, square = zip(*[self._moments(p) for p in params])
            torch._foreach_add_(step, 1)
            kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
            kernel(
                params, [p.grad for p in params], mean, square, [], step, lr=group["lr"], beta1=beta1, beta2=beta2,
                weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False, maximize=False,
            )  # fmt: skip

    def _moments(self, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Steps so far, and the moving averages of the gradient and of its square."""
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros((), device=p.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        return state["step"], state["exp_avg"], state["exp_avg_sq"]

    step.hooked = True  # torch wraps every ``step`` that does not say so


class TrainingDiverged(UserError):
    """A loss became infinite or not a number; ``curves`` is what ``History.metrics`` would hold, up to then."""

    def __init__(self, message: str, curves: dict[str, list[float]] | None = None):
        super().__init__(message)
        self.curves = curves or {}


@dataclass(frozen=True)
class History:
    """What training looked like, one value per epoch, all measured at the end of the epoch in eval mode.

    Parameters
    ----------
    metrics : dict of str to list of float
        ``loss/train``, ``loss/val``, ``loss/test``; ``accuracy/...`` (share of rows) or ``rmse/...`` (rings); and
        ``learning_rate``, the one used in the epoch. A regressor's loss is in rings squared.
    best_epoch : int
        Epoch of the lowest ``loss/val``, counted from 1.
    reported_epoch : int
        Epoch whose weights the model has: the best or the last, as the experiment's ``checkpoint`` says.
    """

    metrics: dict[str, list[float]]
    best_epoch: int
    reported_epoch: int


def fit(experiment: Experiment, x: Tensor, rings: np.ndarray | Tensor, split: Split) -> tuple[nn.Module, History]:
    """Train the model that ``experiment`` describes.

    Parameters
    ----------
    experiment : Experiment
        Network, optimiser, seed, device. The same one gives the same curves, to the last bit, on the same machine.
    x : Tensor [n, 10], float32
        All rows, as ``features.encode`` gives them; if float64, everything is computed in that.
    rings : array or Tensor [n], int64
        Number of rings of each row.
    split : Split
        Row numbers. Training rows alone decide standardisation and weights; validation rows choose the epoch. Without
        test rows there are no curves of them.

    Returns
    -------
    model : Classifier or Regressor
        On the CPU, in eval mode, with the weights of ``history.reported_epoch``.
    history : History

    Raises
    ------
    TrainingDiverged
        If a loss is not finite at the end of an epoch.
    BadValue
        If the device is not there.
    """
    leave_compiler_out()
    device = find_device(experiment.device)
    # nn.Dropout knows no generator but the global one, so that one is borrowed and given back as it was.
    with cpu_settings(), torch.random.fork_rng(range(torch.cuda.device_count())):
        model, y, order = untrained(experiment, x, rings, split)
        # Standardised once, here: inside the loop it would be done again for every batch and epoch.
        prepared, model = model.prepare(x).to(device), model.to(device)
        rows = [getattr(split, name) for name in SPLITS]
        sizes = [len(part) for part in rows]
        everything = torch.from_numpy(np.concatenate(rows)).to(device)
        history = _train(experiment, model, prepared[everything], y.to(device)[everything], sizes, order)
    return model.cpu().eval(), history


def seeds(seed: int) -> tuple[int, int, int]:
    """Independent seeds for initial weights, batch order and dropout masks, all from the experiment's one."""
    return tuple(np.random.SeedSequence(seed).generate_state(3).tolist())


def untrained(
    experiment: Experiment, x: Tensor, rings: np.ndarray | Tensor, split: Split
) -> tuple[Classifier | Regressor, Tensor, torch.Generator]:
    """Where every training begins; it leaves torch's global generator where the first dropout mask will be drawn.

    Returns
    -------
    model : Classifier or Regressor
        Initial weights, preparation fitted; in the type of ``x``.
    y : Tensor
        ``targets`` of all rows.
    order : Generator
        Of the batch order.
    """
    init_seed, order_seed, dropout_seed = seeds(experiment.seed)
    torch.manual_seed(dropout_seed)
    model = build(asdict(experiment))
    init_weights(model.network, torch.Generator().manual_seed(init_seed))
    rings = torch.from_numpy(np.array(rings, dtype=np.int64))  # a copy: pandas gives read-only arrays
    y = _prepare(model.to(x.dtype), experiment, x, rings, split)
    return model, y, torch.Generator().manual_seed(order_seed)


def targets(model: Classifier | Regressor, rings: Tensor) -> Tensor:
    """What the network itself learns: classes [n], int64, or (standardised) rings [n, 1], in the model's type."""
    if isinstance(model, Classifier):
        return torch.as_tensor(is_old(rings.numpy()))
    return (rings[:, None].to(model.target_mean.dtype) - model.target_mean) / model.target_scale


def _prepare(model, experiment: Experiment, x: Tensor, rings: Tensor, split: Split) -> Tensor:
    """Fit everything that is not a weight, on training rows, and return the targets."""
    model.prepare.fit(x[split.train])
    if isinstance(model, Regressor) and experiment.standardize_target:
        known = rings[split.train].double()
        model.target_mean.copy_(known.mean())
        model.target_scale.copy_(known.std(correction=0) or 1.0)
    return targets(model, rings)


def _train(experiment: Experiment, model, x: Tensor, y: Tensor, sizes: list[int], order: torch.Generator) -> History:
    """The loop. Rows of ``x`` [n, d] and ``y`` are in the order train, val, test, as many as ``sizes`` says."""
    network, criterion = model.network, F.cross_entropy if isinstance(model, Classifier) else F.mse_loss
    x_train, y_train = x[: sizes[0]], y[: sizes[0]]
    weights, forward = flatten(network), _without_hooks(network)
    best_weights, best_epoch, metrics = weights.detach().clone(), 0, {}
    optimizer = Adam([weights], lr=experiment.learning_rate, weight_decay=experiment.weight_decay, fused=True)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=experiment.gamma)

    for epoch in range(1, experiment.epochs + 1):
        network.train()
        shuffled = torch.randperm(sizes[0], generator=order).to(x.device)
        batches = zip(x_train[shuffled].split(experiment.batch_size), y_train[shuffled].split(experiment.batch_size))
        for inputs, labels in batches:
            weights.grad.zero_()
            loss = criterion(forward(inputs), labels)
            loss.backward()
            optimizer.step()

        measured = {**_evaluate(model, x, y, sizes), "learning_rate": scheduler.get_last_lr()[0]}
        check_finite(measured, epoch, experiment, metrics)
        for name, value in measured.items():
            metrics.setdefault(name, []).append(value)
        if best_epoch == 0 or measured["loss/val"] < metrics["loss/val"][best_epoch - 1]:
            best_epoch = epoch
            best_weights.copy_(weights.detach())
        scheduler.step()

    if experiment.checkpoint == "best":
        weights.detach().copy_(best_weights)
    unflatten(network)
    return History(metrics, best_epoch, best_epoch if experiment.checkpoint == "best" else experiment.epochs)


@torch.no_grad()
def _evaluate(model: Classifier | Regressor, x: Tensor, y: Tensor, sizes: list[int]) -> dict[str, float]:
    """Loss and accuracy, or loss and RMSE in rings, of the three splits in one pass."""
    model.network.eval()
    output = torch.cat([model.network(rows) for rows in x.split(EVALUATED_AT_ONCE)])
    if isinstance(model, Classifier):
        values = {"loss": F.cross_entropy(output, y, reduction="none")}
        values["accuracy"] = (output.argmax(1) == y).to(output.dtype)
    else:
        values = {"loss": ((output - y).square() * model.target_scale**2)[:, 0]}  # rings squared
    means = {
        f"{name}/{part}": rows.mean()
        for name, each in values.items()
        for part, rows in zip(SPLITS, each.split(sizes))
        if len(rows)
    }
    measured = dict(zip(means, torch.stack(list(means.values())).tolist()))
    return measured if isinstance(model, Classifier) else measured | roots(measured)


def roots(losses: dict[str, float]) -> dict[str, float]:
    """``rmse/...`` in rings, of ``loss/...`` in rings squared."""
    return {name.replace("loss", "rmse"): math.sqrt(loss) for name, loss in losses.items()}


def flatten(network: nn.Module) -> nn.Parameter:
    """Move all parameters, and their gradients, into two flat tensors of which they become views.

    The optimiser then has one tensor to step, and one to set to zero, instead of one per layer.

    Returns
    -------
    Parameter [number of weights], float32
    """
    parameters = list(network.parameters())
    flat = nn.Parameter(nn.utils.parameters_to_vector(parameters).detach())
    flat.grad = torch.zeros_like(flat)
    sizes = [p.numel() for p in parameters]
    for p, data, grad in zip(parameters, flat.data.split(sizes), flat.grad.split(sizes)):
        p.data, p.grad = data.view_as(p), grad.view_as(p)
    return flat


def _without_hooks(network: nn.Sequential) -> Callable[[Tensor], Tensor]:
    """The network's own forward pass, past all that ``nn.Module`` looks up at every call of a layer."""

    def bare(layer: nn.Module) -> Callable[[Tensor], Tensor]:
        if isinstance(layer, nn.Linear):
            return partial(F.linear, weight=layer.weight, bias=layer.bias)
        return torch.relu if isinstance(layer, nn.ReLU) else layer.forward

    layers = [bare(layer) for layer in network]
    return lambda inputs: reduce(lambda hidden, layer: layer(hidden), layers, inputs)


def unflatten(network: nn.Module) -> None:
    """Give every parameter storage of its own again, as whoever saves or goes on training expects."""
    for p in network.parameters():
        p.data, p.grad = p.data.clone(), None


def check_finite(measured: dict[str, float], epoch: int, experiment: Experiment, curves: dict) -> None:
    """Raise ``TrainingDiverged`` if anything measured at the end of ``epoch`` is not a finite number."""
    for name, value in measured.items():
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"training diverged: {name} is {value} at the end of epoch {epoch}, expected a finite number; "
                f"lower learning_rate (it is {experiment.learning_rate}), for example by ten",
                curves,
            )


def leave_compiler_out() -> None:
    """Keep the first optimiser of a process from importing torch.compile's machinery: a second, and nothing uses it."""
    for method in map(inspect.unwrap, (torch.optim.Optimizer.__init__, torch.optim.Optimizer.add_param_group)):
        method.__dynamo_disable = method


def find_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu`` or ``cuda`` means here; ``BadValue`` if it is not there."""
    present = torch.cuda.is_available()
    if name == "cuda" and not present:
        raise BadValue("device", "'cuda' is not available: torch sees no GPU here; expected cpu, or auto to choose")
    return torch.device("cuda" if name != "cpu" and present else "cpu")


@contextmanager
def cpu_settings() -> Iterator[None]:
    """One thread, and numbers below 1e-38 taken for zero; both are the process's settings, so they are put back.

    Matrices this small are slower on two threads than on one. Weight decay sends the weights of idle units towards
    zero, through a range where the processor is many times slower.
    """
    threads, flushing = torch.get_num_threads(), bool(torch.tensor(1e-40) * 1 == 0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushing)
