"""Find out the layout of a table of text: its separator, its names or their absence, decimal commas, ARFF.

Lines stay as they are in the file, so that a problem can be reported by line and scores can be written beside the line
that they belong to; a quoted field must therefore end on its own line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice

from abalone.model.columns import RAW_COLUMNS
from abalone.model.rows import BadRows, find_columns, require_columns

FILE_COLUMNS = (*RAW_COLUMNS, "Rings")
TARGETS = ("Rings", "Age")
SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas", " ": "spaces"}  # in the order in which they are tried
BLANK = ' \t,;"\ufeff'  # spreadsheets write a row without content as separators
EXCEL_LINE = re.compile("sep=.?", re.IGNORECASE)  # names the separator, for Excel
SAMPLED_LINES = 100  # from which the form is found out
ARFF_NAME = re.compile(r"""@attribute\s+('[^']*'|"[^"]*"|\S+)""", re.IGNORECASE)

Lines = Iterator[tuple[int, str]]  # with their numbers in the file, from 1


@dataclass(frozen=True)
class Layout:
    """The form of a table.

    Parameters
    ----------
    names : tuple of str
        Names of all columns, in the order of the file; those of ``FILE_COLUMNS`` if the file has none.
    columns : dict of str to int
        Position of each column that is read, by its name in ``FILE_COLUMNS`` or ``Age``.
    separator : str
        A key of ``SEPARATORS``.
    has_names : bool
        Whether the names are those of the file.
    decimal : str
        ``.`` or ``,``.
    kind : str
        What else is special about the form, such as "ARFF"; "" for nothing.
    """

    names: tuple[str, ...]
    columns: dict[str, int]
    separator: str
    has_names: bool
    decimal: str = "."
    kind: str = ""

    def understood(self, target: str = "") -> str:
        """Say in one line how the table is read, with the column ``target`` beside the eight raw ones."""
        used = {self.columns[name]: name for name in (*RAW_COLUMNS, target) if name in self.columns}
        renamed = [f"{self.names[at]!r} as {name}" for at, name in used.items() if self.names[at] != name]
        ignored = [repr(name) for at, name in enumerate(self.names) if at not in used]
        parts = [
            self.kind,
            f"separated by {SEPARATORS[self.separator]}",
            "decimal commas" if self.decimal == "," else "",
            "columns by name" if self.has_names else f"no header, so the columns are {', '.join(self.names)}",
            f"read {', '.join(renamed)}" if renamed else "",
            f"ignored {', '.join(ignored)}" if ignored else "",
        ]
        return "; ".join(part for part in parts if part)


def read_layout(text: Iterable[str]) -> tuple[Layout, Lines]:
    """Find out the form of a table.

    Parameters
    ----------
    text : iterable of str
        The lines of the table.

    Returns
    -------
    layout : Layout
    lines : iterator of (int, str)
        The lines of data, without blank ones.

    Raises
    ------
    BadRows
        If there is no row, a column is missing or appears twice, or there are neither names nor eight or nine columns.
    """
    lines = _numbered(text)
    first = next(lines, None)
    if first and EXCEL_LINE.fullmatch(first[1]):
        first = next(lines, None)
    if first is None:
        raise BadRows(f"no rows; expected the columns {', '.join(FILE_COLUMNS)}")
    if first[1].lstrip().lower().startswith(("%", "@relation")):
        layout, lines = _read_arff(chain([first], lines))
    else:
        layout, lines = _read_delimited(first, lines)
    sample = list(islice(lines, SAMPLED_LINES))
    if not sample:
        raise BadRows("no rows below the header; expected at least one")
    layout = _with_row_names(layout, sample[0])
    layout = replace(layout, columns=_find(layout.names))
    layout = replace(layout, decimal=_decimal(layout, sample))
    return layout, chain(sample, lines)


def _numbered(text: Iterable[str]) -> Lines:
    for number, line in enumerate(text, 1):
        line = line.rstrip("\r\n")
        if line.strip(BLANK):
            yield number, line


