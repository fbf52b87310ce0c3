"""How torch is set up for training: threads, denormal numbers, device, and an Adam with little overhead."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from abalone.settings import BadValue


class Adam(torch.optim.Adam):
    """``torch.optim.Adam`` that calls the fused kernel directly.

    What torch does in Python around the kernel takes half of the time of a step. Every parameter must have a
    gradient; ``amsgrad``, ``maximize`` and closures are not supported.
    """

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # takes no closure
        """Update every parameter from its gradient."""
        for group in self.param_groups:
            params = group["params"]
            states = [self._state_of(p) for p in params]
            steps = [state["step"] for state in states]
            beta1, beta2 = group["betas"]
            kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
            torch._foreach_add_(steps, 1)
            kernel(
                params,
                [p.grad for p in params],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    def _state_of(self, p: Tensor) -> dict[str, Tensor]:
        """Number of steps so far, and the moving averages of the gradient and of its square."""
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros((), device=p.device)
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p)
        return state

    # torch wraps every ``step`` without this attribute in a profiler's hook
    step.hooked = True  # type: ignore[attr-defined]  # the type of a function has no attributes


def skip_compiler_import() -> None:
    """Keep torch from importing torch.compile's machinery with the first optimiser of a process.

    The import takes a second of CPU, and nothing here uses it.
    """
    for method in (torch.optim.Optimizer.__init__, torch.optim.Optimizer.add_param_group):
        function = inspect.unwrap(method)
        function.__dynamo_disable = function


def find_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu`` or ``cuda`` stands for on this machine.

    Raises
    ------
    BadValue
        If it is ``cuda`` and torch finds no GPU.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise BadValue("device", "'cuda' is not available: torch finds no GPU; expected cpu, or auto to choose")
    if name == "cpu" or not available:
        return torch.device("cpu")
    return torch.device("cuda")


@contextmanager
def cpu_settings() -> Iterator[None]:
    """Use one thread and flush denormal numbers to zero; restore the settings of the process afterwards.

    Matrices this small are slower on two threads than on one, since the threads wait for each other. Weight decay
    drives the weights of idle units towards zero, through the range of denormal numbers (below 1e-38), where a
    processor is many times slower.
    """
    threads = torch.get_num_threads()
    flushing = bool(torch.tensor(1e-40) * 1 == 0)  # torch has no getter for it
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushing)
