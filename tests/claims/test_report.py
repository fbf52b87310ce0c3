"""The guide's claims: a true effect is found, a null is not, and the report reads on its own."""

from __future__ import annotations

import datetime
import html
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from abalone.claims.claims import CLAIMS, CURVED, Claim, measure_stages, train_stages
from abalone.claims.pages import claims_table, html_page, report_markdown
from abalone.claims.report import _draw_figures, run_report
from abalone.claims.verdicts import findings, judge
from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.evaluation.scores import predict, scores
from abalone.model.features import encode
from abalone.settings import STAGES, StageSettings, UserError, load_settings
from abalone.training.fit import fit

SEEDS, RATIO, EPOCHS = 20, 1.25, 30
CLAIM = Claim("One is better", "1", "accuracy", "a", "b")
PRINTED = Claim("The area is 0.72", "2.c", "roc_auc", "a", expected=0.72, of_split=True)
EPOCH = Claim("It turns at five", "2.c", "lowest", "a", expected=5)


def draws(mean: float, sd: float = 0.01, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, sd, SEEDS)


def test_a_planted_effect_is_found_in_both_directions():
    assert judge(CLAIM, draws(0.02), RATIO).verdict == "supported"
    assert judge(CLAIM, draws(-0.02), RATIO).verdict == "not supported"


def test_a_null_effect_is_called_undecided_nineteen_times_of_twenty():
    verdicts = [judge(CLAIM, draws(0.0, seed=seed), RATIO).verdict for seed in range(400)]
    assert 0.92 < verdicts.count("undecided") / len(verdicts) < 0.98


def test_the_intervals_are_students_of_the_mean_of_another_sample_and_of_one_split():
    found = judge(CLAIM, np.array([1.0, 2.0, 3.0]), RATIO)
    assert (found.mean, found.wins) == (2.0, 3)
    for (low, high), variances in (
        (found.interval, 1 / 3),
        (found.corrected, 1 / 3 + RATIO),
        (found.single, 1 / 3 + 1),
    ):
        half = 4.302653 * np.sqrt(variances)  # t(2) at 97.5 %
        assert (low, high) == pytest.approx((2 - half, 2 + half), rel=1e-6)


def test_a_printed_figure_is_held_against_single_splits():
    near, far = judge(PRINTED, draws(0.006), RATIO), judge(PRINTED, draws(0.11), RATIO)
    assert near.interval[0] > 0, "its mean is another"
    assert near.told == "supported (a single split can give it)"
    assert far.told == "not supported (single splits do not give it)"


def test_the_epoch_is_held_against_the_mean_and_not_against_single_splits():
    late = judge(EPOCH, draws(8.1, 9.4), RATIO)
    assert late.single[0] < 0 < late.interval[0] and late.verdict == "not supported"
    assert judge(EPOCH, draws(-8.1, 9.4), RATIO).verdict == "not supported"
    assert judge(EPOCH, draws(0.0, 9.4), RATIO).told == "supported"


@pytest.mark.parametrize(
    "mean, told",
    [
        (0.0, "undecided at 20 seeds"),
        (0.01, "supported on these rows; undecided for another sample"),
        (-0.01, "not supported on these rows; undecided for another sample"),
        (0.05, "supported"),
        (-0.05, "not supported"),
    ],
)
def test_a_verdict_says_whether_it_reaches_beyond_these_rows(mean, told):
    assert judge(CLAIM, draws(mean), RATIO).told == told


