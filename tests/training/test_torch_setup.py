"""Adam without torch's overhead, and the device."""

from __future__ import annotations

import pytest
import torch
from training_data import train

from abalone.settings import BadValue
from abalone.training.torch_setup import Adam


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_takes_the_steps_of_torchs_own(decoupled):
    """Two groups with settings of their own, as ``fit_rings`` has them, and a schedule, as ``fit`` has."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(3, 4, generator=generator), torch.randn(4, generator=generator)]
    gradients = [[torch.randn(p.shape, generator=generator) for p in start] for _ in range(30)]

    def trained(optimizer_class: type[torch.optim.Adam]) -> list[torch.Tensor]:
        weights, biases = (torch.nn.Parameter(p.clone()) for p in start)
        optimizer = optimizer_class(
            [{"params": [weights]}, {"params": [biases], "weight_decay": 0}],
            lr=0.01,
            betas=(0.9, 0.98),
            weight_decay=0.5,
            decoupled_weight_decay=decoupled,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        for weight_gradient, bias_gradient in gradients:
            weights.grad = weight_gradient
            biases.grad = bias_gradient
            optimizer.step()
            schedule.step()
        return [weights.detach(), biases.detach()]

    for ours, theirs in zip(trained(Adam), trained(torch.optim.Adam), strict=True):
        assert torch.equal(ours, theirs)


def test_a_missing_gpu_is_refused(data, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadValue, match="device: 'cuda' is not available"):
        train(data, "classify", device="cuda")
