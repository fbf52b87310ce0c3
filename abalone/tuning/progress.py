"""Progress of a study while it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable

import optuna
from tqdm import tqdm  # a requirement of Optuna

from abalone.settings import SELECTION
from abalone.tuning.batches import BATCH
from abalone.tuning.plan import Plan
from abalone.tuning.results import best_trial, count_states


class Progress:
    """Shows a bar with the best value so far on a terminal, and otherwise writes a line per batch.

    Parameters
    ----------
    plan : Plan
        What is studied.
    trials : int
        Number of trials that the study is to have in all.
    say : callable
        Takes a line of progress.
    done : int, default 0
        Number of trials that it has at the start.
    """

    def __init__(self, plan: Plan, trials: int, say: Callable[[str], None], done: int = 0):
        self.metric = f"val/{SELECTION[plan.task]}"
        self.trials = trials
        self.say = say
        self.shown = 0  # trials that the last line or bar counted
        self.bar = None
        if sys.stderr.isatty():
            self.bar = tqdm(total=trials, initial=done, unit="trial", leave=False)

    def __call__(self, study: optuna.Study) -> None:
        """Show the state of the study if enough has changed: a batch for a line, anything for the bar."""
        counts = count_states(study)
        done = counts["complete"] + counts["pruned"] + counts["failed"]
        if done == self.shown:
            return
        if self.bar is None and done < min(self.shown + BATCH, self.trials):
            return
        self.shown = done
        best = best_trial(study)
        text = "none complete"
        if best is not None:
            text = f"best {self.metric} {best.value:.4f} (trial {best.number})"
        if self.bar is None:
            self.say(f"{done} of {self.trials} trials, {counts['pruned']} of them pruned; {text}")
        else:
            self.bar.n = done
            self.bar.set_postfix_str(text)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
