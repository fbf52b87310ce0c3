"""Score a CSV file of raw rows with both champions, a batch of lines at a time.

Each batch is checked with the project's own ``check`` first, so that a bad field is reported by its line and column.
MLflow's check of the signature, which comes before the champion's own, would name neither. The champions then get the
fields as they were read, so the answers come from the champions' own code alone.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

import pandas as pd
import torch

from abalone.data.reading import FILE_COLUMNS
from abalone.model.columns import OUTSIDE, RAW_COLUMNS, TEXT_COLUMNS
from abalone.model.rows import BadRows, check
from abalone.registry.loading import LoadedModel, load_champion
from abalone.registry.outside import join_answers
from abalone.settings import REGISTERED_MODELS, UserError

LINES_AT_ONCE = 1_000  # with 3,000, two champions of `rings` need more than 500 MB
SHELL_WEIGHT = "Shell weight"
GUIDE_SHELL_WEIGHT = "Shell weights"  # the guide's spelling
KNOWN_NAMES = {*RAW_COLUMNS, GUIDE_SHELL_WEIGHT}


@dataclass(frozen=True)
class Layout:
    """Columns of a CSV file.

    Parameters
    ----------
    names : list of str
        Names of all columns.
    has_header : bool
        Whether the first line holds the names.
    inputs : dict of int to str
        Position of each of the eight columns that are scored, to its name in ``RAW_COLUMNS``.
    """

    names: list[str]
    has_header: bool
    inputs: dict[int, str]


def score_csv(source: str, target: str, lines_at_once: int = LINES_AT_ONCE) -> int:
    """Append the scores of both champions to each line of a CSV file.

    Parameters
    ----------
    source : str
        File to read, with or without a header. Without one: eight columns in the order of the data file, and
        optionally ``Rings`` as a ninth. With one: the eight columns in any order, among others or not.
    target : str
        File to write: a header, and the lines of ``source`` with the champions' answers appended. It appears once it is
        complete. A file that is replaced keeps its mode, and a symbolic link stays a link.
    lines_at_once : int
        Lines to hold in memory.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    UserError
        If a file cannot be read or written, a champion is missing or unusable, a column is missing or has the name of
        an answer, or a row is bad; nothing is written.
    """
    source_path, target_path = _check_paths(source, target)
    torch.set_num_threads(1)  # with more threads, matrices this small are slower
    models = [load_champion(task) for task in REGISTERED_MODELS]
    part = target_path.with_name(f".{target_path.name}.{os.getpid()}.part")
    try:
        with source_path.open(encoding="utf-8-sig", newline="") as rows, part.open("w", encoding="utf-8") as scored:
            if target_path.exists():
                shutil.copymode(target_path, part)
            count = _score(models, rows, scored, lines_at_once)
        part.replace(target_path)
    except BadRows as error:
        raise UserError(f"{source_path}: {error.message}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{source_path}: {error}") from error
    except OSError as error:
        # The error may name the part, which tells the user nothing.
        path = source_path if error.filename == str(source_path) else target_path
        raise UserError(f"{path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return count


def _check_paths(source: str, target: str) -> tuple[Path, Path]:
    source_path = Path(source).expanduser()
    target_path = Path(os.path.realpath(Path(target).expanduser()))
    if not source or not source_path.is_file():
        raise UserError(f"input {source!r}: no such file in {Path.cwd()}; give -P input=ROWS.csv")
    if not target or not target_path.parent.is_dir():
        raise UserError(f"output {target!r}: not a file in a folder that exists; give -P output=SCORED.csv")
    if os.path.lexists(target_path) and not target_path.is_file():
        raise UserError(f"output {target!r}: exists and is not a regular file; give -P output=SCORED.csv")
    return source_path, target_path


def _score(models: Sequence[LoadedModel], rows: TextIO, scored: TextIO, lines_at_once: int) -> int:
    """Write a header and the scored rows; return the number of rows."""
    lines = _numbered_lines(rows)
    number, first = next(lines, (1, ""))
    layout = _read_layout(number, first)
    if not layout.has_header:
        lines = chain([(number, first)], lines)
    answers = _answer_columns(models)
    taken = [name for name in layout.names if name in answers]
    if taken:
        raise BadRows(f"column {', '.join(taken)} has the name of an output; rename or remove it")
    header = [_quote(name) for name in layout.names] + answers
    _write_lines(scored, [",".join(header)])
    form = ",".join(["{}"] + [_number_format(name) for name in answers])
    count = 0
    for batch in _batches(lines, len(layout.names), lines_at_once):
        frame = _parse(batch, layout)
        check(frame)
        scores = join_answers([model.predict(frame) for model in models])
        if OUTSIDE in scores:  # its names are separated by commas, as the fields are
            scores[OUTSIDE] = scores[OUTSIDE].map(_quote)
        columns = [scores[name].tolist() for name in answers]
        _write_lines(scored, [form.format(*cells) for cells in zip(batch.values(), *columns)])
        count += len(batch)
    return count


def _answer_columns(models: Sequence[LoadedModel]) -> list[str]:
    """Columns of the answers of all models; ``outside_training_range`` once, as the last."""
    names = [name for model in models for name in model.columns]
    if OUTSIDE in names:
        return [name for name in names if name != OUTSIDE] + [OUTSIDE]
    return names


def _numbered_lines(rows: TextIO) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers from 1."""
    for number, line in enumerate(rows, 1):
        text = line.rstrip("\r\n")
        if text.strip():
            yield number, text


