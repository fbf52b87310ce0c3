"""Verdicts on the guide's claims.

A verdict comes from Student's interval for the mean difference over random splits of these rows. Splits share rows, so
that interval says nothing about another sample of shells; the corrected interval of Nadeau and Bengio does. Where the
first excludes 0 and the second contains it, the verdict says that it holds on these rows only.

A figure that the guide prints was measured on one split, so it is judged by the range of single splits. That the
encoded network overfits, and from which epoch on, are two claims.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from abalone.claims.claims import CLAIMS, Claim, Measured

Interval = tuple[float, float]


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict.

    Parameters
    ----------
    claim : Claim
    values : ndarray [S]
        The difference on each seed.
    mean : float
        Their mean.
    interval : (float, float)
        95 % interval of the mean over splits of these rows.
    corrected : (float, float)
        95 % interval of the mean that allows for splits that share rows.
    single : (float, float)
        Range of 95 % of single splits.
    wins : int
        Seeds with a value above 0; at or above 0 if the guide gives a figure.
    verdict : str
        "supported", "not supported" or "undecided".
    """

    claim: Claim
    values: np.ndarray
    mean: float
    interval: Interval
    corrected: Interval
    single: Interval
    wins: int
    verdict: str

    @property
    def full_verdict(self) -> str:
        """The verdict, and how far it reaches."""
        if self.claim.of_split:
            if self.verdict == "supported":
                return "supported (a single split can give it)"
            return "not supported (single splits do not give it)"
        if self.verdict == "undecided":
            return f"undecided at {len(self.values)} seeds"
        if contains_zero(self.corrected) and not contains_zero(self.interval):
            return f"{self.verdict} on these rows; undecided for another sample"
        return self.verdict


def judge(claim: Claim, values: np.ndarray, test_to_train: float) -> Finding:
    """Decide whether the differences support a claim; ``pages.EXPLANATION`` states the rules for readers.

    Parameters
    ----------
    claim : Claim
    values : ndarray [S]
        The difference on each seed.
    test_to_train : float
        Test rows per training row, for the corrected interval. Source: Nadeau and Bengio (2003), Inference for the
        Generalization Error, Machine Learning 52.
    """
    n = len(values)
    of_mean = interval(values, 1 / n)
    single = interval(values, 1 / n + 1)
    if claim.expected:
        supported = contains_zero(single) if claim.of_split else contains_zero(of_mean)
        verdict = "supported" if supported else "not supported"
        wins = values >= 0
    else:
        verdict = _verdict_on_sign(of_mean)
        wins = values > 0
    return Finding(
        claim=claim,
        values=values,
        mean=float(values.mean()),
        interval=of_mean,
        corrected=interval(values, 1 / n + test_to_train),
        single=single,
        wins=int(wins.sum()),
        verdict=verdict,
    )


def _verdict_on_sign(of_mean: Interval) -> str:
    low, high = of_mean
    if low > 0:
        return "supported"
    if high < 0:
        return "not supported"
    return "undecided"


def contains_zero(ends: Interval) -> bool:
    """Whether 0 lies within an interval, ends included."""
    low, high = ends
    return low <= 0 <= high


def interval(values: np.ndarray, variance_factor: float, level: float = 0.95) -> Interval:
    """Student's interval around the mean of ``values``.

    Parameters
    ----------
    values : ndarray [S]
    variance_factor : float
        Variance of the estimate in units of that of one value: 1 / S for the mean of independent values.
    level : float
        Probability that the interval covers.
    """
    from scipy.stats import t

    mean = values.mean()
    half_width = t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) * np.sqrt(variance_factor)
    return float(mean - half_width), float(mean + half_width)


def findings(measured: Measured, test_to_train: float) -> list[Finding]:
    """Judge every claim; the arguments are those of ``Claim.differences`` and ``judge``."""
    return [judge(claim, claim.differences(measured), test_to_train) for claim in CLAIMS]
