"""Score a table of raw rows with both champions, a batch of lines at a time.

Each batch is checked with the project's own definition of a valid row first, so that a bad field is reported by its
line and column. MLflow's check of the signature, which comes before the champion's own, would name neither. The
champions then get the checked rows, and the answers come from their own code alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, TextIO

import pandas as pd
import torch

from abalone.data.layout import Layout, Lines, split_fields
from abalone.data.problems import Problems, check_batch
from abalone.data.tables import Batch, batches, open_table
from abalone.model.columns import OUTSIDE, TEXT_COLUMNS
from abalone.model.rows import BadRows
from abalone.registry.loading import LoadedModel, load_champion
from abalone.registry.outside import join_answers
from abalone.registry.table_files import open_input, open_output
from abalone.settings import REGISTERED_MODELS, UserError

LINES_AT_ONCE = 1_000  # with 3,000, two champions of `rings` need more than 500 MB


@dataclass(frozen=True)
class Scored:
    """What was scored.

    Parameters
    ----------
    rows : int
        Number of rows.
    understood : str
        How the table was read, in one line.
    """

    rows: int
    understood: str


def score_table(
    source: str,
    target: str,
    units: str = "file",
    *,
    stdout: TextIO | None = None,
    lines_at_once: int = LINES_AT_ONCE,
) -> Scored:
    """Append the scores of both champions to each row of a table.

    Parameters
    ----------
    source : str
        Table to read, in any form that ``abalone.data.tables`` knows; ``-`` for stdin. Without names: eight columns in
        the order of the data file, and optionally ``Rings`` as a ninth.
    target : str
        CSV file to write: a header, and the rows of ``source`` with the champions' answers appended; ``-`` for stdout.
        It appears once it is complete.
    units : str, default "file"
        ``file`` for mm/200 and g/200, ``mm_g`` for millimetres and grams.
    stdout : text file, optional
        What ``-`` stands for; by default ``sys.stdout``.
    lines_at_once : int
        Lines to hold in memory.

    Returns
    -------
    Scored

    Raises
    ------
    UserError
        If a file cannot be read or written, a champion is missing or unusable, a column is missing or has the name of
        an answer, or a row is bad; nothing is written.
    """
    torch.set_num_threads(1)  # with more threads, matrices this small are slower
    with open_input(source, sys.stdin.buffer) as rows, open_output(target, stdout or sys.stdout) as scored:
        models = [load_champion(task) for task in REGISTERED_MODELS]
        try:
            return _score(models, rows, scored, units, lines_at_once)
        except BadRows as error:
            raise UserError(f"{source}: {error.message}") from error


def _score(models: Sequence[LoadedModel], rows: BinaryIO, scored: TextIO, units: str, lines_at_once: int) -> Scored:
    """Write a header and the scored rows."""
    answers = _answer_columns(models)
    with open_table(rows) as (layout, lines):
        names = _output_names(layout, answers)
        _write_lines(scored, [",".join([_quote(name) for name in names] + answers)])
        form = ",".join(["{}"] + [_number_format(name) for name in answers])
        count = 0
        for batch, checked in _good_batches(layout, lines, units, lines_at_once):
            scores = join_answers([model.predict(checked) for model in models])
            if OUTSIDE in scores:  # its names are separated by commas, as the fields are
                scores[OUTSIDE] = scores[OUTSIDE].map(_quote)
            columns = [scores[name].tolist() for name in answers]
            _write_lines(scored, [form.format(*cells) for cells in zip(_csv_lines(batch, layout), *columns)])
            count += len(batch.lines)
    return Scored(count, f"{count} rows; {layout.understood()}")


def _answer_columns(models: Sequence[LoadedModel]) -> list[str]:
    """Columns of the answers of all models; ``outside_training_range`` once, as the last."""
    names = [name for model in models for name in model.columns]
    if OUTSIDE in names:
        return [name for name in names if name != OUTSIDE] + [OUTSIDE]
    return names


def _good_batches(layout: Layout, lines: Lines, units: str, size: int) -> Iterator[tuple[Batch, pd.DataFrame]]:
    """Yield batches with their checked rows until one has a problem; then only count problems, and raise at the end."""
    problems = Problems()
    for batch in batches(layout, lines, size):
        checked, found = check_batch(batch, layout, units)
        problems.add(found)
        if not problems.count:
            yield batch, checked
    if problems.count:
        raise BadRows(problems.message())


def _output_names(layout: Layout, answers: Sequence[str]) -> list[str]:
    """The names of the columns of the table; a column ``rings`` that is read as ``Rings`` makes room for the answer."""
    names = list(layout.names)
    for column, position in layout.columns.items():
        if names[position] in answers:
            names[position] = column
    taken = [name for name in names if name in answers]
    if taken:
        raise BadRows(f"column {', '.join(taken)} has the name of an output; rename or remove it")
    return names


def _csv_lines(batch: Batch, layout: Layout) -> list[str]:
    """The lines of a batch, separated by commas."""
    if layout.separator == ",":
        return list(batch.lines.values())
    lines = []
    for line in batch.lines.values():
        fields = [field.strip() for field in split_fields(line, layout.separator)]
        if layout.decimal == ",":
            for position in layout.columns.values():
                fields[position] = fields[position].replace(",", ".")
        lines.append(",".join(_quote(field) for field in fields))
    return lines


def _number_format(column: str) -> str:
    return "{}" if column in TEXT_COLUMNS else "{:.9g}"


def _quote(field: str) -> str:
    if set(field) & set(',"\n'):
        escaped = field.replace('"', '""')
        return f'"{escaped}"'
    return field


def _write_lines(file: TextIO, lines: Sequence[str]) -> None:
    file.write("\n".join(lines) + "\n")
