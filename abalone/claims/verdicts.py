"""Verdicts on the guide's claims.

A verdict comes from Student's interval for the mean difference over random splits of these rows. Splits share rows, so
that interval says nothing about another sample of shells; the corrected interval of Nadeau and Bengio does. Where the
first excludes 0 and the second contains it, the verdict says that it holds on these rows only.

A figure that the guide prints was measured on one split, so it is judged by the range of single splits. That the
encoded network overfits, and from which epoch on, are two claims.

A claim about later epochs than were trained is not judged, and has no numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from abalone.claims.claims import CLAIMS, Claim, Measured, epochs_of

SUPPORTED = "supported"
NOT_SUPPORTED = "not supported"
UNDECIDED = "undecided"
NOT_JUDGED = "not judged"
VERDICTS = (SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_JUDGED)

Interval = tuple[float, float]


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict.

    Parameters
    ----------
    claim : Claim
    values : ndarray [S]
        The difference on each seed; [0] if the claim is not judged.
    mean : float
        Their mean. This and the intervals are NaN if the claim is not judged.
    interval : (float, float)
        95 % interval of the mean over splits of these rows.
    corrected : (float, float)
        95 % interval of the mean that allows for splits that share rows.
    single : (float, float)
        Range of 95 % of single splits.
    wins : int
        Seeds with a value above 0; at or above 0 if the guide gives a figure.
    verdict : str
        One of ``VERDICTS``.
    reason : str
        Why the claim is not judged; empty if it is.
    """

    claim: Claim
    values: np.ndarray
    mean: float
    interval: Interval
    corrected: Interval
    single: Interval
    wins: int
    verdict: str
    reason: str = ""

    @property
    def is_judged(self) -> bool:
        """Whether the training was long enough to judge the claim."""
        return self.verdict != NOT_JUDGED

    @property
    def is_of_these_rows_only(self) -> bool:
        """Whether the verdict would be undecided for another sample of shells."""
        is_on_sign = self.verdict in (SUPPORTED, NOT_SUPPORTED) and not self.claim.of_split
        return is_on_sign and contains_zero(self.corrected) and not contains_zero(self.interval)

    @property
    def short_verdict(self) -> str:
        """The verdict for a narrow column."""
        return f"{self.verdict} on these rows" if self.is_of_these_rows_only else self.verdict

    @property
    def full_verdict(self) -> str:
        """The verdict, and what it applies to."""
        if not self.is_judged:
            return f"{self.verdict}: {self.reason}"
        if self.claim.of_split:
            if self.verdict == SUPPORTED:
                return "supported (within the range of single splits)"
            return "not supported (outside the range of single splits)"
        if self.verdict == UNDECIDED:
            return f"{self.verdict} at {len(self.values)} seeds"
        if self.is_of_these_rows_only:
            return f"{self.short_verdict}; undecided for another sample"
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
        verdict = SUPPORTED if supported else NOT_SUPPORTED
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
        return SUPPORTED
    if high < 0:
        return NOT_SUPPORTED
    return UNDECIDED


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


def leave_unjudged(claim: Claim, epochs: int) -> Finding:
    """The finding for a claim about later epochs than were trained."""
    nothing = (float("nan"), float("nan"))
    return Finding(
        claim=claim,
        values=np.empty(0),
        mean=float("nan"),
        interval=nothing,
        corrected=nothing,
        single=nothing,
        wins=0,
        verdict=NOT_JUDGED,
        reason=f"needs more than {claim.min_epochs - 1} epochs; there were {epochs}",
    )


def findings(measured: Measured, test_to_train: float) -> list[Finding]:
    """Judge every claim that the epochs of training allow; the arguments are those of ``judge``."""
    return [find(claim, measured, test_to_train) for claim in CLAIMS]


def find(claim: Claim, measured: Measured, test_to_train: float) -> Finding:
    """Judge a claim, or leave it unjudged if the training was too short."""
    epochs = epochs_of(measured)
    if epochs < claim.min_epochs:
        return leave_unjudged(claim, epochs)
    return judge(claim, claim.differences(measured), test_to_train)
