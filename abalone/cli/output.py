"""What commands print: text fitted to the terminal, or one JSON object."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import click

from abalone.cli.tables import fit_text


def say(text: str) -> None:
    """Print text, its tables fitted to the terminal's width, or to 80 columns where there is no terminal."""
    click.echo(fit_text(text, shutil.get_terminal_size((80, 24)).columns))


def show(result: Any) -> None:
    """Print the scores of a run, and how to browse it."""
    from abalone.stages.stage import show_result

    show_result(result, say)


@contextmanager
def reporting(json: bool) -> Iterator[None]:
    """Send to stderr all that is printed within the block, if stdout is to hold one JSON object only."""
    if not json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def print_object(value: Mapping[str, Any]) -> None:
    """Print a mapping as JSON."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    """A value in the types of JSON, which has neither NaN nor infinity: both become null."""
    if is_dataclass(value) and not isinstance(value, type):
        # What is not shown has no form in JSON, such as a run or a table that was loaded.
        value = {known.name: getattr(value, known.name) for known in fields(value) if known.repr}
    if hasattr(value, "tolist"):  # an array or a scalar of NumPy
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def decisions_object(decisions: Sequence[Any], dry_run: bool) -> dict[str, Any]:
    """The decisions of a promotion, by task.

    Parameters
    ----------
    decisions : sequence of Decision
    dry_run : bool
        Whether the registry was left as it was, so that ``promotes`` says what would happen.
    """
    by_task = {}
    for decision in decisions:
        by_task[decision.task] = {
            "promotes": decision.promotes,
            "reason": decision.reason,
            "split": decision.split,
            "version": decision.version,
            "champion_before": decision.champion,
            "best": decision.challenger,
            "candidates": decision.candidates,
        }
    return {"dry_run": dry_run, "decisions": by_task}


def findings_object(found: Sequence[Any], seeds: int) -> dict[str, Any]:
    """The verdicts of a report; ``values`` of a claim has its difference on each seed."""
    claims = [{**asdict(finding), "full_verdict": finding.full_verdict} for finding in found]
    return {"seeds": seeds, "claims": claims}


def tuning_object(winner: Any) -> dict[str, Any]:
    """The winner of a study, and what the study's own run logged.

    Parameters
    ----------
    winner : Result or None
        As ``run_tune`` returns it.
    """
    if winner is None:
        return {"study": None, "winner": None}
    from abalone.status import study_of_winner

    return {"study": study_of_winner(winner.run_id), "winner": winner}
