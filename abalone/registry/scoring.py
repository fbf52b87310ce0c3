"""Score a table of raw rows with both champions, a batch of lines at a time.

Each batch is checked with the project's own definition of a valid row first, so that a bad field is reported by its
line and column. MLflow's check of the signature, which comes before the champion's own, would name neither. The
champions then get the checked rows, and the answers come from their own code alone.
"""

from __future__ import annotations

import gc
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, BinaryIO, TextIO

import pandas as pd
import torch

from abalone.data.layout import Layout, Lines, split_fields
from abalone.data.problems import Problem, Problems, check_batch
from abalone.data.tables import Batch, batches, open_table
from abalone.model.columns import OUTSIDE, PARAMS, TEXT_COLUMNS
from abalone.model.rows import BadRows
from abalone.registry.answers import Summary, answer, answer_names, check_params
from abalone.registry.loading import LoadedModel, load_champion
from abalone.registry.table_files import digest, keep_copy, open_input, open_output, shown_source, skipped_file
from abalone.settings import REGISTERED_MODELS, UserError

LINES_AT_ONCE = 1_000  # with 3,000, two champions of `rings` need 10 MB more
SKIPPED_HEADER = ("line", "problem", "row")


@dataclass(frozen=True)
class Request:
    """What is asked of ``predict``.

    Parameters
    ----------
    units : str, default "file"
        ``file`` for mm/200 and g/200, ``mm_g`` for millimetres and grams.
    params : mapping
        As ``columns.PARAMS``.
    skip_bad : bool, default False
        Whether to leave bad rows out, and list them in a second file, instead of refusing the table.
    """

    units: str = "file"
    params: Mapping[str, float | bool] = field(default_factory=lambda: dict(PARAMS))
    skip_bad: bool = False


@dataclass(frozen=True)
class Scored:
    """What was scored.

    Parameters
    ----------
    summary : Summary
        What the answers say in all.
    understood : str
        How the table was read, in one line.
    models : mapping of task to str
        Addresses of the champions, with their versions.
    unchecked : sequence of str
        The addresses of those whose files were not recorded.
    skipped : int
        Number of rows that were left out.
    input_sha256, output_sha256 : str
        Of the bytes that were read and written.
    """

    summary: Summary
    understood: str
    models: Mapping[str, str]
    unchecked: Sequence[str] = ()
    skipped: int = 0
    input_sha256: str = ""
    output_sha256: str = ""

    @property
    def rows(self) -> int:
        """Number of rows that were scored."""
        return self.summary.rows


