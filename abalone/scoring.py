"""A CSV file of raw rows through both champions, a batch of lines at a time."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import mlflow
import pandas as pd
import torch
from mlflow.exceptions import MlflowException

from abalone.columns import RAW_COLUMNS
from abalone.config import UserError
from abalone.dataset import COLUMNS
from abalone.serving import BadRows, check
from abalone.tracking import REGISTERED

LINES_AT_ONCE = 5_000


def load_champion(task: str) -> Any:
    """The champion of a task as MLflow's pyfunc model; a ``UserError`` if there is none."""
    uri = f"models:/{REGISTERED[task]}@champion"
    try:
        return mlflow.pyfunc.load_model(uri, suppress_warnings=True)
    except (MlflowException, OSError) as error:
        raise UserError(
            f"{uri} cannot be loaded from {mlflow.get_registry_uri()} ({error}); "
            "make a champion with: mlflow run . -e promote -P experiment=NAME"
        ) from None


def score_csv(source: str, target: str) -> int:
    """Append the scores of both champions to each line of a CSV file.

    Parameters
    ----------
    source : str
        File to read, with or without a header; without one, eight columns in the order of the data file, and Rings
        as a ninth or not. With one, columns in any order and among others.
    target : str
        File to write: a header, the lines of ``source`` as they are, and what the champions answer. It appears when
        all is done.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    UserError
        For files that cannot be read or written, a missing column, and bad rows by their line; nothing is written.
    """
    source_path, target_path = Path(source).expanduser(), Path(target).expanduser()
    if not source or not source_path.is_file():
        raise UserError(f"input {source!r}: no such file in {Path.cwd()}; give -P input=ROWS.csv")
    if not target or not target_path.absolute().parent.is_dir() or target_path.is_dir():
        raise UserError(f"output {target!r}: not a file in a folder that exists; give -P output=SCORED.csv")
    torch.set_num_threads(1)  # more of them only wait for each other over matrices this small
    models = [load_champion(task) for task in REGISTERED]
    part = target_path.with_name(f".{target_path.name}.{os.getpid()}.part")
    try:
        with source_path.open(encoding="utf-8-sig", newline="") as rows, part.open("w", encoding="utf-8") as scored:
            count = _score(models, rows, scored)
        part.replace(target_path)
    except (BadRows, UnicodeDecodeError, csv.Error, pd.errors.ParserError) as error:
        raise UserError(f"{source_path}: {getattr(error, 'message', error)}") from None
    except OSError as error:
        raise UserError(f"{error.filename or target_path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return count


def _score(models: Sequence[Any], rows: TextIO, scored: TextIO) -> int:
    names, has_header = _columns(rows)
    check(pd.DataFrame(columns=names))  # says at once what is missing
    wanted = [i for i, name in enumerate(names) if name in (*RAW_COLUMNS, "Shell weights")]
    answered = [name for model in models for name in model.metadata.get_output_schema().input_names()]
    _write(scored, [",".join([_quoted(name) for name in names] + answered)])
    form = ",".join(["{}", *("{}" if name == "label" else "{:.9g}" for name in answered)])
    lines, count = enumerate(rows, 1), 0
    for batch in _batches(islice(lines, int(has_header), None), len(names)):
        text = StringIO("\n".join(batch.values()))
        frame = pd.read_csv(text, header=None, usecols=wanted, na_filter=False, skipinitialspace=True, low_memory=False)
        frame.columns = [names[i] for i in wanted]
        frame.index = pd.Index(batch, name="line")
        columns = pd.concat([model.predict(frame) for model in models], axis=1)
        answers = zip(batch.values(), *(columns[name].tolist() for name in answered))
        _write(scored, [form.format(*answer) for answer in answers])
        count += len(batch)
    return count


def _columns(rows: TextIO) -> tuple[list[str], bool]:
    """Names of the columns, and whether the first line gave them: it does where no field of it is a number."""
    first = next(csv.reader([rows.readline()], skipinitialspace=True), [])
    rows.seek(0)
    if not any(map(_is_number, first)):
        return [name.strip() for name in first], True
    if len(first) not in (len(RAW_COLUMNS), len(COLUMNS)):
        raise BadRows(
            f"line 1: {len(first)} columns and no header; expected {len(RAW_COLUMNS)} or {len(COLUMNS)}: "
            + ", ".join(COLUMNS)
        )
    return list(COLUMNS[: len(first)]), False


def _batches(lines: Iterator[tuple[int, str]], width: int) -> Iterator[dict[int, str]]:
    """Lines by their number, without the blank ones; each must have ``width`` fields."""
    while taken := list(islice(lines, LINES_AT_ONCE)):
        batch = {number: text for number, line in taken if (text := line.rstrip("\r\n")).strip()}
        for number, text in batch.items():
            if text.count('"') % 2:
                raise BadRows(f"line {number}: a quote that does not end on the line")
            fields = text.count(",") + 1 if '"' not in text else len(next(csv.reader([text], skipinitialspace=True)))
            if fields != width:
                raise BadRows(f"line {number}: {fields} columns, expected {width}")
        if batch:
            yield batch


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') else name


def _write(file: TextIO, lines: Sequence[str]) -> None:
    file.write("\n".join(lines) + "\n")
