"""Everything that may be set: stages and what each teaches, keys with their bounds, tasks, and the metrics' table.

Settings are frozen objects, read from a flat TOML file of ``experiments/`` and overridden key by key.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from abalone.model.columns import FEATURES, MLP, RING_ENSEMBLE

EXPERIMENTS_FOLDER = Path(__file__).resolve().parent.parent / "experiments"
MODEL_KINDS = {"classification": "classifier", "regression": "regressor"}  # what a task's models are called
TASKS = tuple(MODEL_KINDS)
REGISTERED_MODELS = {task: f"abalone-{kind}" for task, kind in MODEL_KINDS.items()}
PREDICTION_COLUMNS = {"classification": "probability_old", "regression": "predicted_rings"}  # in predictions/*.json
ANSWER_COLUMNS = {"classification": "probability_old", "regression": "rings"}  # in the answer of a logged model
SEARCHED_BY_DEFAULT = ("learning_rate", "gamma", "depth", "weight_decay")


@dataclass(frozen=True)
class Metric:
    """How a metric is shown, its unit ("" for none), and which direction is better."""

    label: str
    unit: str
    greater_is_better: bool


METRICS = {
    "accuracy": Metric("accuracy", "", True),
    "balanced_accuracy": Metric("balanced accuracy", "", True),
    "roc_auc": Metric("AUC", "", True),
    "log_loss": Metric("log loss", "nats", False),
    "brier": Metric("Brier score", "", False),
    "rmse": Metric("RMSE", "rings", False),
    "mae": Metric("MAE", "rings", False),
    "r2": Metric("R²", "", True),
}
SELECTION = {"classification": "log_loss", "regression": "rmse"}  # metric on validation that selects, by task


class UserError(Exception):
    """A mistake in what the user gave; its text is the whole message that the user needs."""


class BadValue(UserError):
    """A key that does not exist, or a value that it cannot take."""

    def __init__(self, key: str, message: str):
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message


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


def _key(
    expected: str,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    choices: tuple[str, ...] | None = None,
    above: bool = False,
    below: bool = False,
) -> Any:
    """Field of a settings class with the values that it admits; ``above`` and ``below`` exclude the bound itself."""
    bounds = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    return field(metadata={"expected": expected, "choices": choices, **bounds})


class Settings:
    """Base of the settings classes: reading with every value checked, and writing."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build the settings from typed values or their text; complain about the first key that is wrong.

        Raises
        ------
        BadValue
            For an unknown key (with the nearest one), a missing key, or a value out of range.
        """
        known = {spec.name: spec for spec in fields(cls)}
        for key in values:
            if key not in known:
                raise BadValue(key, f"no such key; {_hint(key, known)}")
        for key in known:
            if key not in values:
                raise BadValue(key, "missing")
        return cls(**{key: _parse(spec, values[key]) for key, spec in known.items()})

    def as_text(self) -> dict[str, str]:
        """The settings as the text that ``-P name=value`` takes."""
        return {spec.name: as_text(getattr(self, spec.name)) for spec in fields(self)}


def _hint(key: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]}?"
    return f"known keys: {', '.join(known)}"


@dataclass(frozen=True)
class StageSettings(Settings):
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

    def model_config(self) -> dict[str, Any]:
        """What ``networks.build`` needs to make the network."""
        return {
            "architecture": MLP,
            "task": self.task,
            "features": list(self.features),
            "hidden_sizes": list(self.hidden_sizes),
            "dropout": self.dropout,
            "clip": self.clip,
        }


@dataclass(frozen=True)
class RingsSettings(Settings):
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

    def model_config(self, task: str) -> dict[str, Any]:
        """What ``networks.build`` needs to make the ensemble with the answer of one task."""
        return {
            "architecture": RING_ENSEMBLE,
            "task": task,
            "members": self.members,
            "hidden_sizes": list(self.hidden_sizes),
        }


def toml_path(stage: str) -> Path:
    """Where the settings of a stage are kept."""
    return EXPERIMENTS_FOLDER / f"{stage}.toml"


def read_toml(stage: str) -> dict[str, Any]:
    """The raw settings of ``experiments/<stage>.toml``."""
    return tomllib.loads(toml_path(stage).read_text(encoding="utf-8"))


def settings_type(stage: str | None) -> type[StageSettings] | type[RingsSettings]:
    """The class of a stage's settings."""
    if stage == "rings":
        return RingsSettings
    return StageSettings


def load_settings(stage: str, overrides: Mapping[str, Any] | None = None) -> StageSettings | RingsSettings:
    """Read the settings of ``stage`` and override some of them by typed values or their text."""
    return settings_type(stage).from_mapping({**read_toml(stage), **(overrides or {})})


def as_text(value: Any) -> str:
    """A setting as one shell word, so that MLflow does not store it with quotes."""
    if isinstance(value, list | tuple):
        return ",".join(as_text(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    if value in FEATURES:
        return value.replace(" ", "_")
    return str(value)


def _parse(spec: Field, value: Any) -> Any:
    """One value, typed or text, checked against its field."""
    try:
        if spec.type.startswith("tuple"):
            return _parse_items(spec, value)
        parsed = _convert(spec.type, value)
        _check(spec.metadata, parsed)
        return parsed
    except (TypeError, ValueError, OverflowError):
        raise BadValue(spec.name, f"{as_text(value)!r} is not valid; expected {_expected(spec)}") from None


def _parse_items(spec: Field, value: Any) -> tuple:
    """The items of a list, or of text with commas; column names must not repeat."""
    items = value.strip("[]() ").split(",") if isinstance(value, str) else value
    kind = "int" if "int" in spec.type else "column"
    parsed = tuple(_convert(kind, item) for item in items)
    if not parsed:
        raise ValueError
    if kind == "column" and len(set(parsed)) < len(parsed):
        raise ValueError
    for item in parsed:
        _check(spec.metadata, item)
    return parsed


def _expected(spec: Field) -> str:
    if spec.metadata["choices"] == FEATURES:
        return f"{spec.metadata['expected']}, out of {as_text(FEATURES)}"
    return spec.metadata["expected"]


def _convert(kind: str, value: Any) -> Any:
    if kind == "bool":
        return _convert_bool(value)
    if kind in ("int", "float"):
        return _convert_number(kind, value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    if kind == "column":
        return value.strip().replace("_", " ")
    return value


def _convert_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "1": True, "false": False, "0": False}
    text = str(value).lower()
    if text not in known:
        raise ValueError
    return known[text]


def _convert_number(kind: str, value: Any) -> int | float:
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    if kind == "float":
        return number
    if number != int(number):
        raise ValueError
    return int(number)


def _check(limits: Mapping[str, Any], value: Any) -> None:
    """Raise ``ValueError`` unless the field admits the value."""
    if limits["choices"]:
        admitted = value in limits["choices"]
    elif isinstance(value, str | bool):
        admitted = True
    else:
        low = limits["minimum"]
        high = limits["maximum"]
        is_above = value > low if limits["above"] else value >= low
        is_below = value < high if limits["below"] else value <= high
        admitted = math.isfinite(value) and is_above and is_below
    if not admitted:
        raise ValueError
