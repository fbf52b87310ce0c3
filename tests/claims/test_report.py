"""The report on the guide's claims: it can be read on its own, as Markdown and as HTML, and is kept as a run."""

from __future__ import annotations

import datetime
import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from claim_examples import CLAIM, EPOCH, PRINTED, TEST_TO_TRAIN
from mlflow.tracking import MlflowClient

from abalone.claims.claims import CLAIMS
from abalone.claims.figures import claim_figures
from abalone.claims.pages import claims_table, html_page, report_markdown
from abalone.claims.report import run_report
from abalone.claims.verdicts import findings, judge
from abalone.data.reading import read
from abalone.settings import STAGES, load_settings


@pytest.fixture(scope="module")
def found(measured):
    return findings(measured, TEST_TO_TRAIN)


@pytest.fixture(scope="module")
def figures(found, measured):
    return claim_figures(found, measured)


@pytest.fixture(scope="module")
def text(stages, found, measured, figures) -> str:
    return report_markdown(read(), stages["classify"], found, measured, figures)


@pytest.fixture(scope="module")
def page(text) -> str:
    return html_page(text)


def test_the_report_stands_on_its_own(found, text, page):
    for form in (text, html.unescape(page)):
        for row in claims_table(found):
            cells = re.escape("\n".join(row)).replace("\\\n", r"\s*(?:\||</td>\s*<td>)\s*")
            assert re.search(cells, form), row
        assert form.count("data:image/png;base64,") == len(found) == len(CLAIMS)
        assert not re.search(r"(src=|\]\()\"?(http|/)", form), "nothing is fetched from elsewhere"


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
    for finding, row, figure in zip(found, claims_table(found), figures.values()):
        heading = f"{finding.claim.words}: {finding.full_verdict}"
        _, _, part = text.partition(f"\n## {heading}\n\n")
        line = part.split("\n")[0]
        assert f"section {finding.claim.section}." in line
        assert row[2] in line
        assert f"95 % interval {row[3]}" in line
        assert f"wins {row[6]}" in line
        assert finding.full_verdict in line
        assert f"<h2>{heading}</h2>" in page
        assert figure.get_suptitle() == heading
    assert len({figure.get_suptitle() for figure in figures.values()}) == len(found)


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
    assert tags.seen.count("table") == 2
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


def test_a_row_of_the_table_says_what_was_found():
    [row] = claims_table([judge(CLAIM, np.array([0.2, 0.1, 0.3, -0.1]), TEST_TO_TRAIN)])
    words, section, difference, interval, corrected, single, wins, verdict = row
    assert words == "One is better"
    assert section == "1"
    assert difference == "+0.1250 (accuracy, a - b)"
    assert interval == "-0.1468 to 0.3968"
    for wider in (corrected, single):
        low, high = wider.split(" to ")
        assert float(low) < -0.1468
        assert float(high) > 0.3968
    assert wins == "3 of 4"
    assert verdict == "undecided at 4 seeds"


def test_a_row_of_a_printed_figure_shows_it_beside_what_was_measured():
    [area, epoch] = claims_table([
        judge(PRINTED, np.array([0.08, 0.1, 0.12]), TEST_TO_TRAIN),
        judge(EPOCH, np.array([7.0, 8.0, 9.0]), TEST_TO_TRAIN),
    ])  # fmt: skip
    assert area[2] == "+0.1000 = 0.8200 - 0.72 (AUC, a)"
    assert area[6] == "3 of 3"
    assert epoch[2] == "+8.0 = 13.0 - 5 (epoch of the lowest test loss, a)"


def test_the_report_is_a_tracked_run(store):
    said: list[str] = []
    run_report({stage: load_settings(stage, {"epochs": 2}) for stage in STAGES}, 3, said.append)
    client = MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name("abalone").experiment_id])
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert files >= {"report.md", "report.html", "claims.json", "claim_1.png", f"claim_{len(CLAIMS)}.png"}
    assert run.info.status == "FINISHED"
    assert "Three layers beat two" in run.data.tags["mlflow.note.content"]
    assert run.data.params == {"seeds": "3", "epochs": "2", "data": "uci"}
    assert re.search(r"Three layers beat two.*\d\.\d CPU seconds of training, \d\.\d of scoring", said[-1], re.DOTALL)