def _read_layout(number: int, first: str) -> Layout:
    """Find the columns by the first line, which is a header if it has a known name or no number."""
    fields = [field.strip() for field in _split_fields(number, first)]
    has_header = bool(KNOWN_NAMES & set(fields)) or not any(_is_number(field) for field in fields)
    if has_header:
        names = fields
    elif len(fields) in (len(RAW_COLUMNS), len(FILE_COLUMNS)):
        names = list(FILE_COLUMNS[: len(fields)])
    else:
        raise BadRows(
            f"line {number}: {len(fields)} columns and no header; expected {len(RAW_COLUMNS)} or {len(FILE_COLUMNS)}: "
            + ", ".join(FILE_COLUMNS)
        )
    check(pd.DataFrame(columns=names))  # says at once which columns are missing
    has_shell_weight = SHELL_WEIGHT in names
    inputs = {}
    for position, name in enumerate(names):
        if name in RAW_COLUMNS:
            inputs[position] = name
        elif name == GUIDE_SHELL_WEIGHT and not has_shell_weight:
            inputs[position] = SHELL_WEIGHT  # the only spelling that the champions' signatures know
    return Layout(names=names, has_header=has_header, inputs=inputs)


def _parse(batch: dict[int, str], layout: Layout) -> pd.DataFrame:
    """Parse lines into the eight columns; the index holds the line numbers."""
    frame = pd.read_csv(
        StringIO("\n".join(batch.values())),
        header=None,
        usecols=list(layout.inputs),
        na_filter=False,
        skipinitialspace=True,
        low_memory=False,
    )
    frame.columns = list(layout.inputs.values())
    frame.index = pd.Index(batch, name="line")
    return frame


def _batches(lines: Iterator[tuple[int, str]], width: int, lines_at_once: int) -> Iterator[dict[int, str]]:
    """Yield lines by their number, after checking that each has ``width`` fields."""
    while True:
        batch = dict(islice(lines, lines_at_once))
        if not batch:
            return
        for number, text in batch.items():
            fields = len(_split_fields(number, text)) if '"' in text else text.count(",") + 1
            if fields != width:
                raise BadRows(f"line {number}: {fields} columns, expected {width}")
        yield batch


def _split_fields(number: int, text: str) -> list[str]:
    """Split a line into fields, as strictly as pandas does, whose errors name no line."""
    try:
        return next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise BadRows(f"line {number}: {error}; quotes must enclose a whole field on one line") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number_format(column: str) -> str:
    return "{}" if column in TEXT_COLUMNS else "{:.9g}"


def _quote(name: str) -> str:
    if set(name) & set(',"\n'):
        escaped = name.replace('"', '""')
        return f'"{escaped}"'
    return name


def _write_lines(file: TextIO, lines: Sequence[str]) -> None:
    file.write("\n".join(lines) + "\n")
