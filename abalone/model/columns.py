"""Names, order and limits of the columns that go into a model and of those that come out.

Imports neither torch nor pandas, so that the command line can name columns without loading them.
"""

from __future__ import annotations

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
OUTPUTS = {"classification": ("label", "probability_old"), "regression": ("rings", "age_years")}
# Only of a regressor that predicts the distribution of rings.
DISTRIBUTION_OUTPUTS = ("rings_median", "rings_low", "rings_high")
TEXT_COLUMNS = ("Sex", "label")  # all other columns hold numbers
# Values of the key "architecture" in the configuration of a model.
MLP = "mlp"
RING_ENSEMBLE = "ring_ensemble"


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
    names = OUTPUTS[config["task"]]
    if config["task"] == "regression" and config["architecture"] == RING_ENSEMBLE:
        return names + DISTRIBUTION_OUTPUTS
    return names
