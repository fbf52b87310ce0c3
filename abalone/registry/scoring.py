"""A CSV file of raw rows through both champions, a batch of lines at a time."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import mlflow
import pandas as pd
import torch
from mlflow.exceptions import MlflowException

from abalone.data.reading import FILE_COLUMNS
from abalone.model.columns import RAW_COLUMNS
from abalone.model.scorer import BadRows, check
from abalone.settings import REGISTERED_MODELS, UserError

LINES_AT_ONCE = 3_000  # with more, two champions of `rings` come near 500 MB
INPUTS = {*RAW_COLUMNS, "Shell weights"}


def load_champion(task: str) -> Any:
    """The champion of a task as MLflow's pyfunc model; a ``UserError`` if there is none."""
    uri = f"models:/{REGISTERED_MODELS[task]}@champion"
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
        all is done; one that is replaced keeps its mode, and a link stays a link.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    UserError
        For files that cannot be read or written, a column that is missing or named like an answer, and bad rows by
        their line; nothing is written.
    """
    source_path, target_path = Path(source).expanduser(), Path(os.path.realpath(Path(target).expanduser()))
    if not source or not source_path.is_file():
        raise UserError(f"input {source!r}: no such file in {Path.cwd()}; give -P input=ROWS.csv")
    if not target or not target_path.parent.is_dir():
        raise UserError(f"output {target!r}: not a file in a folder that exists; give -P output=SCORED.csv")
    if os.path.lexists(target_path) and not target_path.is_file():
        raise UserError(f"output {target!r}: exists and is not a regular file; give -P output=SCORED.csv")
    torch.set_num_threads(1)  # more of them only wait for each other over matrices this small
    models = [load_champion(task) for task in REGISTERED_MODELS]
    part = target_path.with_name(f".{target_path.name}.{os.getpid()}.part")
    try:
        with source_path.open(encoding="utf-8-sig", newline="") as rows, part.open("w", encoding="utf-8") as scored:
            if target_path.exists():
                shutil.copymode(target_path, part)
            count = _score(models, rows, scored)
        part.replace(target_path)
    except (BadRows, UnicodeDecodeError) as error:
        raise UserError(f"{source_path}: {getattr(error, 'message', error)}") from None
    except OSError as error:
        is_source = error.filename == str(source_path)  # else the part's name, which says nothing to the user
        raise UserError(f"{source_path if is_source else target_path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return count


def _score(models: Sequence[Any], rows: TextIO, scored: TextIO) -> int:
    stripped = ((number, line.rstrip("\r\n")) for number, line in enumerate(rows, 1))
    lines = ((number, text) for number, text in stripped if text.strip())
    first = next(lines, (1, ""))
    names, has_header = _columns(*first)
    check(pd.DataFrame(columns=names))  # says at once what is missing
    wanted = [i for i, name in enumerate(names) if name in INPUTS]
    answered = [name for model in models for name in model.metadata.get_output_schema().input_names()]
    if taken := [name for name in names if name in answered]:
        raise BadRows(f"column {', '.join(taken)} is named like an answer; rename it or leave it out")
    _write(scored, [",".join([_quoted(name) for name in names] + answered)])
    form = ",".join(["{}", *("{}" if name == "label" else "{:.9g}" for name in answered)])
    count = 0
    for batch in _batches(lines if has_header else chain([first], lines), len(names)):
        text = StringIO("\n".join(batch.values()))
        frame = pd.read_csv(text, header=None, usecols=wanted, na_filter=False, skipinitialspace=True, low_memory=False)
        frame.columns = [names[i] for i in wanted]
        frame.index = pd.Index(batch, name="line")
        columns = pd.concat([model.predict(frame) for model in models], axis=1)
        answers = zip(batch.values(), *(columns[name].tolist() for name in answered))
        _write(scored, [form.format(*answer) for answer in answers])
        count += len(batch)
    return count


def _columns(number: int, first: str) -> tuple[list[str], bool]:
    """Names of the columns, and whether the first line gave them: it does with a known name, or without a number."""
    fields = [field.strip() for field in _fields(number, first)]
    if INPUTS & set(fields) or not any(map(_is_number, fields)):
        return fields, True
    if len(fields) not in (len(RAW_COLUMNS), len(FILE_COLUMNS)):
        raise BadRows(
            f"line {number}: {len(fields)} columns and no header; expected {len(RAW_COLUMNS)} or {len(FILE_COLUMNS)}: "
            + ", ".join(FILE_COLUMNS)
        )
    return list(FILE_COLUMNS[: len(fields)]), False


def _batches(lines: Iterator[tuple[int, str]], width: int) -> Iterator[dict[int, str]]:
    """Lines by their number; each must have ``width`` fields."""
    while batch := dict(islice(lines, LINES_AT_ONCE)):
        for number, text in batch.items():
            fields = len(_fields(number, text)) if '"' in text else text.count(",") + 1
            if fields != width:
                raise BadRows(f"line {number}: {fields} columns, expected {width}")
        yield batch


def _fields(number: int, text: str) -> list[str]:
    """As strict as pandas, which reads the same fields from a line that passes here, but names no line."""
    try:
        return next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise BadRows(f"line {number}: {error}; a quote opens and closes a whole field on one line") from None


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
