"""Show the progress of a training: a bar by epoch on a terminal, one line elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

AfterEpoch = Callable[[Mapping[str, float]], None]  # takes what was measured at the end of an epoch
Say = Callable[[str], None]


def ignore_epoch(measured: Mapping[str, float]) -> None:
    """Show nothing."""


@contextmanager
def training_progress(name: str, epochs: int, rows: int, say: Say | None = None) -> Iterator[AfterEpoch]:
    """Announce a training, and show how far it is.

    Parameters
    ----------
    name : str
        What is trained.
    epochs, rows : int
        How long, and on how many rows.
    say : callable, optional
        Takes the line that is written where stderr is no terminal; without it nothing is written there.

    Yields
    ------
    callable
        To be called at the end of each epoch with what was measured.
    """
    if not sys.stderr.isatty():
        if say is not None:
            say(f"{name}: training {epochs} epochs on {rows:,} rows")
        yield ignore_epoch
        return
    from tqdm import tqdm  # a requirement of Optuna

    with tqdm(total=epochs, desc=name, unit="epoch", leave=False, dynamic_ncols=True) as bar:

        def show(measured: Mapping[str, float]) -> None:
            if "loss/val" in measured:
                bar.set_postfix_str(f"validation loss {measured['loss/val']:.4f}", refresh=False)
            bar.update()  # draws at most ten times per second

        yield show