def score_table(
    source: str,
    target: str,
    request: Request = Request(),
    *,
    stdout: TextIO | None = None,
    copies: Path | None = None,
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
    request : Request
        Units, parameters, and what to do with bad rows.
    stdout : text file, optional
        What ``-`` stands for; by default ``sys.stdout``.
    copies : Path, optional
        Folder to copy what is written into, unless it is large (see ``table_files.keep_copy``).
    lines_at_once : int
        Lines to hold in memory.

    Raises
    ------
    UserError
        If a file cannot be read or written, a champion is missing or unusable, a column is missing or has the name of
        an answer, or a row is bad; nothing is written.
    """
    torch.set_num_threads(1)  # with more threads, matrices this small are slower
    with ExitStack() as files:
        rows = files.enter_context(open_input(source, sys.stdin.buffer))
        written = {"scored.csv": files.enter_context(open_output(target, stdout or sys.stdout))}
        if request.skip_bad:
            written["skipped.csv"] = files.enter_context(open_output(skipped_file(target), stdout or sys.stdout))
        models = {task: load_champion(task) for task in REGISTERED_MODELS}
        check_params(models, request.params)
        input_sha256 = hashlib.file_digest(rows, "sha256").hexdigest()  # type: ignore[arg-type]  # BinaryIO lacks readinto
        rows.seek(0)
        try:
            scored = _score(models, rows, written, request, lines_at_once)
        except BadRows as error:
            raise UserError(f"{shown_source(source)}: {error.message}") from error
        for name, file in written.items():
            file.flush()
            keep_copy(file, copies, name)
        return replace(scored, input_sha256=input_sha256, output_sha256=digest(written["scored.csv"]))


def _score(
    models: Mapping[str, LoadedModel], rows: BinaryIO, written: Mapping[str, IO[str]], request: Request, size: int
) -> Scored:
    """Write a header and the scored rows, and the list of those that were skipped."""
    summary = Summary()
    with open_table(rows) as (layout, lines), _quick_collections():
        names = _output_names(layout, answer_names(models))
        checked_batches = _checked_batches(layout, lines, request, size)
        if request.skip_bad:
            _write_lines(written["skipped.csv"], [",".join(SKIPPED_HEADER)])
        skipped = 0
        for batch, checked, problems in checked_batches:
            if problems:
                skipped += _write_skipped(written["skipped.csv"], batch, problems)
            if not len(checked):
                continue
            answers = answer(models, checked, request.params)
            if not summary.rows:
                _write_lines(written["scored.csv"], [",".join(_quote(name) for name in [*names, *answers.columns])])
            summary.add(answers)
            good = {number: batch.lines[number] for number in checked.index}
            _write_lines(written["scored.csv"], _scored_lines(_csv_lines(good, layout), answers))
        if not summary.rows:
            raise BadRows(f"no valid row among {skipped}")
    uris = {task: model.uri for task, model in models.items()}
    unchecked = [model.uri for model in models.values() if not model.is_checked]
    understood = f"{summary.rows} rows; {layout.understood()}"
    return Scored(summary, understood, uris, unchecked, skipped)


@contextmanager
def _quick_collections() -> Iterator[None]:
    """Let Python's collector look at what is made within the block only.

    It would wait until a quarter of all that the libraries have made is garbage: many batches.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _checked_batches(
    layout: Layout, lines: Lines, request: Request, size: int
) -> Iterator[tuple[Batch, pd.DataFrame, list[Problem]]]:
    """Yield batches with their good rows, and with the problems of the bad ones if these are to be skipped.

    Otherwise the batches end with the first problem; the others are then counted, and reported at the end.
    """
    problems = Problems()
    for place, batch in enumerate(batches(layout, lines, size)):
        checked, found = check_batch(batch, layout, request.units, is_first=place == 0)
        if not request.skip_bad:
            problems.add(found)
            if not problems.count:
                yield batch, checked, []
            continue
        bad = {number for number, _ in found}
        yield batch, checked[~checked.index.isin(bad)], found
    if problems.count:
        raise BadRows(problems.message())


def _write_skipped(file: IO[str], batch: Batch, problems: Sequence[Problem]) -> int:
    """List the bad rows of a batch, each with all its problems; return their number."""
    texts: dict[int, list[str]] = {}
    for number, text in sorted(problems, key=lambda problem: problem[0]):
        texts.setdefault(number, []).append(text)
    lines = []
    for number, found in texts.items():
        lines.append(f"{number},{_quote('; '.join(found))},{_quote(batch.all_lines[number])}")
    _write_lines(file, lines)
    return len(texts)


def _output_names(layout: Layout, answers: set[str]) -> list[str]:
    """The names of the columns of the table; a column ``rings`` that is read as ``Rings`` makes room for the answer."""
    names = list(layout.names)
    for column, position in layout.columns.items():
        if names[position] in answers:
            names[position] = column
    taken = [name for name in names if name in answers]
    if taken:
        raise BadRows(f"column {', '.join(taken)} has the name of an output; rename or remove it")
    return names


def _csv_lines(lines: Mapping[int, str], layout: Layout) -> list[str]:
    """Lines of the table, separated by commas."""
    if layout.separator == ",":
        return list(lines.values())
    converted = []
    for line in lines.values():
        fields = [field.strip() for field in split_fields(line, layout.separator)]
        if layout.decimal == ",":
            for position in layout.columns.values():
                fields[position] = fields[position].replace(",", ".")
        converted.append(",".join([_quote(field) for field in fields]))
    return converted


def _scored_lines(lines: Sequence[str], answers: pd.DataFrame) -> list[str]:
    """Lines with the answers appended."""
    form = ",".join(["{}"] + [_number_format(name) for name in answers.columns])
    columns = [answers[name].tolist() for name in answers.columns if name != OUTSIDE]
    if OUTSIDE in answers:  # its names are separated by commas, as the fields are
        place = answers.columns.get_loc(OUTSIDE)
        columns.insert(place, [_quote(names) for names in answers[OUTSIDE]])
    return [form.format(*cells) for cells in zip(lines, *columns)]


def _number_format(column: str) -> str:
    return "{}" if column in TEXT_COLUMNS or column.endswith("_version") else "{:.9g}"


def _quote(field: str) -> str:
    if set(field) & set(',"\n'):
        escaped = field.replace('"', '""')
        return f'"{escaped}"'
    return field


def _write_lines(file: IO[str], lines: Sequence[str]) -> None:
    if lines:
        file.write("\n".join(lines) + "\n")