def _read_arff(lines: Lines) -> tuple[Layout, Lines]:
    names = []
    for _, line in lines:
        declared = ARFF_NAME.match(line.strip())
        if declared:
            names.append(declared[1].strip("'\""))
        if line.strip().lower() == "@data":
            break
    require_columns(names)
    rows = ((number, line) for number, line in lines if not line.lstrip().startswith("%"))
    return Layout(tuple(names), {}, ",", has_names=True, kind="ARFF"), rows


def _read_delimited(first: tuple[int, str], lines: Lines) -> tuple[Layout, Lines]:
    """The layout by the first line, which is a header if it has a known name or no number."""
    number, line = first
    separator = _separator(number, line)
    fields = _split_line(number, line, separator)
    has_known_name = any(find_columns([field], (*RAW_COLUMNS, *TARGETS)) for field in fields)
    if has_known_name or not any(_is_number(field) for field in fields):
        if separator == " ":
            fields = _join_words(fields)
        require_columns(fields)
        return Layout(tuple(fields), {}, separator, has_names=True), lines
    if len(fields) not in (len(RAW_COLUMNS), len(FILE_COLUMNS)):
        raise BadRows(
            f"line {number}: {len(fields)} columns and no header; expected {len(RAW_COLUMNS)} or {len(FILE_COLUMNS)}: "
            + ", ".join(FILE_COLUMNS)
        )
    names = FILE_COLUMNS[: len(fields)]
    return Layout(names, {}, separator, has_names=False), chain([first], lines)


def _separator(number: int, line: str) -> str:
    """The first separator that gives enough columns, or else the one that gives most."""
    counts = {}
    for separator in SEPARATORS:
        if separator in line:
            with suppress(BadRows):  # quotes that enclose a name with this separator
                counts[separator] = len(_split_line(number, line, separator))
    for separator, count in counts.items():
        if count >= len(RAW_COLUMNS):
            return separator
    return max(counts, key=counts.__getitem__, default=",")


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _join_words(words: Sequence[str]) -> list[str]:
    """The names of a header separated by blanks, in which ``Whole weight`` is two words without quotes."""
    names: list[str] = []
    for word in words:
        if names and find_columns([f"{names[-1]} {word}"]) and not find_columns([names[-1]]):
            names[-1] = f"{names[-1]} {word}"
        else:
            names.append(word)
    return names


def _with_row_names(layout: Layout, first: tuple[int, str]) -> Layout:
    """Name a column that the header leaves out: R's row names come first, and a separator at the end of lines last."""
    fields = _split_line(*first, layout.separator)
    if not layout.has_names or len(fields) != len(layout.names) + 1:
        return layout
    if fields[-1].strip() == "":
        return replace(layout, names=(*layout.names, ""))
    return replace(layout, names=("", *layout.names))


def _find(names: Sequence[str]) -> dict[str, int]:
    found = require_columns(names)
    for target in TARGETS:
        try:
            found |= find_columns(names, (target,))
        except BadRows:  # two of them are in the way of training only
            continue
    return found


def _decimal(layout: Layout, sample: Sequence[tuple[int, str]]) -> str:
    """A comma if the measurements of the sample have commas and no points."""
    if layout.separator == ",":
        return "."
    measured = []
    for _, line in sample:
        with suppress(BadRows):  # reported with its number when the line is read
            fields = split_fields(line, layout.separator)
            measured += [fields[at] for name, at in layout.columns.items() if name != "Sex" and at < len(fields)]
    has_commas = any("," in field for field in measured)
    has_points = any("." in field for field in measured)
    return "," if has_commas and not has_points else "."


def _split_line(number: int, line: str, separator: str) -> list[str]:
    """The fields of a line without padding; a bad quote is reported with the number of the line."""
    try:
        return [field.strip() for field in split_fields(line, separator)]
    except BadRows as error:
        raise BadRows(f"line {number}: {error.message}") from None


def split_fields(line: str, separator: str) -> list[str]:
    """Split a line into fields, as strictly as pandas does, whose errors name no line.

    Raises
    ------
    BadRows
        If a quoted field does not end on the line.
    """
    if '"' not in line:
        return line.split() if separator == " " else line.split(separator)
    if separator == " ":
        line = line.strip().replace("\t", " ")
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise BadRows(f"{error}; quotes must enclose a whole field on one line") from None
