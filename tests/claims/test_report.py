"""The report on the guide's claims: it can be read on its own, as Markdown and as HTML, and is kept as a run."""

from __future__ import annotations

import datetime
import html
import re
from html.parser import HTMLParser

import mlflow
import numpy as np
import pytest
from claim_examples import CLAIM, EPOCH, PRINTED, TEST_TO_TRAIN
from mlflow.tracking import MlflowClient

from abalone.claims.claims import CLAIMS
from abalone.claims.figures import claim_figures
from abalone.claims.pages import answer, claims_table, details_table, html_page, report_markdown, run_page
from abalone.claims.report import run_report
from abalone.claims.verdicts import findings, judge, leave_unjudged
from abalone.data.reading import read
from abalone.settings import STAGES, load_settings
from abalone.tracking.drawing import draw
from abalone.tracking.logged_tables import read_table


@pytest.fixture(scope="module")
def found(measured):
    return findings(measured, TEST_TO_TRAIN)


@pytest.fixture(scope="module")
def figures(found, measured):
    return claim_figures(found, measured)


@pytest.fixture(scope="module")
def text(stages, found, measured, figures) -> str:
    return report_markdown(read(), stages["classify"], found, measured, draw(figures))


@pytest.fixture(scope="module")
def page(text) -> str:
    return html_page(text)


@pytest.mark.slow
def test_the_report_stands_on_its_own(found, text, page):
    for form in (text, html.unescape(page)):
        for row in (*claims_table(found), *details_table(found)):
            cells = re.escape("\n".join(row)).replace("\\\n", r"\s*(?:\||</td>\s*<td>)\s*")
            assert re.search(cells, form), row
        assert form.count("data:image/png;base64,") == len(found) == len(CLAIMS)
        assert not re.search(r"(src=|\]\()\"?(http|/)", form), "nothing is fetched from elsewhere"


def test_the_verdicts_stand_right_below_the_answer_and_first_in_their_table(text):
    _, first, table, *_ = text.split("\n\n")
    assert "of the guide's 11 claims hold" in first
    assert table.startswith("| verdict")


def test_a_stranger_reads_what_was_measured_how_and_what_the_stages_are(measured, text, page):
    shown = [
        str(datetime.date.today()),
        "mlflow run . -e report -P seeds=3 -P epochs=6 -P data=uci",
        "seeds 0 to 2",
        "6 epochs",
        read().sha256[:12],
        "4177 shells",
        "claim_1.png",
        "report.html",
    ]
    for stage, values in measured.items():
        metric = "rmse" if stage == "regress" else "log_loss"
        shown += [STAGES[stage].teaches, f"{values[metric].mean():.4f} ± {values[metric].std(ddof=1):.4f}"]
    for form in (text, html.unescape(page)):
        for words in shown:
            assert words in form, words


def test_each_claim_has_a_line_and_its_verdict_in_heading_and_figure(found, figures, text, page):
    rows = zip(claims_table(found), details_table(found))
    for finding, (short, details), figure in zip(found, rows, figures.values()):
        heading = f"{finding.claim.words}: {finding.full_verdict}"
        _, _, part = text.partition(f"\n## {heading}\n\n")
        line = part.split("\n")[0]
        assert f"section {finding.claim.section}." in line
        assert f"{short[2]} ({details[1]})" in line
        assert f"95 % interval {details[3]}" in line
        assert f"wins {details[6]}" in line
        assert finding.full_verdict in line
        assert f"<h2>{heading}</h2>" in page
        assert figure.get_suptitle() == heading
    assert len({figure.get_suptitle() for figure in figures.values()}) == len(found)


@pytest.fixture(scope="module")
def after_three_epochs(measured):
    """The same stages as if their training had ended after three epochs."""
    shorter = {}
    for stage, values in measured.items():
        shorter[stage] = dict(values)
        if "loss/test" in values:
            shorter[stage]["loss/test"] = values["loss/test"][:, :3]
    return shorter


def test_a_short_report_says_what_it_cannot_judge_and_shows_no_number_or_figure_of_it(stages, after_three_epochs):
    found = findings(after_three_epochs, TEST_TO_TRAIN)
    figures = claim_figures(found, after_three_epochs)
    text = report_markdown(read(), stages["classify"], found, after_three_epochs, draw(figures))
    judged = [number for number, finding in enumerate(found, 1) if finding.is_judged]
    assert list(figures) == [f"claim_{number}.png" for number in judged]
    assert text.count("data:image/png;base64,") == len(judged) == len(CLAIMS) - 3
    for words in ("The encoded network overfits", "Weight decay helps against overfitting"):
        assert f"## {words}: not judged\n\nGuide section" in text
    assert text.count("needs more than 5 epochs; there were 3") == 3 + 3 + 1  # table, sections, answer
    assert "nan" not in re.sub(r"base64,[^)]+", "", text)
    for finding, row, details in zip(found, claims_table(found), details_table(found)):
        if not finding.is_judged:
            assert row == ("not judged", finding.claim.words, "needs more than 5 epochs; there were 3")
            assert details[3:] == ("–", "–", "–", "–")


def test_the_page_of_the_run_answers_first_and_links_the_report(found, measured):
    page = run_page(found, measured, "[report.html](#/there)")
    holding = sum(finding.verdict == "supported" for finding in found)
    first = page.split("\n\n")[0]
    assert first.startswith(
        f"**{holding} of the guide's 11 claims hold** over 3 seeds of 6 epochs. With figures: [report.html](#/there)."
    )
    for finding in found:
        assert finding.claim.words in first