# Where each claim's effect is planted, so that no other claim sees it: stage, number, and its sign in the claim.
PLANTS = {
    "Three layers beat two": ("classify", "accuracy", -1),
    "Sex helps accuracy": ("encode", "accuracy", 1),
    "Sex helps ranking": ("deepen", "roc_auc", -1),
    "The encoded network overfits": ("encode and regularize", "last", 1),
    "The rise begins after about five epochs": ("encode", "lowest", 1),
    "Weight decay helps against overfitting": ("regularize", "last", -1),
    "Dropout makes it worse": ("dropout", "accuracy", -1),
    "True positive rate 0.81": ("encode", "tpr", 1),
    "False positive rate 0.36": ("encode", "fpr", 1),
    "Area 0.72, from hard labels": ("encode", "balanced_accuracy", 1),
    "Area 0.72, from probabilities": ("encode and deepen", "roc_auc", 1),
}
CENTRES = {"accuracy": 0.75, "roc_auc": 0.72, "tpr": 0.81, "fpr": 0.36, "balanced_accuracy": 0.72, "log_loss": 0.5}


def nothing() -> dict[str, dict[str, np.ndarray]]:
    """Stages that do not differ, with the figures that the guide prints: noise whose mean is 0 exactly."""
    draw = np.random.default_rng(0)

    def noise() -> np.ndarray:
        values = draw.normal(0, 0.01, SEEDS)
        return values - values.mean()

    measured = {stage: {name: mean + noise() for name, mean in CENTRES.items()} for stage in STAGES}
    for stage in CURVED:
        curves = np.full((SEEDS, EPOCHS), 0.5)
        curves[:, 4] += noise()
        curves[:, -1] += noise()
        curves[range(SEEDS), np.arange(SEEDS) % 2 * 2 + 3] = 0.4  # lowest at epochs 4 and 6
        measured[stage]["loss/test"] = curves
    return measured


def plant(measured: dict, stages: str, number: str, effect: float) -> None:
    for stage in stages.split(" and "):
        of = measured[stage]
        if number == "last":
            of["loss/test"][:, -1] += 0.03 * effect
        elif number == "lowest":
            of["loss/test"][of["loss/test"] == 0.4] = 0.5
            # So far apart that a single split can still be lowest at epoch 5: it is the mean that is judged.
            first, second = (3, 20) if effect > 0 else (0, 3)
            of["loss/test"][range(SEEDS), np.where(np.arange(SEEDS) % 2, first, second)] = 0.4
        else:
            of[number] = of[number] + 0.03 * effect


@pytest.mark.parametrize("effect", [1, 0, -1])
@pytest.mark.parametrize("place", range(len(CLAIMS)), ids=lambda place: CLAIMS[place].words)
def test_an_effect_moves_the_verdict_of_its_claim_and_of_no_other(place, effect):
    claim = CLAIMS[place]
    before, measured = findings(nothing(), RATIO), nothing()
    stages, number, sign = PLANTS[claim.words]
    if effect:
        plant(measured, stages, number, sign * effect)
    found = findings(measured, RATIO)
    verdicts = {1: "supported", 0: "undecided", -1: "not supported"}
    if claim.expected:
        verdicts = {1: "not supported", 0: "supported", -1: "not supported"}
    assert found[place].verdict == verdicts[effect]
    assert np.sign(round(found[place].mean, 6)) == effect
    for f, was in zip(found, before):
        if f.claim is not claim:
            assert f.verdict == was.verdict and f.mean == pytest.approx(was.mean, abs=1e-9)


def test_there_is_a_plant_for_every_claim():
    assert set(PLANTS) == {claim.words for claim in CLAIMS}


def experiments(epochs: int) -> dict[str, StageSettings]:
    return {stage: load_settings(stage, {"epochs": epochs}) for stage in STAGES}


@pytest.fixture(scope="module")
def trained():
    return train_stages(experiments(6), read(), seeds=3)


@pytest.fixture(scope="module")
def measured(trained):
    return measure_stages(experiments(6), read(), trained)


