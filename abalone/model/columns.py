"""Names, order and limits of the columns that go into a model and of those that come out.

Imports neither torch nor pandas, so that the command line can name columns without loading them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SEXES = ("I", "F", "M")
MEASUREMENTS = (
    "Length",
    "Diameter",
    "Height",
    "Whole weight",
    "Shucked weight",
    "Viscera weight",
    "Shell weight",
)
RAW_COLUMNS = ("Sex", *MEASUREMENTS)
FEATURES = (*SEXES, *MEASUREMENTS)
GUIDE_SPELLING = {"Shell weights": "Shell weight"}  # accepted wherever a table has no column of the right name
# Other names of the columns, in the form that ``simplify`` gives them: those of the guide, of OpenML, of the R package
# AppliedPredictiveModeling, and of the Kaggle playground, which calls three weights "Whole weight".
ALIASES = {
    "Sex": ("gender", "type"),
    "Length": ("longestshell",),
    "Shucked weight": ("wholeweight1",),
    "Viscera weight": ("wholeweight2", "gutweight"),
    "Shell weight": ("shellweights",),
    "Rings": ("classnumberofrings",),
}
SEX_SPELLINGS = {"m": "M", "male": "M", "f": "F", "female": "F", "i": "I", "infant": "I"}
DIVISORS = {"file": 1.0, "mm_g": 200.0}  # from millimetres and grams to the units of the UCI file
CLASS_LABELS = ("Young", "Old")
OLD_FROM_RINGS = 10
YEARS_BEFORE_FIRST_RING = 1.5
# Upper limits, ten times the largest value of the UCI file: anything above is an error or in another unit.
LIMITS = {
    "Length": 8.15,
    "Diameter": 6.5,
    "Height": 11.3,
    "Whole weight": 28.255,
    "Shucked weight": 14.88,
    "Viscera weight": 7.6,
    "Shell weight": 10.05,
}
MOST_RINGS = 1_000_000  # beyond any animal, yet its square is exact enough for a float32 loss
KNOWN_LENGTHS = (0.075, 0.815)  # the shortest and the longest of the UCI file
KNOWN_DENSITY = 24.0  # median of whole weight / (length * diameter * height) in the UCI file
OUTPUTS = {"classification": ("label", "probability_old"), "regression": ("rings", "age_years")}
# Only of a regressor that predicts the distribution of rings.
MEDIAN_OUTPUT = "rings_median"
INTERVAL_OUTPUTS = ("rings_low", "rings_high")
OUTSIDE = "outside_training_range"  # of every answer: names of the measurements beyond those that were fitted
LARGEST_COUNT = 29  # of rings in a distribution: the most in the UCI file; in another file, more count as 29
DISTRIBUTION_OUTPUTS = tuple(f"p_rings_{count}" for count in range(1, LARGEST_COUNT + 1))  # P(rings = count)
# What may be asked of a regressor that predicts the distribution, with the defaults: the share of the animals that
# rings_low and rings_high are to hold, and whether to add DISTRIBUTION_OUTPUTS.
PARAMS = {"interval": 0.8, "distribution": False}
TEXT_COLUMNS = ("Sex", "label", OUTSIDE)  # all other columns hold numbers
# Values of the key "architecture" in the configuration of a model.
MLP = "mlp"
RING_ENSEMBLE = "ring_ensemble"


def knows_distribution(config: Mapping[str, Any]) -> bool:
    """Tell whether a model of this configuration answers from a distribution of rings, and takes ``PARAMS``."""
    return config["task"] == "regression" and config["architecture"] == RING_ENSEMBLE


def outputs(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the columns of a model's predictions.

    Parameters
    ----------
    config : mapping
        Configuration of the model, as ``networks.build`` takes it.

    Returns
    -------
    tuple of str
        In the order in which the model returns them.
    """
    names: tuple[str, ...] = OUTPUTS[config["task"]]
    if knows_distribution(config):
        names += (MEDIAN_OUTPUT, *INTERVAL_OUTPUTS)
    return (*names, OUTSIDE)


def simplify(name: Any) -> str:
    """Reduce the name of a column to what identifies it, without case, blanks, ``_``, ``.``, ``-``, quotes and BOM."""
    return re.sub(r"""[\s_.\-'"\ufeff]""", "", str(name)).casefold()