def test_the_page_of_the_run_says_how_the_data_were_read_if_they_are_not_the_shipped_ones(found, measured):
    page = run_page(found, measured, "", "4177 rows; separator `;`")
    assert page.split("\n\n")[1] == "Data: `` 4177 rows; separator `;` ``"
    assert "Data:" not in run_page(found, measured, "")


def test_the_answer_names_what_holds_what_does_not_and_what_is_not_judged():
    found = [
        judge(CLAIM, np.array([0.1, 0.08, 0.12]), TEST_TO_TRAIN),
        judge(PRINTED, np.array([0.4, 0.41, 0.42]), TEST_TO_TRAIN),
        leave_unjudged(EPOCH, 1),
    ]
    assert answer(found, 1) == (
        "**1 of the guide's 3 claims hold** over 3 seeds of 1 epoch. Not supported: The area is 0.72. Not judged "
        "(needs more than 5 epochs; there were 1): It turns at five. Supported: One is better (on these rows)."
    )


class Tags(HTMLParser):
    """Follows the tags of a page, and fails at one that is closed in the wrong order."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.seen = []
        self.texts = []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)


def test_the_page_is_well_formed_and_leaves_no_markdown(page):
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert tags.seen.count("table") == 3
    assert tags.seen.count("img") == len(CLAIMS)
    assert not re.search(r"[*`|#]|!\[", "".join(tags.texts))


def test_a_data_set_with_a_strange_name_is_shown_as_text():
    page = html_page("# Title\n\nMade of `a <b>&c`.\n\n| a | b |\n| - | - |\n| <i> | 2 |\n")
    assert "<code>a &lt;b&gt;&amp;c</code>" in page
    assert "<td>&lt;i&gt;</td>" in page


def test_overfitting_is_drawn_as_curves_and_everything_else_by_seed(figures):
    with_curves = []
    for claim, figure in zip(CLAIMS, figures.values()):
        if figure.axes[0].get_xlabel() == "epoch":
            with_curves.append(claim.words)
    assert with_curves == ["The encoded network overfits"]


def test_the_rows_of_a_claim_say_what_was_found():
    found = [judge(CLAIM, np.array([0.2, 0.1, 0.3, -0.1]), TEST_TO_TRAIN)]
    assert claims_table(found) == [("undecided", "One is better", "+0.1250 accuracy")]
    [(words, effect, section, interval, corrected, single, wins)] = details_table(found)
    assert words == "One is better"
    assert effect == "accuracy, a - b"
    assert section == "1"
    assert interval == "-0.1468 to 0.3968"
    for wider in (corrected, single):
        low, high = wider.split(" to ")
        assert float(low) < -0.1468
        assert float(high) > 0.3968
    assert wins == "3 of 4"


def test_the_rows_of_a_printed_figure_show_it_beside_what_was_measured():
    found = [
        judge(PRINTED, np.array([0.08, 0.1, 0.12]), TEST_TO_TRAIN),
        judge(EPOCH, np.array([7.0, 8.0, 9.0]), TEST_TO_TRAIN),
    ]
    assert [row[2] for row in claims_table(found)] == ["+0.1000 AUC", "+8.0 epochs"]
    [area, epoch] = details_table(found)
    assert area[1] == "AUC, a, less the guide's 0.72 (mean 0.8200)"
    assert area[6] == "3 of 3"
    assert epoch[1] == "epoch of the lowest test loss, a, less the guide's 5 (mean 13.0)"


@pytest.mark.slow
def test_the_report_is_a_tracked_run(store):
    said: list[str] = []
    run_report({stage: load_settings(stage, {"epochs": 2}) for stage in STAGES}, 3, said.append)
    client = MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name("abalone").experiment_id])
    run_id = run.info.run_id
    files = {item.path for item in client.list_artifacts(run_id)}
    assert files >= {"report.md", "report.html", "claims.json", "scores.json"}
    assert files >= {"claim_1.png", f"claim_{len(CLAIMS)}.png"}
    assert run.info.status == "FINISHED"
    page = run.data.tags["mlflow.note.content"]
    assert "Three layers beat two" in page
    assert f"runs/{run_id}/artifacts/report.html?workflowType=machine_learning)" in page
    assert {f"seeds.{stage}" for stage in STAGES} <= set(run.data.tags)
    table = mlflow.artifacts.load_dict(f"runs:/{run_id}/claims.json")
    assert table["columns"][:3] == ["verdict", "claim", "difference"]
    assert table["data"][3][:3] == [
        "not judged",
        "The encoded network overfits",
        "needs more than 5 epochs; there were 2",
    ]
    scores = read_table(run_id, "scores.json")
    assert [*zip(scores["stage"], scores["seed"])] == [(stage, seed) for stage in STAGES for seed in range(3)]
    [deepen, classify] = [scores[scores["stage"] == stage]["accuracy"].mean() for stage in ("deepen", "classify")]
    assert f"{deepen - classify:+.4f}" == table["data"][0][2].split(" ")[0]
    assert run.data.params == {"seeds": "3", "epochs": "2", "data": "uci", "units": "file", "target": "auto"}
    assert re.search(r"Three layers beat two.*\d\.\d CPU seconds of training, \d\.\d of scoring", said[-1], re.DOTALL)