def test_what_is_measured_is_what_fit_and_scores_give(measured):
    dataset = read()
    rows, x, rings = split(dataset, 2), encode(dataset.frame), dataset.frame["Rings"].to_numpy()
    model, history = fit(load_settings("encode", {"epochs": 6, "seed": 2}), x, rings, rows)
    expected = scores("classification", rings[rows.test], predict(model, x[rows.test]))
    assert measured["encode"]["log_loss"][2] == pytest.approx(expected["log_loss"], abs=2e-3)
    assert measured["encode"]["loss/test"][2] == pytest.approx(history.metrics["loss/test"], abs=2e-3)
    assert measured["encode"]["loss/test"].shape == (3, 6) and "loss/test" not in measured["deepen"]
    rates = measured["encode"]
    assert rates["balanced_accuracy"] == pytest.approx((rates["tpr"] + 1 - rates["fpr"]) / 2)


def test_every_model_is_scored_on_the_test_rows_of_its_own_seed(trained, measured):
    dataset = read()
    x, rings = encode(dataset.frame), dataset.frame["Rings"].to_numpy()
    for stage, task in (("dropout", "classification"), ("regress", "regression")):
        for seed, (model, _) in enumerate(trained[stage]):
            test = split(dataset, seed).test
            for name, score in scores(task, rings[test], predict(model, x[test])).items():
                assert measured[stage][name][seed] == pytest.approx(score, abs=1e-6)


def test_scoring_is_done_on_one_thread(trained, monkeypatch):
    threads = []
    monkeypatch.setattr(report, "predict", lambda *given: threads.append(torch.get_num_threads()) or predict(*given))
    measure_stages(experiments(6), read(), trained)
    assert set(threads) == {1}


def test_a_training_that_diverged_is_named(trained):
    broken = {**trained, "deepen": [trained["deepen"][0], ValueError("planted"), trained["deepen"][2]]}
    with pytest.raises(UserError, match="deepen, seed 1: planted"):
        measure_stages(experiments(6), read(), broken)


@pytest.fixture(scope="module")
def told(measured):
    found = findings(measured, RATIO)
    drawn = _draw_figures(found, measured)
    text = report_markdown(read(), load_settings("classify", {"epochs": 6}), found, measured, drawn)
    return found, drawn, text, html_page(text)


def test_the_report_stands_on_its_own(told, measured):
    found, _, text, page = told
    for form in (text, html.unescape(page)):
        for row in claims_table(found):
            cells = re.escape("\n".join(row)).replace("\\\n", r"\s*(?:\||</td>\s*<td>)\s*")
            assert re.search(cells, form), row
        assert form.count("data:image/png;base64,") == len(found) == len(CLAIMS)
        assert not re.search(r"(src=|\]\()\"?(http|/)", form), "nothing is fetched from elsewhere"


def test_a_stranger_reads_what_was_measured_how_and_what_the_stages_are(told, measured):
    *_, text, page = told
    shown = [str(datetime.date.today()), "mlflow run . -e report -P seeds=3 -P epochs=6 -P data=uci"]
    shown += ["seeds 0 to 2", "6 epochs", read().sha256[:12], "4177 shells", "claim_1.png", "report.html"]
    for stage, of in measured.items():
        metric = "rmse" if stage == "regress" else "log_loss"
        shown += [STAGES[stage].teaches, f"{of[metric].mean():.4f} ± {of[metric].std(ddof=1):.4f}"]
    for form in (text, html.unescape(page)):
        for words in shown:
            assert words in form, words


def test_each_claim_has_a_line_and_its_verdict_in_heading_and_figure(told):
    found, drawn, text, page = told
    for f, row, figure in zip(found, claims_table(found), drawn.values()):
        headline = f"{f.claim.words}: {f.told}"
        _, _, part = text.partition(f"\n## {headline}\n\n")
        line = part.split("\n")[0]
        for cell in (f"section {f.claim.section}.", row[2], f"95 % interval {row[3]}", f"wins {row[-2]}", f.told):
            assert cell in line
        assert f"<h2>{headline}</h2>" in page and figure.get_suptitle() == headline
    assert len({figure.get_suptitle() for figure in drawn.values()}) == len(found)


