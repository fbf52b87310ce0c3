"""Which split a promotion compares on, and that a run on rows of its own upsets nobody."""

from __future__ import annotations

import shlex

import pytest
from mlflow import MlflowClient
from registry_store import (
    candidate,
    make_unsealed,
    model_folder,
    model_id_of,
    promote_one,
    refusals,
    runs_of,
    split_of,
)

from abalone.registry.candidates import Candidate
from abalone.registry.promotion import promote
from abalone.registry.splits import choose_split, count_splits
from abalone.settings import UserError


def a_run(split: str, started: int, refusal: str = "") -> Candidate:
    """A candidate of which only the split, the time and the refusal matter."""
    return Candidate(
        run_id=f"{split}{started}",
        name="run",
        status="FINISHED",
        experiment_id="1",
        started=started,
        dataset="d",
        split=split,
        data=f"{split}.data",
        seed="0",
        model_id="m",
        files="",
        score=0.5,
        baseline=0.7,
        test=None,
        refusal=refusal,
    )


def order(runs: list[Candidate], champion_split: str = "") -> list[str]:
    return [count.split for count in count_splits(runs, champion_split)]


def test_the_champions_split_comes_first_then_the_one_with_most_candidates_then_the_newest():
    runs = [a_run("many", 1), a_run("many", 2), a_run("old", 3), a_run("new", 4)]
    assert order(runs) == ["many", "new", "old"]
    assert order(runs, champion_split="old") == ["old", "many", "new"]
    assert order(runs, champion_split="gone") == ["many", "new", "old"]


def test_a_run_that_is_refused_does_not_count():
    assert order([a_run("weak", 1, "no model"), a_run("weak", 2, "no model"), a_run("sound", 3)]) == ["sound"]


def test_without_candidates_no_split_is_chosen():
    choice, judged = choose_split([a_run("weak", 1, "no model")], champion_split="")
    assert choice.split == "" and not choice.others and judged[0].refusal == "no model"


def test_a_training_on_another_split_changes_nothing_and_is_named_with_the_command_that_chooses_it(champion):
    small = [candidate(name, 0.9, seed=1) for name in ("small", "smaller")]
    candidate("better", 0.6)
    said = []
    [decision] = promote(("classification",), said.append, experiment="abalone")
    assert decision.promotes and decision.challenger.name == "better"
    assert refusals(decision)["small"] == f"other rows (split {split_of(small[0])})"
    command = (
        "mlflow run . -e promote --env-manager local -P experiment=abalone -P task=classification "
        f"-P split={split_of(small[0])}"
    )
    page = runs_of("promote")[0].data.tags["mlflow.note.content"]
    for text in (said[0], page):
        assert f"split `{decision.split.split}`, that of the champion" in text
        assert f"split `{split_of(small[0])}` (data uci, seed 1): 2 candidates" in text
        assert command in text
    options = dict(word.split("=") for word in shlex.split(command) if "=" in word)
    chosen = promote_one(split=options["split"])
    assert chosen.split.reason == "chosen with -P split" and chosen.challenger.run_id in small


def test_after_a_promotion_on_a_chosen_split_that_split_is_the_champions(champion):
    new = split_of(candidate("new", 0.6, seed=1))
    promote_one(split=new, force=True)
    decision = promote_one()
    assert (decision.split.split, decision.split.reason) == (new, "that of the champion")


def test_without_a_champion_the_split_with_most_candidates_counts(store):
    for name in ("one", "two"):
        candidate(name, 0.5)
    candidate("small", 0.9, seed=1)
    decision = promote_one()
    assert decision.challenger.name in ("one", "two") and decision.split.reason == "the one with the most candidates"


def test_a_split_whose_models_cannot_be_used_gives_way_to_the_next(champion):
    make_unsealed(model_folder(model_id_of(champion)))
    candidate("sound", 0.5, seed=1)
    decision = promote_one()
    assert decision.promotes and decision.challenger.name == "sound"
    assert decision.split.reason.endswith("has none that works")


def test_a_split_without_candidates_is_refused_with_those_that_have_some(store):
    candidate("only", 0.5)
    message = r"no run of the experiment has the split 'typo'; splits with candidates: split `\w+` \(.*0\): 1 candidate"
    with pytest.raises(UserError, match=message):
        promote_one(split="typo")
    assert not MlflowClient().search_registered_models()
