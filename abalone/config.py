"""What is trained: one frozen object per run, read from a flat TOML file and overridden by key."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from abalone.columns import FEATURES

KINDS = {"classification": "classifier", "regression": "regressor"}  # what a task's models are called
TASKS = tuple(KINDS)
SEARCHED = ("learning_rate", "gamma", "depth", "weight_decay")  # what ``tune`` searches unless told otherwise
EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"


class UserError(Exception):
    """A mistake in what the user gave; its text is the whole message that the user needs."""


class BadValue(UserError):
    """A key of an experiment that does not exist, or a value that it cannot take."""

    def __init__(self, key: str, message: str):
        super().__init__(f"{key}: {message}")
        self.key, self.message = key, message


@dataclass(frozen=True)
class Stage:
    """One lesson of the guide.

    Parameters
    ----------
    guide : str
        Section of the guide.
    teaches : str
        The lesson in one sentence.
    taught : tuple of str
        The only keys in which the stage differs from the stage before it.
    """

    guide: str
    teaches: str
    taught: tuple[str, ...]


STAGES: dict[str, Stage] = {
    "classify": Stage("1, 1.a", "Two hidden layers tell young from old by size and whole weight.", ()),
    "deepen": Stage("1.a", "A third hidden layer: does depth help?", ("hidden_sizes",)),
    "encode": Stage("2 to 2.c", "Sex joins as a one-hot code: does it help, and when does it overfit?", ("features",)),
    "regularize": Stage("3", "Weight decay in Adam (the guide's L2) against overfitting.", ("weight_decay",)),
    "dropout": Stage("3", "Dropout after every hidden layer, instead of weight decay.", ("weight_decay", "dropout")),
    "regress": Stage(
        "5",
        "The number of rings itself, by mean squared error, with weight decay.",
        ("task", "learning_rate", "weight_decay", "dropout", "clip", "standardize_target"),
    ),
}  # fmt: skip
RINGS = Stage(
    "beyond the guide",
    "The whole distribution of rings from all ten features and their ratios, by an ensemble: both tasks in one.",
    (),
)
TUNED = Stage("beyond the guide", "The best settings that a study found, trained again like any stage.", ())


def _key(expected: str, *, minimum=-math.inf, maximum=math.inf, choices=None, above=False, below=False):
    """Field of ``Experiment`` with the values that it admits; ``above``/``below`` exclude the bound itself."""
    bounds = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    return field(metadata={"expected": expected, "choices": choices, **bounds})


class Settings:
    """What every kind of settings can do: be read, with each value checked, and be written."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build the settings from typed values or their text; complain about the first key that is wrong.

        Raises
        ------
        BadValue
            For an unknown key (with the nearest one), a missing key, or a value out of range.
        """
        known = {f.name: f for f in fields(cls)}
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1, 0.5)
                hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
                raise BadValue(key, f"no such key; {hint}")
        if missing := [key for key in known if key not in values]:
            raise BadValue(missing[0], "missing")
        return cls(**{key: _parse(known[key], values[key]) for key in known})

    def as_text(self) -> dict[str, str]:
        """The settings as the text that ``-P name=value`` takes."""
        return {f.name: as_text(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True)
class Experiment(Settings):
    """Every setting of one training run; the field names are the keys of ``experiments/*.toml``."""

    task: str = _key("classification (Young or Old) or regression (rings)", choices=("classification", "regression"))
    features: tuple[str, ...] = _key("input columns, a comma between", choices=FEATURES)
    hidden_sizes: tuple[int, ...] = _key("width of each hidden layer, from 1 to 4096", minimum=1, maximum=4096)
    dropout: float = _key("probability of dropping a hidden unit, from 0 to below 1", minimum=0, maximum=1, below=True)
    clip: float = _key("limit of a standardised input |z|, from 0 (none) to 1000000", minimum=0, maximum=1_000_000)
    standardize_target: bool = _key("train a regressor on standardised rings: true or false")
    learning_rate: float = _key("Adam's first learning rate, above 0 and at most 1", minimum=0, maximum=1, above=True)
    gamma: float = _key("ExponentialLR's factor per epoch, above 0 and at most 1", minimum=0, maximum=1, above=True)
    weight_decay: float = _key("L2 penalty in Adam, from 0 to 1", minimum=0, maximum=1)
    batch_size: int = _key("rows per step, from 1 to 1000000", minimum=1, maximum=1_000_000)
    epochs: int = _key("passes over the training rows, from 1 to 10000", minimum=1, maximum=10_000)
    checkpoint: str = _key("epoch to keep: best (validation loss) or last", choices=("best", "last"))
    seed: int = _key("seed of split, weights and batch order, from 0 to 4294967295", minimum=0, maximum=2**32 - 1)
    device: str = _key("auto, cpu or cuda", choices=("auto", "cpu", "cuda"))
    data: str = _key("uci (the shipped file) or a path to a file of the same form")


@dataclass(frozen=True)
class RingsExperiment(Settings):
    """Every setting of a run of ``rings``."""

    members: int = _key("networks in the ensemble, from 1 to 1024", minimum=1, maximum=1024)
    hidden_sizes: tuple[int, ...] = _key("width of each hidden layer, from 1 to 4096", minimum=1, maximum=4096)
    learning_rate: float = _key("AdamW's learning rate, above 0 and at most 1", minimum=0, maximum=1, above=True)
    weight_decay: float = _key("AdamW's decay of weights, not of biases, from 0 to 1", minimum=0, maximum=1)
    batch_size: int = _key("rows per step, from 1 to 1000000", minimum=1, maximum=1_000_000)
    epochs: int = _key("passes over the training rows, from 1 to 10000", minimum=1, maximum=10_000)
    average: float = _key(
        "decay per step of the moving average of weights, 0 to below 1", minimum=0, maximum=1, below=True
    )
    refit: bool = _key("log a model that is trained on the validation rows too: true or false")
    seed: int = _key("seed of split, weights and batch order, from 0 to 4294967295", minimum=0, maximum=2**32 - 1)
    device: str = _key("auto, cpu or cuda", choices=("auto", "cpu", "cuda"))
    data: str = _key("uci (the shipped file) or a path to a file of the same form")


def read_toml(stage: str) -> dict[str, Any]:
    """The raw settings of ``experiments/<stage>.toml``."""
    return tomllib.loads(toml_path(stage).read_text(encoding="utf-8"))


def toml_path(stage: str) -> Path:
    """Where the settings of a stage are kept."""
    return EXPERIMENTS / f"{stage}.toml"


def kind(stage: str | None) -> type[Experiment] | type[RingsExperiment]:
    """The kind of settings that a stage has."""
    return RingsExperiment if stage == "rings" else Experiment


def load(stage: str, overrides: Mapping[str, Any] | None = None) -> Experiment | RingsExperiment:
    """Read the settings of ``stage`` and lay ``overrides`` (typed or text) over them."""
    return kind(stage).from_mapping({**read_toml(stage), **(overrides or {})})


def as_text(value: Any) -> str:
    """A setting as one shell word, so that MLflow does not store it with quotes."""
    if isinstance(value, list | tuple):
        return ",".join(as_text(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return value.replace(" ", "_") if value in FEATURES else str(value)


def _parse(spec, value: Any) -> Any:
    """One value, typed or text, checked against its field."""
    kind = spec.type
    try:
        if kind.startswith("tuple"):
            items = value.strip("[]() ").split(",") if isinstance(value, str) else value
            item = "int" if "int" in kind else "column"
            parsed = tuple(_convert(item, part) for part in items)
            checks = parsed
            if not parsed or (spec.metadata["choices"] and len(set(parsed)) < len(parsed)):
                raise ValueError
        else:
            parsed = _convert(kind, value)
            checks = (parsed,)
        if not all(_admits(spec.metadata, part) for part in checks):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise BadValue(spec.name, f"{as_text(value)!r} is not valid; expected {_expected(spec)}") from None
    return parsed


def _expected(spec) -> str:
    is_columns = spec.metadata["choices"] == FEATURES
    return spec.metadata["expected"] + (f", out of {as_text(FEATURES)}" if is_columns else "")


def _convert(kind: str, value: Any) -> Any:
    if kind == "bool":
        return (
            {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
            if not isinstance(value, bool)
            else value
        )
    if kind == "int":
        number = float(value)
        if isinstance(value, bool) or number != int(number):
            raise ValueError
        return int(number)
    if kind == "float":
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value.strip().replace("_", " ") if kind == "column" else value


def _admits(limits: Mapping[str, Any], value: Any) -> bool:
    if value is None:
        return False
    if limits["choices"]:
        return value in limits["choices"]
    if isinstance(value, str | bool):
        return True
    low, high = limits["minimum"], limits["maximum"]
    above = value > low if limits["above"] else value >= low
    below = value < high if limits["below"] else value <= high
    return math.isfinite(value) and above and below
