"""TODO claims.verdicts"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from abalone.claims.claims import CLAIMS, Claim, Measured


@dataclass(frozen=True)
class Finding:
    """A claim judged.

    Parameters
    ----------
    values : ndarray [S]
        The difference of each seed.
    mean : float
    interval, corrected, single : (float, float)
        At 95 %: of the mean over splits of these rows; of the mean, allowing for splits that share rows; of one split.
    wins : int
        Seeds with a value above 0; where the guide gives a figure, at or above it.
    verdict : str
        supported, not supported, or undecided.
    """

    claim: Claim
    values: np.ndarray
    mean: float
    interval: tuple[float, float]
    corrected: tuple[float, float]
    single: tuple[float, float]
    wins: int
    verdict: str

    @property
    def told(self) -> str:
        """The verdict, and how far it reaches."""
        if self.claim.of_split:
            given = "a single split can give it" if self.verdict == "supported" else "single splits do not give it"
            return f"{self.verdict} ({given})"
        if self.verdict == "undecided":
            return f"undecided at {len(self.values)} seeds"
        here_only = np.prod(self.corrected) <= 0 < np.prod(self.interval)  # only the first one holds 0
        return self.verdict + (" on these rows; undecided for another sample" if here_only else "")


def judge(claim: Claim, values: np.ndarray, test_to_train: float) -> Finding:
    """Say whether the differences of the seeds, [S], support a claim; ``EXPLANATION`` has the rules.

    ``test_to_train``, test rows per training row, is for the interval that allows for splits that share rows. Source:
    Nadeau & Bengio (2003), Inference for the Generalization Error, Machine Learning 52.
    """
    n = len(values)
    low, high = of_mean = interval(values, 1 / n)
    corrected, single = interval(values, 1 / n + test_to_train), interval(values, 1 / n + 1)
    if claim.expected:
        low, high = single if claim.of_split else of_mean
        verdict, wins = "supported" if low <= 0 <= high else "not supported", values >= 0
    else:
        verdict, wins = "supported" if low > 0 else "not supported" if high < 0 else "undecided", values > 0
    return Finding(claim, values, float(values.mean()), of_mean, corrected, single, int(wins.sum()), verdict)


def interval(values: np.ndarray, variances: float, level: float = 0.95) -> tuple[float, float]:
    """Student's interval around the mean of ``values``; its half width is t * sd * sqrt(``variances``)."""
    from scipy.stats import t

    half = t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) * np.sqrt(variances)
    return float(values.mean() - half), float(values.mean() + half)


def findings(measured: Measured, test_to_train: float) -> list[Finding]:
    """Judge every claim."""
    return [judge(claim, claim.differences(measured), test_to_train) for claim in CLAIMS]
