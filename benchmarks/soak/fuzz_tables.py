"""Give damaged tables to the reader and to ``predict``: ``python -m benchmarks.soak.fuzz_tables --rounds 10000``.

Every table must end in rows or in a ``UserError``, and nothing may be written but the scores. A round follows from the
seed and its number, so that a failure can be repeated with ``--first N --rounds 1``.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import random
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import mlflow.pyfunc
import pandas as pd
from mlflow.models import Model

from abalone.data.reading import read
from abalone.model.networks import build
from abalone.registry import scoring
from abalone.registry.loading import LoadedModel
from abalone.registry.scoring import Request, score_table
from abalone.settings import REGISTERED_MODELS, TARGETS, UNITS, UserError, load_settings
from abalone.tracking.flavor import save_model

ROWS = read().frame.sample(30, random_state=0)
STAGES = {"classification": "encode", "regression": "regress"}
INPUT = "table.csv"
OUTPUTS = {"scored.csv", "scored.skipped.csv"}
VALUES = (
    *("", " ", "0", "-1", "-0", "1e400", "1e-400", "nan", "inf", "NA", "?", "0x1F", "1_000", "1,5", "1;5", "٣", "½"),
    *('"', '""', '"a', "'", "`", "$(touch pwned)", "=1+1", "../../x", "<b>", "\\", "\x00", "\x1a", "\x85", "\u2028"),
    *("\r", "\n", "\r\n", "\t", "\ufeff", "\x1c", "sep=;", "%", "@data", "True", "M", "Sex", "Rings", "Age", "1.5"),
    *("9" * 5000, "x" * 140_000, "," * 300),
)
MEMBERS = ("table.csv", "../../outside.csv", "/outside.csv", "a/b/c.csv", "..\\outside.csv", "C:\\outside.csv")


class Surprise(AssertionError):
    """A table that ended neither in rows nor in a ``UserError``, or something was written that should not be."""


def untrained_champions(folder: Path) -> dict[str, LoadedModel]:
    """Save a small model of each task below a folder, and load it as a champion."""
    champions = {}
    for task, stage in STAGES.items():
        config = load_settings(stage, {"hidden_sizes": "4"}).model_config()
        path = str(folder / task)
        save_model(path, Model(), build(config).eval(), config, ROWS)
        model = mlflow.pyfunc.load_model(path)
        columns = tuple(model.metadata.get_output_schema().input_names())
        uri = f"models:/{REGISTERED_MODELS[task]}/1"
        champions[task] = LoadedModel(uri=uri, columns=columns, pyfunc=model)
    return champions


def damaged_table(draw: random.Random) -> bytes:
    """A table in one of the known forms, with some damage."""
    text = _form(draw)
    for _ in range(draw.choice((0, 0, 0, 1, 1, 2, 3))):
        text = draw.choice(TEXT_DAMAGES)(text, draw)
    content = text.encode(draw.choice(("utf-8", "utf-8", "utf-8", "utf-16", "utf-16-le")), "surrogatepass")
    content = draw.choice(PACKINGS)(content, draw)
    for _ in range(draw.choice((0, 0, 0, 0, 1, 2))):
        content = draw.choice(BYTE_DAMAGES)(content, draw)
    return content


def _form(draw: random.Random) -> str:
    frame = ROWS.sample(draw.randint(1, len(ROWS)), random_state=draw.randint(0, 2**31))
    if draw.random() < 0.2:
        frame = frame.sample(frac=1, axis=1, random_state=draw.randint(0, 2**31))
    if draw.random() < 0.2:
        frame = frame.assign(Rings=frame["Rings"] + draw.choice((0, 0.5, 1.5))).rename(columns={"Rings": "Age"})
    if draw.random() < 0.1:
        return frame.to_string(index=draw.random() < 0.5)
    separator = draw.choice(",,,;\t ")
    decimal = "," if separator != "," and draw.random() < 0.3 else "."
    has_names = draw.random() < 0.7
    text = frame.to_csv(
        sep=separator,
        decimal=decimal,
        header=has_names,
        index=draw.random() < 0.1,
        quoting=draw.choice((0, 0, 1, 2)),
        lineterminator=draw.choice(("\n", "\n", "\r\n", "\r")),
    )
    return _arff(frame, text) if draw.random() < 0.05 else text


def _arff(frame: pd.DataFrame, rows: str) -> str:
    names = "".join([f"@attribute '{name}' real\n" for name in frame])
    return f"@relation abalone\n{names}@data\n{rows}"


def _cut(text, draw):
    """Leave out a part of a text or of bytes."""
    start = draw.randint(0, len(text))
    return text[:start] + text[start + draw.randint(1, 40) :]


def _repeat(text, draw):
    """Repeat a part of a text or of bytes."""
    start = draw.randint(0, len(text))
    end = start + draw.randint(1, 200)
    return text[:end] + text[start:]


def _end_early(text, draw):
    return text[: draw.randint(0, len(text))]


def _insert_value(text: str, draw: random.Random) -> str:
    place = draw.randint(0, len(text))
    return text[:place] + draw.choice(VALUES) + text[place:]


def _replace_field(text: str, draw: random.Random) -> str:
    """Replace a field of a random line by an odd value."""
    lines = text.split("\n")
    line = draw.randrange(len(lines))
    separator = draw.choice(",;\t ")
    fields = lines[line].split(separator)
    fields[draw.randrange(len(fields))] = draw.choice(VALUES)
    lines[line] = separator.join(fields)
    return "\n".join(lines)


def _replace_character(text: str, draw: random.Random) -> str:
    """Replace one character everywhere."""
    return text.replace(draw.choice(',;\t ."\n0MF'), draw.choice(",;\t .\"'\n0MF|"))


def _shuffle_lines(text: str, draw: random.Random) -> str:
    lines = text.split("\n")
    draw.shuffle(lines)
    return "\n".join(lines)


def _random_bytes(content: bytes, draw: random.Random) -> bytes:
    place = draw.randint(0, len(content))
    return content[:place] + draw.randbytes(draw.randint(1, 20)) + content[place:]


def _flip_bit(content: bytes, draw: random.Random) -> bytes:
    if not content:
        return content
    changed = bytearray(content)
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _as_it_is(content: bytes, draw: random.Random) -> bytes:
    return content


def _gzipped(content: bytes, draw: random.Random) -> bytes:
    return gzip.compress(content, mtime=0)


def _zipped(content: bytes, draw: random.Random) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as file:
        for name in draw.sample(MEMBERS, draw.choice((1, 1, 1, 2))):
            file.writestr(zipfile.ZipInfo(name), content)
    return archive.getvalue()


TEXT_DAMAGES: tuple[Callable, ...] = (
    _cut,
    _repeat,
    _end_early,
    _insert_value,
    _replace_field,
    _replace_character,
    _shuffle_lines,
)
BYTE_DAMAGES: tuple[Callable, ...] = (_cut, _repeat, _end_early, _random_bytes, _flip_bit)
PACKINGS: tuple[Callable, ...] = (_as_it_is, _as_it_is, _as_it_is, _as_it_is, _gzipped, _zipped)


def try_table(content: bytes, draw: random.Random, root: Path) -> list[str]:
    """Read and score a table in an empty folder far below ``root``, and remove what was written.

    Returns
    -------
    list of str
        What became of it as data and as input of ``predict``.

    Raises
    ------
    Surprise
        If that is an error of another kind, or something was written elsewhere or although the table was refused.
    """
    folder = root / "a" / "b" / "c"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / INPUT
    path.write_bytes(content)
    units = draw.choice(("file", "file", "file", *UNITS))
    target = draw.choice(("auto", "auto", *TARGETS))
    request = Request(units=units, skip_bad=draw.random() < 0.5)
    outcomes = [
        _outcome("data", lambda: read(str(path), units, target)),
        _outcome("input", lambda: score_table(str(path), str(folder / "scored.csv"), request)),
    ]
    written = {file.name for file in root.rglob("*") if file.is_file()} - {INPUT}
    for file in folder.iterdir():
        file.unlink()
    allowed = OUTPUTS if outcomes[1] == "input: rows" else set()
    if not written <= allowed or any(file.is_file() for file in root.rglob("*")):
        raise Surprise(f"written: {sorted(written)}")
    return outcomes


def _outcome(what: str, attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except UserError as error:
        if not str(error).strip():
            raise Surprise(f"{what}: refused without a reason") from error
        return f"{what}: refused"
    except Exception as error:
        raise Surprise(f"{what}: {type(error).__name__}: {error}") from error
    return f"{what}: rows"


def fuzz(
    seed: int, rounds: int, champions: Mapping[str, LoadedModel], root: Path, first: int = 0
) -> tuple[Counter, dict[int, Surprise], float]:
    """Try tables; count the outcomes, and collect the surprises by round.

    Parameters
    ----------
    seed, rounds, first : int
        Seed of all tables, number of tables, and number of the first.
    champions : mapping of task to LoadedModel
        Models to score with.
    root : Path
        Empty folder.

    Returns
    -------
    outcomes : Counter
    surprises : dict of int to Surprise
    slowest : float
        Seconds of the slowest table.
    """
    outcomes: Counter = Counter()
    surprises = {}
    slowest = 0.0
    with patch.object(scoring, "load_champion", champions.__getitem__):
        for number in range(first, first + rounds):
            draw = random.Random(f"{seed} {number}")
            content = damaged_table(draw)
            begin = time.perf_counter()
            try:
                outcomes.update(try_table(content, draw, root))
            except Surprise as surprise:
                surprises[number] = surprise
            slowest = max(slowest, time.perf_counter() - begin)
    return outcomes, surprises, slowest


def main() -> None:
    """Print the seed, the outcomes and every surprise; the exit status is 1 if there was one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    print(f"seed {options.seed}, rounds {options.first} to {options.first + options.rounds - 1}")
    with TemporaryDirectory() as folder:
        root = Path(folder, "root")
        root.mkdir()
        os.chdir(root)
        champions = untrained_champions(Path(folder))
        outcomes, surprises, slowest = fuzz(options.seed, options.rounds, champions, root, options.first)
        os.chdir("/")
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:6d} {outcome}")
    print(f"slowest table: {slowest:.2f} s")
    for number, surprise in surprises.items():
        print(f"round {number}: {surprise}")
    raise SystemExit(1 if surprises else 0)


if __name__ == "__main__":
    main()
