"""What can be set: the stages and what each one teaches, every key with its bounds, the tasks.

The settings of a training are a frozen dataclass. They are read from the stage's flat TOML file in ``experiments/``
and can be overridden key by key.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from abalone.model.columns import DIVISORS, FEATURES, MLP, RING_ENSEMBLE
from abalone.setting_values import as_text, parse

EXPERIMENTS_FOLDER = Path(__file__).resolve().parent.parent / "experiments"
MODEL_KINDS = {"classification": "classifier", "regression": "regressor"}
TASKS = tuple(MODEL_KINDS)
REGISTERED_MODELS = {task: f"abalone-{kind}" for task, kind in MODEL_KINDS.items()}
PREDICTION_COLUMNS = {"classification": "probability_old", "regression": "predicted_rings"}  # of predictions/*.json
ANSWER_COLUMNS = {"classification": "probability_old", "regression": "rings"}  # of a logged model's answer
TENSOR_OUTPUTS = {"classification": "logits `[n, 2]` (Young, Old)", "regression": "rings `[n, 1]`"}  # of its module
DATA = "uci (the shipped file) or a path to a table of the same columns"
UNITS = tuple(DIVISORS)
TARGETS = ("auto", "rings", "age")
BEYOND_THE_GUIDE = "beyond the guide"
SEARCHED_BY_DEFAULT = ("learning_rate", "gamma", "depth", "weight_decay")


SELECTION = {"classification": "log_loss", "regression": "rmse"}  # validation metric that selects, by task


class UserError(Exception):
    """An error that the user can fix; its text is shown alone, without a traceback."""


class BadValue(UserError):
    """An unknown key, or a value that the key does not accept; ``message`` says so without naming the key."""

    def __init__(self, key: str, message: str):
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message

    def __reduce__(self) -> tuple:
        """Pickle both arguments; an exception would be made again from its text alone."""
        return type(self), (self.key, self.message), self.__dict__


@dataclass(frozen=True)
class Stage:
    """A lesson of the guide, or one beyond it.

    Parameters
    ----------
    guide : str
        Section of the guide, or ``BEYOND_THE_GUIDE``.
    teaches : str
        The lesson in one sentence.
    taught : tuple of str
        The keys in which the settings differ from those of the stage before; all others are the same.
    """

    guide: str
    teaches: str
    taught: tuple[str, ...]

    @property
    def source(self) -> str:
        """Where the lesson stands: "Guide section 3", or "Beyond the guide"."""
        if self.guide == BEYOND_THE_GUIDE:
            return self.guide.capitalize()
        return f"Guide section {self.guide}"


STAGES: dict[str, Stage] = {
    "classify": Stage("1, 1.a", "Two hidden layers tell young from old by size and whole weight.", ()),
    "deepen": Stage("1.a", "A third hidden layer: does depth help?", ("hidden_sizes",)),
    "encode": Stage("2 to 2.c", "Sex, one-hot encoded: does it help, and when does overfitting begin?", ("features",)),
    "regularize": Stage("3", "Weight decay in Adam (the guide's L2) against overfitting.", ("weight_decay",)),
    "dropout": Stage("3", "Dropout after every hidden layer, instead of weight decay.", ("weight_decay", "dropout")),
    "regress": Stage(
        "5",
        "The number of rings itself, by mean squared error, with weight decay.",
        ("task", "learning_rate", "weight_decay", "dropout", "clip", "standardize_target"),
    ),
}  # fmt: skip
RINGS = Stage(
    BEYOND_THE_GUIDE,
    "The whole distribution of rings from all ten features and their ratios, by an ensemble: both tasks in one.",
    (),
)
TUNED = Stage(BEYOND_THE_GUIDE, "The best settings that a study found, trained again like any stage.", ())


def _key(
    expected: str,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    choices: tuple[str, ...] | None = None,
    above: bool = False,
    below: bool = False,
    auto: bool = False,
) -> Any:
    """A dataclass field with the values that it accepts; ``above`` and ``below`` exclude the bound itself.

    With ``auto``, the field may also have the value ``AUTO``.
    """
    bounds = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    return field(metadata={"expected": expected, "choices": choices, "auto": auto, **bounds})


@dataclass(frozen=True)
class Settings:
    """Base of the settings classes: reads and checks values, and writes them as text."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build the settings from typed values or their text.

        Parameters
        ----------
        values : mapping of key to value
            Every key of the class, and no other.

        Raises
        ------
        BadValue
            For the first unknown key (with the nearest known one), missing key, or value out of range.
        """
        known = {spec.name: spec for spec in fields(cls)}
        for key in values:
            if key not in known:
                raise BadValue(key, f"no such key; {_hint(key, known)}")
        for key in known:
            if key not in values:
                raise BadValue(key, "missing")
        parsed = {}
        for key, spec in known.items():
            try:
                parsed[key] = parse(spec, values[key])
            except ValueError as error:
                raise BadValue(key, str(error)) from None
        return cls(**parsed)

    def as_text(self) -> dict[str, str]:
        """Every setting as the text that ``-P name=value`` accepts."""
        return {spec.name: as_text(getattr(self, spec.name)) for spec in fields(self)}


def _hint(key: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]}?"
    return f"known keys: {', '.join(known)}"


@dataclass(frozen=True)
class StageSettings(Settings):
    """Settings of a stage of the guide; the field names are the keys of ``experiments/*.toml``."""

    task: str = _key("classification (Young or Old) or regression (rings)", choices=TASKS)
    features: tuple[str, ...] = _key("input columns, separated by commas", choices=FEATURES)
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
    data: str = _key(DATA)
    units: str = _key("file (mm/200 and g/200) or mm_g (millimetres and grams)", choices=UNITS)
    target: str = _key("what the target column holds: auto (by its name), rings or age", choices=TARGETS)

    def model_config(self) -> dict[str, Any]:
        """The configuration from which ``networks.build`` makes the network."""
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
    """Settings of the stage ``rings``; the field names are the keys of ``experiments/rings.toml``."""

    members: int = _key("networks in the ensemble, from 1 to 1024", minimum=1, maximum=1024)
    hidden_sizes: tuple[int, ...] = _key("width of each hidden layer, from 1 to 4096", minimum=1, maximum=4096)
    learning_rate: float = _key("AdamW's learning rate, above 0 and at most 1", minimum=0, maximum=1, above=True)
    weight_decay: float = _key("AdamW's decay of weights, not of biases, from 0 to 1", minimum=0, maximum=1)
    batch_size: int | str = _key(
        "rows per step, from 1 to 1000000, or auto (by the number of training rows)",
        minimum=1,
        maximum=1_000_000,
        auto=True,
    )
    epochs: int | str = _key(
        "passes over the training rows, from 1 to 10000, or auto (by their number)",
        minimum=1,
        maximum=10_000,
        auto=True,
    )
    average: float = _key(
        "decay per step of the moving average of weights, 0 to below 1", minimum=0, maximum=1, below=True
    )
    refit: bool = _key("log models trained on the validation rows too: true or false")
    seed: int = _key("seed of split, weights and batch order, from 0 to 4294967295", minimum=0, maximum=2**32 - 1)
    device: str = _key("auto, cpu or cuda", choices=("auto", "cpu", "cuda"))
    data: str = _key(DATA)
    units: str = _key("file (mm/200 and g/200) or mm_g (millimetres and grams)", choices=UNITS)
    target: str = _key("what the target column holds: auto (by its name), rings or age", choices=TARGETS)

    def model_config(self, task: str) -> dict[str, Any]:
        """The configuration from which ``networks.build`` makes the ensemble that answers for ``task``."""
        return {
            "architecture": RING_ENSEMBLE,
            "task": task,
            "members": self.members,
            "hidden_sizes": list(self.hidden_sizes),
        }


def stages_before(stage: str) -> list[str]:
    """The stages that come before a stage in the guide, in its order."""
    names = list(STAGES)
    return names[: names.index(stage)]


def toml_path(stage: str) -> Path:
    """Path of a stage's settings file."""
    return EXPERIMENTS_FOLDER / f"{stage}.toml"


def read_toml(stage: str) -> dict[str, Any]:
    """The raw settings of ``experiments/<stage>.toml``."""
    return tomllib.loads(toml_path(stage).read_text(encoding="utf-8"))


def settings_type(stage: str | None) -> type[StageSettings] | type[RingsSettings]:
    """The class of a stage's settings; None stands for any stage of the guide."""
    if stage == "rings":
        return RingsSettings
    return StageSettings


def load_settings(stage: str, overrides: Mapping[str, Any] | None = None) -> StageSettings | RingsSettings:
    """Read the settings of a stage from its TOML file, with some of them overridden.

    Parameters
    ----------
    stage : str
        A stage of the guide, or ``rings``.
    overrides : mapping of key to value, optional
        Typed values or their text.

    Raises
    ------
    BadValue
        For an unknown key or a value out of range.
    """
    return settings_type(stage).from_mapping({**read_toml(stage), **(overrides or {})})


def guide_stages() -> dict[str, StageSettings]:
    """The settings of all stages of the guide, in its order."""
    return {stage: StageSettings.from_mapping(read_toml(stage)) for stage in STAGES}
