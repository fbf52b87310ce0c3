"""Evaluation of a group: its members' outputs for all rows, and the curves' values at the end of an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from abalone.model.networks import Classifier, Regressor
from abalone.training.history import SPLITS, rmse_from_losses
from abalone.training.padding import BIAS_ROWS, EVALUATED_PER_MEMBER
from abalone.training.population_members import Member
from abalone.training.prepared_rows import StackedRows
from abalone.training.stacked_layers import StackedLayer


@torch.inference_mode()
def evaluate(
    members: Sequence[Member], rows: StackedRows, layers: Sequence[StackedLayer], train_curves: bool
) -> list[dict[str, float]]:
    """Measure the members at the end of an epoch.

    Parameters
    ----------
    members : sequence of Member, K
    rows : StackedRows
        Their prepared rows.
    layers : sequence of StackedLayer
        Their weights.
    train_curves : bool
        Whether the training rows are measured too.

    Returns
    -------
    list of dict, K
        Each member's values of ``History.metrics``, without the learning rate.
    """
    first_row = 0 if train_curves else rows.sizes[0]
    outputs = predict(rows, layers, first_row)  # [K, C, n]
    labels = rows.targets_by_member()  # [K, C, n]
    if isinstance(members[0].model, Classifier):
        hits = (outputs[:, 1] > outputs[:, 0]) == (labels[:, 1] > labels[:, 0])
        cross_entropies = -(outputs.log_softmax(1) * labels).sum(1)
        measured = _means({"loss": cross_entropies, "accuracy": hits.to(outputs.dtype)}, rows.sizes, train_curves)
    else:
        models = [member.model for member in members]
        scale = rows.per_member([model.target_scale.item() for model in models if isinstance(model, Regressor)])
        squared_errors = (outputs - labels).square() * scale**2  # [K, 1, n], rings squared
        measured = _means({"loss": squared_errors[:, 0]}, rows.sizes, train_curves)
        for values in measured:
            values.update(rmse_from_losses(values))
    return measured


def _means(values: dict[str, Tensor], sizes: list[int], train_curves: bool) -> list[dict[str, float]]:
    """Each member's means over the splits, by name and split, of values [K, n]."""
    means = {}
    for name, value in values.items():
        for split, part in zip(SPLITS, value[:, : sum(sizes)].split(sizes, 1)):
            wanted = train_curves or split != "train"
            if wanted and part.shape[1] > 0:
                means[f"{name}/{split}"] = part.mean(1)  # [K]
    by_member = torch.stack(list(means.values()), 1).tolist()  # all at once: one transfer from a GPU
    return [dict(zip(means, row)) for row in by_member]


@torch.inference_mode()
def predict(rows: StackedRows, layers: Sequence[StackedLayer], first_row: int = 0) -> Tensor:
    """The networks' own outputs for all rows.

    Since relu(z + b) = max(z, -b) + b, the b that is added can be moved into the next bias, b' + W'^T b. So z becomes
    h in place, without the row of ones that training needs, and less memory is moved.

    Parameters
    ----------
    rows : StackedRows
    layers : sequence of StackedLayer
    first_row : int, default 0
        Rows before this one may be left out; their outputs are 0.

    Returns
    -------
    Tensor [K, C, n]
    """
    x = rows.inputs_by_table()  # [tables, inputs, n]
    members = len(rows.table)
    hidden = []  # of each hidden layer: weights [K, O, I], -b [K, O, 1], room for h [K, O, rows at once]
    weights = layers[0].forward  # with its bias, for which x has a row of ones
    bias = x.new_zeros(members, weights.shape[1], 1)
    floor = bias
    for layer in layers[1:]:
        hidden.append((weights, floor, x.new_empty(members, weights.shape[1], EVALUATED_PER_MEMBER)))
        weights = layer.forward[:, :, :-BIAS_ROWS]
        bias = layer.forward[:, :, -1:] + weights @ bias
        floor = -bias

    classes = len(rows.y)
    outputs = x.new_zeros(members, classes, rows.n)
    first_chunk = first_row // EVALUATED_PER_MEMBER
    for start in range(first_chunk * EVALUATED_PER_MEMBER, rows.n, EVALUATED_PER_MEMBER):
        chunk = slice(start, start + EVALUATED_PER_MEMBER)
        h = x[:, :, chunk].index_select(0, rows.table)  # [K, inputs, rows at once]
        for layer_weights, least, buffer in hidden:
            torch.bmm(layer_weights, h, out=buffer)
            h = torch.maximum(buffer, least, out=buffer)
        outputs[:, :, chunk] = torch.baddbmm(bias, weights, h)[:, :classes]
    return outputs
