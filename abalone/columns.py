"""The columns of the data set, in the order in which everything else uses them."""

SEXES = ("I", "F", "M")
MEASUREMENTS = (
    *("Length", "Diameter", "Height"),
    *("Whole weight", "Shucked weight", "Viscera weight", "Shell weight"),
)
RAW_COLUMNS = ("Sex", *MEASUREMENTS)
FEATURES = (*SEXES, *MEASUREMENTS)
CLASS_LABELS = ("Young", "Old")
OLD_FROM_RINGS = 10
YEARS_BEFORE_FIRST_RING = 1.5
OUTPUTS = {"classification": ("label", "probability_old"), "regression": ("rings", "age_years")}
# Ten times the largest in the shipped file: more is absurd, or in another unit.
LIMITS = dict(zip(MEASUREMENTS, (8.15, 6.5, 11.3, 28.255, 14.88, 7.6, 10.05)))
INTERVAL_OUTPUTS = ("rings_low", "rings_high")  # a regressor's that knows the distribution of rings


def outputs(config):
    """The columns that a model answers; ``config`` is what ``models.build`` takes."""
    has_interval = config["task"] == "regression" and "members" in config
    return OUTPUTS[config["task"]] + (INTERVAL_OUTPUTS if has_interval else ())
