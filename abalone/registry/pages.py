"""Pages in Markdown for the registry: a promotion's decision, and a version."""

from __future__ import annotations

from collections.abc import Sequence

from abalone.evaluation.calibration import reliability_text
from abalone.metrics import METRICS
from abalone.registry.candidates import MARGIN, Candidate
from abalone.registry.decision import Decision
from abalone.registry.promoted_run import PromotedRun, age_table, limits_text
from abalone.registry.splits import left_out_text
from abalone.settings import MODEL_KINDS, REGISTERED_MODELS, SELECTION
from abalone.tracking.addresses import (
    Naming,
    link,
    logged_model_path,
    registered_model_path,
    run_path,
    text_only,
    version_path,
)
from abalone.tracking.file_sums import unchecked_text
from abalone.tracking.markdown import as_code, escape, format_score, markdown_table

DECISION_HEADER = ("run", "run id", "validation", "baseline", "test (not used)", "split", "outcome")
LINKED_HEADER = ("run", *DECISION_HEADER[2:])
LONGEST_OUTCOME = 120  # characters, in the description of a run
LEGEND = (
    "*Gate*: what a run must pass to be promoted. It is finished, has a model, and is at least {margin:.0%} better on "
    "validation than the baseline, which gives every animal the same answer. *Split* is the fingerprint of the data "
    "and of the rows for training, validation and test; only scores with the same one can be compared. A promotion "
    "compares on the split of the champion as long as runs on it can be promoted, otherwise on the one with the most "
    "candidates; a run on other rows, such as a small file of one's own, changes nothing until its split is chosen. "
    "Test scores are reported and never used."
)


def decision_rows(decision: Decision) -> list[tuple[str, ...]]:
    """Return the cells of a promotion's table, one row per candidate."""
    rows: list[tuple[str, ...]] = []
    for candidate in decision.candidates:
        row = (
            candidate.name,
            candidate.run_id[:8],
            format_score(candidate.score),
            format_score(candidate.baseline),
            format_score(candidate.test),
            candidate.split or "–",
            _outcome(candidate, decision.challenger),
        )
        rows.append(row)
    return rows


def _outcome(candidate: Candidate, challenger: Candidate | None) -> str:
    if candidate.refusal:
        return f"refused: {candidate.refusal}"
    if candidate is challenger:
        return "**best**"
    return "not the best"


def linked_rows(decision: Decision, shown: int | None = None) -> list[tuple[str, ...]]:
    """Return the cells under ``LINKED_HEADER``; if only some rows are shown, their outcomes are short."""
    rows = []
    for candidate, row in zip(decision.candidates[:shown], decision_rows(decision)):
        outcome = row[-1]
        if shown and len(outcome) > LONGEST_OUTCOME:
            outcome = f"{outcome[:LONGEST_OUTCOME]}…"
        rows.append((_named_run(candidate, link), *[escape(cell) for cell in (*row[2:-1], outcome)]))
    return rows


def decision_text(decision: Decision, withheld: str = "") -> str:
    """Return what a promotion decided for one task, and why, for a terminal."""
    table = markdown_table(DECISION_HEADER, decision_rows(decision)) if decision.candidates else "No runs of this task."
    rule = f"By `val/{SELECTION[decision.task]}`, lower is better; the gate is {MARGIN:.0%} better than the baseline:"
    answer = _answer(decision, withheld, text_only)
    paragraphs = [f"### {decision.task}", answer, _unchecked_champion(decision), split_text(decision), rule, table]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def split_text(decision: Decision) -> str:
    """Say on which split a promotion compares, why, and how to choose another; empty without candidates."""
    choice = decision.split
    if not choice.split:
        return ""
    text = f"The candidates for {decision.task} are compared on split `{choice.split}`, {choice.reason}."
    return f"{text} {other_splits_text(decision)}".strip()


def other_splits_text(decision: Decision) -> str:
    """Name the splits that a promotion leaves out, and how to choose one; empty without any."""
    return left_out_text(decision.split, decision.experiment, decision.task)


def promotion_page(decisions: Sequence[Decision], withheld: str = "", shown: int | None = None) -> str:
    """Return what a promotion decided, and why: the answers, the words that the tables use, then the tables.

    Parameters
    ----------
    decisions : sequence of Decision
    withheld : str
        Why the registry was left as it was; "" if it was not.
    shown : int, optional
        Most candidates to list for each task. MLflow's descriptions hold 8,000 characters.
    """
    parts = [_answer(decision, withheld, link) for decision in decisions]
    parts += [_unchecked_champion(decision) for decision in decisions]
    parts += [split_text(decision) for decision in decisions]
    parts.append(LEGEND.format(margin=MARGIN))
    parts += [_candidates_table(decision, shown) for decision in decisions]
    return "\n\n".join(part for part in parts if part)


