"""A group of members with tensors of the same shapes: stacked, trained together, and removed as they finish."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from abalone.training.group_evaluation import evaluate
from abalone.training.group_training import GroupTrainer
from abalone.training.history import History
from abalone.training.population_members import Member
from abalone.training.prepared_rows import StackedRows
from abalone.training.stacked_layers import stack_layers, unstack


class Group:
    """Members that are trained together.

    Parameters
    ----------
    members : sequence of Member
        With tensors of the same shapes, as ``group_by_shape`` finds them.
    device : torch.device
        Where they are trained.
    train_curves : bool, default True
        Whether the curves include those of the training rows.
    steps : int, default 0
        Steps that the members have been trained for.
    """

    @torch.inference_mode()
    def __init__(self, members: Sequence[Member], device: torch.device, train_curves: bool = True, steps: int = 0):
        self.members = members
        self.device = device
        self.train_curves = train_curves
        self.rows = StackedRows([member.rows for member in members], device)
        self.layers = stack_layers(members, self.rows.x)
        self.trainer = GroupTrainer(members, self.rows, self.layers, steps)

    def train_epoch(self) -> None:
        """Train for one epoch."""
        self.trainer.train_epoch()

    @torch.inference_mode()
    def record(self, epoch: int) -> None:
        """Append an epoch to the members' curves, and keep the weights of those for which it is the best so far."""
        measured = evaluate(self.members, self.rows, self.layers, self.train_curves)
        improved = []
        for place, member in enumerate(self.members):
            if member.result is None and member.record(epoch, measured[place]):
                improved.append(place)
        for layer in self.layers:
            layer.best[improved] = layer.w[improved]

    @torch.inference_mode()
    def finish(self, epoch: int, stopped: Collection[Member]) -> None:
        """Set the result of members that are stopped or have trained for all of their epochs."""
        for place, member in enumerate(self.members):
            if member.result is None and (member in stopped or epoch == member.settings.epochs):
                if member.settings.checkpoint == "best":
                    reported_epoch = member.best_epoch
                    matrices = [layer.best[place] for layer in self.layers]
                else:
                    reported_epoch = epoch
                    matrices = [layer.w[place] for layer in self.layers]
                unstack(member.model.network, matrices)
                history = History(metrics=member.metrics, best_epoch=member.best_epoch, reported_epoch=reported_epoch)
                member.result = (member.model.eval(), history)

    @torch.inference_mode()
    def remaining(self) -> Group | None:
        """The group to go on with: this one, a smaller one once half of the members have finished, or None."""
        places = [place for place, member in enumerate(self.members) if member.result is None]
        if not places:
            return None
        if 2 * len(places) > len(self.members):
            return self
        members = [self.members[place] for place in places]
        smaller = Group(members, self.device, self.train_curves, self.trainer.steps)
        for new_layer, layer in zip(smaller.layers, self.layers):
            for new, old in zip(new_layer.kept(), layer.kept()):
                new.copy_(old[places])
        return smaller
