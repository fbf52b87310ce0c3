"""What many seeds say of each stage, in one or two sentences that the page of the stage's run quotes."""

from __future__ import annotations

import numpy as np

from abalone.claims.claims import Claim, Measured, epochs_of
from abalone.claims.verdicts import UNDECIDED, Finding, find
from abalone.evaluation.overfitting import OVERFIT_AT
from abalone.metrics import METRICS


def stage_sentences(measured: Measured, test_to_train: float) -> dict[str, str]:
    """Sentences by stage.

    Parameters
    ----------
    measured : mapping
        As ``measure_stages`` returns it.
    test_to_train : float
        As for ``judge``.
    """

    def found(metric: str, stage: str, before: str = "") -> Finding:
        claim = Claim("", section="", metric=metric, stage=stage, before=before)
        return find(claim, measured, test_to_train)

    return {
        "classify": f"{_over(measured)} {_mean_score('accuracy', measured['classify'])}.",
        "deepen": f"{_over(measured)} {_change(found('accuracy', 'deepen', 'classify'))}.",
        "encode": (
            f"{_over(measured)} {_overfitting(found('rise', 'encode'), measured)}. "
            f"{_capitalized(_change(found('accuracy', 'encode', 'deepen')))}; "
            f"{_change(found('roc_auc', 'encode', 'deepen'))}."
        ),
        "regularize": f"{_over(measured)} {_remedy(found('rise', 'encode', 'regularize'))}.",
        "dropout": (
            f"{_over(measured)} {_remedy(found('rise', 'encode', 'dropout'))}; "
            f"{_change(found('accuracy', 'dropout', 'regularize'))}."
        ),
        "regress": f"{_over(measured)} {_mean_score('rmse', measured['regress'])}.",
    }


def _over(measured: Measured) -> str:
    seeds = len(measured["encode"]["loss/test"])
    return f"Over {seeds} seeds"


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


def _mean_score(metric: str, values: dict[str, np.ndarray]) -> str:
    score = values[metric]
    spread = f"{score.mean():.3f} ± {score.std(ddof=1):.3f}"
    unit = f" {METRICS[metric].unit}" if METRICS[metric].unit else ""
    return f"the test {METRICS[metric].label} is {spread}{unit} (mean ± standard deviation)"


def _change(finding: Finding) -> str:
    """How a score differs from that of the stage before."""
    claim = finding.claim
    return (
        f"the {METRICS[claim.metric].label} differs by {finding.mean:+.3f} from {claim.before}'s "
        f"({_agreeing(finding)}){_doubt(finding)}"
    )


def _overfitting(finding: Finding, measured: Measured) -> str:
    """How much the test loss rises, and when it is lowest."""
    if not finding.is_judged:
        return _unjudged(finding)
    lowest = 1 + measured[finding.claim.stage]["loss/test"].argmin(axis=1).mean()
    way = "rises" if finding.mean >= 0 else "falls"
    return (
        f"the test loss {way} by {abs(finding.mean):.3f} from epoch {OVERFIT_AT} to epoch {epochs_of(measured)} "
        f"({_agreeing(finding)}){_doubt(finding)}, and is lowest at epoch {lowest:.0f} on average"
    )


def _remedy(finding: Finding) -> str:
    """How much less the test loss rises than without the remedy."""
    if not finding.is_judged:
        return _unjudged(finding)
    way = "less" if finding.mean >= 0 else "more"
    return (
        f"the test loss rises by {abs(finding.mean):.3f} {way} than in {finding.claim.stage} "
        f"({_agreeing(finding)}){_doubt(finding)}"
    )


def _unjudged(finding: Finding) -> str:
    return f"overfitting is not judged ({finding.reason})"


def _agreeing(finding: Finding) -> str:
    """How many seeds differ in the direction of the mean."""
    agreeing = finding.values > 0 if finding.mean >= 0 else finding.values < 0
    return f"{agreeing.sum()} of {len(finding.values)}"


def _doubt(finding: Finding) -> str:
    return f": {UNDECIDED}" if finding.verdict == UNDECIDED else ""