def test_the_page_is_well_formed_and_leaves_no_markdown(told):
    class Tags(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.seen, self.texts = [], [], []

        def handle_starttag(self, tag, attrs):
            self.seen.append(tag)
            if tag not in ("meta", "img"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

        def handle_data(self, data):
            if "style" not in self.open:
                self.texts.append(data)

    tags = Tags()
    tags.feed(told[-1])
    assert not tags.open and tags.seen.count("table") == 2 and tags.seen.count("img") == len(CLAIMS)
    assert not re.search(r"[*`|#]|!\[", "".join(tags.texts))


def test_a_data_set_with_a_strange_name_is_written_as_text():
    text = "# Title\n\nMade of `a <b>&c`.\n\n| a | b |\n| - | - |\n| <i> | 2 |\n"
    page = html_page(text)
    assert "<code>a &lt;b&gt;&amp;c</code>" in page and "<td>&lt;i&gt;</td>" in page


def test_overfitting_is_drawn_as_curves_and_everything_else_as_seeds(told):
    _, drawn, *_ = told
    kinds = ["curves" if figure.axes[0].get_xlabel() == "epoch" else "seeds" for figure in drawn.values()]
    assert [claim.words for claim, kind in zip(CLAIMS, kinds) if kind == "curves"] == ["The encoded network overfits"]


def test_a_row_of_the_table_says_what_was_found():
    found = judge(CLAIM, np.array([0.2, 0.1, 0.3, -0.1]), RATIO)
    [row] = claims_table([found])
    assert row == (
        *("One is better", "1", "+0.1250 (accuracy, a - b)", "-0.1468 to 0.3968"),
        *(row[4], row[5], "3 of 4", "undecided at 4 seeds"),
    )
    for cell in row[4:6]:
        low, high = (float(end) for end in cell.split(" to "))
        assert low < -0.1468 and high > 0.3968


def test_a_row_of_a_printed_figure_shows_it_beside_what_was_measured():
    [area, epoch] = claims_table([
        judge(PRINTED, np.array([0.08, 0.1, 0.12]), RATIO),
        judge(EPOCH, np.array([7.0, 8.0, 9.0]), RATIO),
    ])  # fmt: skip
    assert area[2] == "+0.1000 = 0.8200 - 0.72 (AUC, a)" and area[6] == "3 of 3"
    assert epoch[2] == "+8.0 = 13.0 - 5 (epoch of the lowest test loss, a)"


def test_the_report_is_a_tracked_run(store):
    said: list[str] = []
    run_report(experiments(2), 3, said.append)
    client = MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name("abalone").experiment_id])
    kept = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert kept >= {"report.md", "report.html", "claims.json", "claim_1.png", f"claim_{len(CLAIMS)}.png"}
    assert run.info.status == "FINISHED" and "Three layers beat two" in run.data.tags["mlflow.note.content"]
    assert run.data.params == {"seeds": "3", "epochs": "2", "data": "uci"}
    assert re.search(r"Three layers beat two.*\d\.\d CPU seconds of training, \d\.\d of scoring", said[-1], re.DOTALL)


@pytest.mark.slow
def test_twenty_seeds_of_all_stages_train_in_twenty_cpu_seconds():
    """On a machine that is slow or busy: in no more than the same work, one at a time, would take four times of."""
    dataset, stages = read(), experiments(50)
    began = time.process_time()
    train_stages(stages, dataset, seeds=20)
    seconds = time.process_time() - began
    x, rings, rows = encode(dataset.frame), dataset.frame["Rings"].to_numpy(), split(dataset, 0)
    began = time.process_time()
    for experiment in stages.values():
        fit(experiment, x, rings, rows)
    one_of_each = time.process_time() - began
    print(f"20 of each stage {seconds:.1f} CPU seconds, one of each by fit {one_of_each:.1f}")
    assert seconds <= max(20, 4 * one_of_each)
