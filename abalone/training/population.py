"""``fit_many``: ``fit`` for K models at once, with the same steps and results at a fraction of the time per model.

Members whose tensors have the same shapes form a group (``group``). Their weights are stacked (``stacked_layers``) and
multiplied in one call of ``torch.bmm``, in training (``group_training``) and evaluation (``group_evaluation``). Below:
K members, B rows of a batch, a layer from I to O units, C outputs; dz is the gradient with respect to z, and so on.

**Forward.** The last row of every ``h`` is 1 and the last row of every ``W`` the bias, so that a bias and its gradient
need no operation of their own. ``noise`` (dropout, in training only) is 0 or 1 / (1 - p)::

    z = W^T h                        [K, O, B] = [K, O, I] [K, I, B]; of the last layer, the output
    h' = (relu(z) * noise, 1)        [K, O + 4, B], what enters the next layer

**Backward.** The loss is the sum over the batch of cross-entropy or of half the squared error::

    dz = softmax(z) - y              [K, C, B] of the last layer, y one-hot; or z - y, y rings
    dz = dh' * noise * (h' > 0)      [K, O, B] of the others, relu' being 1 where h' > 0
    dh = W dz                        [K, I, B], without the bias
    dW = h dz^T                      [K, I, O] = [K, I, B] [K, B, O]

**Padding.** Hidden widths are rounded up to a multiple of 16; inputs with their bias, outputs, and rows of a batch to
a multiple of 4 (``padding``). Weights of padding are 0 and stay 0: a padded unit has z = 0, so relu lets no gradient
into it, and its h = 0 lets none into the weights that leave it; a padded row has dz = 0. Padding depends only on the
member itself and lets every matrix begin at a multiple of 64 bytes. A member's result is therefore the same, bit for
bit, whichever other members are in the population.

**Adam.** torch's kernel takes one learning rate, but every member has its own. A step of Adam is lr times a term that
does not contain lr; so the kernel updates q = w / lr with learning rate 1, and then w = lr q::

    m = b1 m + (1 - b1) g            v = b2 v + (1 - b2) g^2
    q = q - (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

The gradient g of a sum is that of a mean times B (of half the squared error, times B / 2). Adam's step does not change
if eps and the weight decay, which is added to g, are multiplied by the same factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from abalone.data.splitting import Split
from abalone.model.networks import Classifier, Regressor, build
from abalone.settings import StageSettings
from abalone.side_by_side import run_all
from abalone.training.group import Group
from abalone.training.history import History, TrainingDiverged
from abalone.training.implemented import NotImplementedByEngine
from abalone.training.population_members import Member, group_by_shape, require_implemented, untrained_members
from abalone.training.torch_setup import cpu_settings, find_device

Stop = Callable[[int, np.ndarray], Iterable[int]]
Trained = tuple[Classifier | Regressor, History] | TrainingDiverged


def fit_many(
    settings: Sequence[StageSettings],
    x: Tensor,
    rings: np.ndarray | Tensor,
    splits: Split | Sequence[Split],
    *,
    stop: Stop | None = None,
    train_curves: bool = True,
) -> list[Trained]:
    """Train the models that ``settings`` describe, as ``fit`` would one by one.

    Parameters
    ----------
    settings : sequence of StageSettings, K
        They may differ in every key. Members with the same number of layers, widths (but for padding), batch size,
        number of inputs and number of rows are computed together: the more of them, the faster.
    x : Tensor [n, 10], float32
        All rows, as ``features.encode`` gives them; if float64, everything is computed in float64.
    rings : array or Tensor [n], int64
        Number of rings of each row.
    splits : Split or sequence of Split, K
        One for all members, or one for each.
    stop : callable, optional
        Called after every epoch with its number, counted from 1, and the members' ``loss/val``: array [K], float64,
        NaN for members that are no longer in training. It returns the places of the members that end here, as if
        this had been the last of their ``epochs``.
    train_curves : bool, default True
        Whether the curves include those of the training rows, which take about a sixth of the time.

    Returns
    -------
    list, K
        ``(model, history)`` as from ``fit``; or, for a member whose loss became infinite or NaN, the
        ``TrainingDiverged`` that ``fit`` would have raised. The other members are not affected.

        A member's result is the same, bit for bit on one machine, whichever other members are trained with it. It
        differs from that of ``fit`` by rounding only, with dropout too (except on CUDA, where the masks differ); but
        over many epochs in float32, rounding alone drives two trainings apart.

    Raises
    ------
    BadValue
        If a device is not available.
    NotImplementedByEngine
        If a member has a layer or a setting that ``fit_many`` does not know.
    """
    if isinstance(splits, Split):
        splits = [splits] * len(settings)
    with cpu_settings():
        members = untrained_members(settings, x, rings, splits)
        groups = group_by_shape(members)
        on_cpu = all(find_device(own.device).type == "cpu" for own in settings)
        if stop is not None or not on_cpu:  # a GPU computes one group after the other anyway
            return train_groups(groups, members, train_curves, stop)
    trained = run_all(train_groups, [([group], group, train_curves) for group in groups])
    results: dict[Member, Trained] = {}
    for group, of_group in zip(groups, trained):
        results.update(zip(group, of_group))
    return [results[member] for member in members]


def train_groups(
    groups: Sequence[Sequence[Member]], members: Sequence[Member], train_curves: bool, stop: Stop | None = None
) -> list[Trained]:
    """Train groups epoch by epoch, in step with each other.

    Parameters
    ----------
    groups : sequence of sequence of Member
        As ``group_by_shape`` returns them.
    members : sequence of Member, K
        All members of the groups, in the order of the results.
    train_curves, stop
        As for ``fit_many``.

    Returns
    -------
    list, K
    """
    with cpu_settings():
        running = []
        for alike in groups:
            running.append(Group(alike, find_device(alike[0].settings.device), train_curves))
        epoch = 0
        while running:
            epoch += 1
            for group in running:
                group.train_epoch()
                group.record(epoch)
            stopped = _stopped_members(members, epoch, stop)
            for group in running:
                group.finish(epoch, stopped)
            remaining = [group.remaining() for group in running]
            running = [group for group in remaining if group is not None]
    return [member.result for member in members if member.result is not None]


def require_trainable(settings: StageSettings) -> None:
    """Raise ``NotImplementedByEngine`` if ``fit_many`` does not implement a setting, or a layer of the network."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        model = build(settings.model_config())
    assert isinstance(model, Classifier | Regressor)  # as for every stage of the guide
    require_implemented(settings, model)


def can_train(settings: StageSettings) -> bool:
    """Whether ``fit_many`` implements every setting, and every layer of the network."""
    try:
        require_trainable(settings)
    except NotImplementedByEngine:
        return False
    return True


def _stopped_members(members: Sequence[Member], epoch: int, stop: Stop | None) -> list[Member]:
    """The members that ``stop`` ends after this epoch."""
    if stop is None:
        return []
    losses = [member.metrics["loss/val"][-1] if member.result is None else math.nan for member in members]
    return [members[place] for place in stop(epoch, np.array(losses))]
