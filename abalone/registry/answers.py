"""What ``predict`` writes beside a row: the answers of both champions, ages and versions; and what it sums up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from abalone.model.columns import CLASS_LABELS, DISTRIBUTION_OUTPUTS, INTERVAL_OUTPUTS, OUTSIDE, PARAMS
from abalone.registry.loading import LoadedModel
from abalone.registry.outside import OutsideCount, join_answers
from abalone.settings import MODEL_KINDS, UserError

AGE_INTERVAL = ("age_low", "age_high")
SAMPLED_ROWS = 1000  # most rows in the figure


def check_params(models: Mapping[str, LoadedModel], params: Mapping[str, Any]) -> None:
    """Refuse what the champion cannot answer, where it is not what every champion answers.

    Parameters
    ----------
    models : mapping of task to LoadedModel
        Both champions.
    params : mapping
        As ``columns.PARAMS``.

    Raises
    ------
    UserError
        If the regressor does not know the distribution of rings.
    """
    regressor = models["regression"]
    if params == PARAMS or regressor.knows_distribution:
        return
    asked = ", ".join(f"{name}={value}" for name, value in params.items() if value != PARAMS[name])
    raise UserError(
        f"{asked} needs a regressor that knows the distribution of rings, which {regressor.uri} does not; "
        "train rings and promote it: mlflow run . -e rings, mlflow run . -e promote"
    )


def answer(models: Mapping[str, LoadedModel], checked: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
    """Score checked rows with both champions.

    Parameters
    ----------
    models : mapping of task to LoadedModel
        Both champions.
    checked : DataFrame [n, 8]
        As ``rows.examine`` returns it, without bad rows.
    params : mapping
        As ``columns.PARAMS``; passed to the regressor if they are not the defaults.

    Returns
    -------
    DataFrame [n, ...]
        The answers; the interval of the age in years beside that of the rings; the versions of the champions.
    """
    answers = []
    for task, model in models.items():
        wanted = params if task == "regression" and params != PARAMS else None
        answers.append(model.predict(checked, wanted))
    joined = join_answers(answers)
    if INTERVAL_OUTPUTS[-1] in joined:
        place = joined.columns.get_loc(INTERVAL_OUTPUTS[-1])
        before_first_ring = joined["age_years"] - joined["rings"]  # in the champion's own words
        for name, end in zip(AGE_INTERVAL, INTERVAL_OUTPUTS):
            place += 1
            joined.insert(place, name, joined[end] + before_first_ring)
    for task, model in models.items():
        joined[f"{MODEL_KINDS[task]}_version"] = model.version
    return joined


def answer_names(models: Mapping[str, LoadedModel]) -> set[str]:
    """Every name that a column of ``answer`` may have."""
    names = {*AGE_INTERVAL, *DISTRIBUTION_OUTPUTS, OUTSIDE}
    for task, model in models.items():
        names |= {*model.columns, f"{MODEL_KINDS[task]}_version"}
    return names


SUMMARY_LABELS = {
    "rows": "rows scored",
    "old_share": "share labelled Old",
    "mean_age_years": "mean predicted age (years)",
    "outside_rows": "rows outside the range of the training rows",
    "outside_share": "share outside the range of the training rows",
}


@dataclass
class Summary:
    """What the answers say in all, collected batch by batch.

    Parameters
    ----------
    rows, old : int
        All rows, and those that are labelled Old.
    years : float
        Sum of the predicted ages.
    outside : OutsideCount
        Rows outside the training range; of no rows where the champions do not say.
    sample : list of tuple
        Predicted age, and its interval where there is one, of at most ``SAMPLED_ROWS`` rows at equal distances.
    """

    rows: int = 0
    old: int = 0
    years: float = 0.0
    outside: OutsideCount = field(default_factory=OutsideCount)
    sample: list[tuple[float, ...]] = field(default_factory=list)
    _step: int = 1

    def add(self, answers: pd.DataFrame) -> None:
        """Add the answers for the next rows."""
        first = -self.rows % self._step  # the sample holds the rows whose numbers are multiples of the step
        shown = [name for name in ("age_years", *AGE_INTERVAL) if name in answers]
        self.sample += answers[shown].iloc[first :: self._step].itertuples(index=False, name=None)
        while len(self.sample) > SAMPLED_ROWS:
            self.sample = self.sample[::2]
            self._step *= 2
        self.rows += len(answers)
        self.old += int((answers["label"] == CLASS_LABELS[1]).sum())
        self.years += float(answers["age_years"].sum())
        if OUTSIDE in answers:
            self.outside.add(answers[OUTSIDE])

    def metrics(self) -> dict[str, float]:
        """The summary as metrics of a run."""
        found = {"rows": self.rows, "old_share": self.old / self.rows, "mean_age_years": self.years / self.rows}
        if self.outside.rows:
            found |= {"outside_rows": self.outside.outside, "outside_share": self.outside.outside / self.outside.rows}
        return found

    def table(self) -> list[tuple[str, float]]:
        """The summary for a page: what each metric is, and its value."""
        return [(SUMMARY_LABELS[name], value) for name, value in self.metrics().items()]
