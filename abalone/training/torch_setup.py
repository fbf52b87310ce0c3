"""TODO training.torch_setup"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from abalone.settings import BadValue


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
