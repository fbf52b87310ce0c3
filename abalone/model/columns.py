"""The columns of the data set, in the order in which everything else uses them."""

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
CLASS_LABELS = ("Young", "Old")
OLD_FROM_RINGS = 10
YEARS_BEFORE_FIRST_RING = 1.5
# Ten times the largest in the shipped file: more is absurd, or in another unit.
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
INTERVAL_OUTPUTS = ("rings_low", "rings_high")  # of a regressor that knows the distribution of rings
TEXT_COLUMNS = ("Sex", "label")  # everything else is a number
# What the key "architecture" of a model's configuration may say.
MLP = "mlp"
RING_ENSEMBLE = "ring_ensemble"


def outputs(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Columns that a model answers; ``config`` is what ``networks.build`` takes."""
    answered = OUTPUTS[config["task"]]
    if config["task"] == "regression" and config["architecture"] == RING_ENSEMBLE:
        return answered + INTERVAL_OUTPUTS
    return answered
