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