def _unchecked_champion(decision: Decision) -> str:
    """Say that the files of the champion before the promotion could not be checked; empty if they could."""
    champion = decision.champion
    if champion is None or champion.files:
        return ""
    return unchecked_text(f"models:/{REGISTERED_MODELS[decision.task]}/{champion.version}")


def _candidates_table(decision: Decision, shown: int | None) -> str:
    rows = linked_rows(decision, shown)
    table = markdown_table(LINKED_HEADER, rows) if rows else "No runs of this task."
    left_out = len(decision.candidates) - len(rows)
    if left_out:
        table += f"\n\nand {left_out} more: `decision.md`, `decision_{decision.task}.json`."
    metric = METRICS[SELECTION[decision.task]].label_with_unit
    return f"### {decision.task}: runs by {metric}, lower is better\n\n{table}"


def _answer(decision: Decision, withheld: str, named: Naming) -> str:
    """Say which run is best, whether it was promoted and why, and which version is champion."""
    name = REGISTERED_MODELS[decision.task]
    model = named(name, registered_model_path(name))
    best = decision.challenger
    if best is None:
        return f"{model}: no candidate; the registry is unchanged."
    if not decision.promotes:
        done = "not promoted"
    elif withheld:
        done = f"would be promoted ({withheld})"
    else:
        done = "promoted"
    return (
        f"{model}: the best candidate is run **{_named_run(best, named)}**, **{done}**: {_reason(decision, named)}. "
        f"{_champion_versions(decision, named)}"
    )


def _reason(decision: Decision, named: Naming) -> str:
    """Why, or why not, the challenger was promoted; it may quote the messages of errors."""
    if named is text_only:
        return decision.reason
    return escape(decision.reason)


def _named_run(candidate: Candidate, named: Naming) -> str:
    return named(candidate.name, run_path(candidate.experiment_id, candidate.run_id))


def _champion_versions(decision: Decision, named: Naming) -> str:
    """Name the champion, and the one before it if there was another."""
    if not decision.version:
        return "Champion: none."
    text = f"Champion: {_named_version(decision, decision.version, named)}."
    before = decision.champion
    if before and before.version != decision.version:
        text += f" Before: {_named_version(decision, before.version, named)}."
    return text


def _named_version(decision: Decision, version: int, named: Naming) -> str:
    return named(f"version {version}", version_path(REGISTERED_MODELS[decision.task], version))


def champion_line(decision: Decision, metric: str, uri: str, named: Naming = text_only) -> str:
    """Return the best candidate, its lead and the decision, in two sentences.

    Parameters
    ----------
    decision : Decision
    metric : str
        Metric that selects.
    uri : str
        Address by which the champion is loaded.
    named : callable
        ``link`` for a page, ``text_only`` for a terminal.
    """
    best = decision.best
    assert decision.version is not None  # with a challenger, there is a champion after the promotion
    left_out = other_splits_text(decision)
    compared = []
    for rival in decision.eligible:
        if rival.name != best.name:
            compared.append(f"next {as_code(rival.name)} {format_score(rival.score)}")
            break
    compared.append(f"baseline {format_score(best.baseline)}")
    return (
        f"Best {MODEL_KINDS[decision.task]} by validation: **{_named_run(best, named)}**, {metric} "
        f"{format_score(best.score)} ({', '.join(compared)}); {_reason(decision, named)}. Champion: `{uri}`, "
        f"{_named_version(decision, decision.version, named)}. {left_out}"
    ).strip()


def version_page(decision: Decision, promotion: str, promoted: PromotedRun) -> str:
    """Return the description of the version that a promotion registers.

    Parameters
    ----------
    decision : Decision
    promotion : str
        Path of the promotion's run in the UI.
    promoted : PromotedRun
        What the store knows of the promoted run.
    """
    best = decision.best
    metric = METRICS[SELECTION[decision.task]].label_with_unit
    rows = [
        (f"{metric}, validation (what selected it)", format_score(best.score)),
        (f"{metric}, validation, baseline", format_score(best.baseline)),
        (f"{metric}, test (reported only)", format_score(best.test)),
    ]
    model = link("model", logged_model_path(best.experiment_id, best.model_id))
    paragraphs = [
        f"Run **{_named_run(best, link)}** (its {model}), {link('promoted', promotion)}: {_reason(decision, link)}. "
        f"Fitted on {promoted.fitted_on}. {limits_text(promoted.age_groups)}".strip(),
        age_table(promoted.age_groups),
        markdown_table(("score", "value"), rows),
        reliability_text(promoted.metrics),
        f"Fingerprints, by which runs on the same rows are recognised: data `{best.dataset}` (of the file), split "
        f"`{best.split}` (of the rows for training, validation and test).",
        f"Signature: {promoted.signature}.",
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
