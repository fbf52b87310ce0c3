"""What a person sees who follows README's *Browse* by clicking: the real MLflow UI in a real browser.

``make ui``'s own command serves what ``make run`` has left to all tests of the file. Every test begins at the address
that this command prints, in a browser that remembers no test before. Sentences of pages are tested where they are
written; here it is links, names, numbers and pictures.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from documents import clean
from helpers import ROOT
from mlflow import MlflowClient
from mlflow.entities import Run
from playwright.sync_api import BrowserContext, Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from warm_processes import PYTHON, warm_variables

from abalone.settings import STAGES
from abalone.tracking.views import SHOWN_METRICS
from benchmarks.pictures import CHROMIUM, free_port, fresh_page, open_chromium

BEYOND = ("rings", "tuned encode", "tuned regress")
VIEWS = {  # the first runs and columns of each
    "classifiers": (("rings",), SHOWN_METRICS["classification"][:2]),
    "stages": (STAGES, ("test/accuracy", "test/roc_auc")),
    "regressors": (("rings",), SHOWN_METRICS["regression"][:2]),
    "trials": ([re.compile(r"^trial \d+$")] * 6, ("study", "val/log_loss")),
}
OVERFITTING = ("encode", "regularize", "dropout")
README = (ROOT / "README.md").read_text(encoding="utf-8")
BROWSE = README.split("\n## Browse\n")[1].split("\n## ")[0]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the path: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def address(made: Path) -> Iterator[str]:
    """What ``make ui`` prints; its server runs as long as the tests of this file."""
    command = [PYTHON, "-m", "abalone.tracking.browse", "--port", str(free_port())]
    ui = subprocess.Popen(
        command,
        cwd=made,
        env=settings() | warm_variables(),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        printed = iter(ui.stdout.readline, "")
        yield next(line.strip() for line in printed if "http://127.0.0.1" in line)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(ui.pid, signal.SIGTERM)
        ui.communicate(timeout=60)


def settings() -> dict[str, str]:
    """The environment of a user who has configured nothing, with this project first on the path."""
    return clean() | {"PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def runs(made: Path) -> dict[str, Run]:
    """The runs of ``main`` but the trials, by name."""
    client = MlflowClient(f"sqlite:///{made / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("abalone").experiment_id], "tags.stage != 'trial'")
    return {run.info.run_name: run for run in found}


@pytest.fixture(scope="module")
def chromium() -> Iterator[BrowserContext]:
    with open_chromium() as browser:
        yield browser


@pytest.fixture
def page(chromium: BrowserContext, address: str) -> Iterator[Page]:
    """The printed address in a browser that remembers no test before."""
    with fresh_page(chromium, address) as page:
        yield page


def row(page: Page, number: int) -> Locator:
    """Row of the table of runs, counted from 0; the half of it that holds the name."""
    return page.locator(f'.ag-pinned-left-cols-container [row-index="{number}"]')


def expect_runs(page: Page, names: Sequence[str | re.Pattern]) -> None:
    """These runs are the first rows of the table, in this order."""
    for number, name in enumerate(names):
        expect(row(page, number).get_by_role("link", name=name, exact=True)).to_be_visible()


def open_run(page: Page, name: str) -> None:
    """Click on a run's name in the table."""
    page.locator(".ag-pinned-left-cols-container").get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def choose_view(page: Page, name: str) -> None:
    """Choose one of the views in the menu at the top right, whose button bears the name of the present one."""
    page.get_by_role("button", name=re.compile(f"^({'|'.join(VIEWS)}|Views)$")).click()
    page.get_by_role("menuitem", name=re.compile(f"^{name} ")).get_by_text(name, exact=True).click()


def show_all_runs(page: Page) -> None:
    """Leave the views for the plain list of all runs, by the menu at the left."""
    expect_runs(page, ["classify"])  # the view is complete: one that still loads would bring its filter into the list
    page.get_by_role("link", name="Runs", exact=True).click()
    expect(page.get_by_role("button", name="Exit shared view")).to_have_count(0)


def follow(page: Page, link: Locator) -> Page:
    """Click on a link of a description, which MLflow opens in a new tab."""
    with page.expect_popup() as opened:
        link.click()
    return opened.value


def expect_picture(page: Page) -> None:
    """A picture that is no icon has loaded."""
    page.wait_for_function(
        "() => [...document.images].some(image => image.checkVisibility() && image.naturalWidth > 300)"
    )


def rounded(value: float) -> re.Pattern:
    """A number as pages show it, with at least three digits."""
    return re.compile(re.escape(f"{value:.5f}"[:5]))


def test_the_printed_address_shows_the_stages_in_the_guides_order_and_each_view_its_runs_and_columns(page):
    expect_runs(page, [*STAGES])
    for number in range(len(STAGES), len(STAGES) + len(BEYOND)):
        expect(row(page, number).get_by_role("link", name=re.compile("|".join(BEYOND)))).to_be_visible()
    expect(page.get_by_role("columnheader", name="test/accuracy").first).to_be_in_viewport()
    expect(page.get_by_role("link", name="Model registry")).to_be_visible()  # the mode is that of training

    for view, (names, columns) in VIEWS.items():
        assert f"`{view}`" in BROWSE
        choose_view(page, view)
        expect_runs(page, [*names])
        for column in columns:
            expect(page.get_by_role("columnheader", name=column, exact=True).first).to_be_in_viewport()

    choose_view(page, "curves")
    expect_runs(page, OVERFITTING)
    page.locator("label", has=page.locator('input[value="CHART"]')).click()
    chart = page.get_by_text("loss/train vs loss/val vs loss/test", exact=True)
    expect(chart).to_be_visible()  # of all three
    for name in OVERFITTING[:2]:
        expect(page.get_by_text(f"{name} (loss/test)", exact=True).first).to_be_visible()


def test_the_page_of_a_stage_answers_and_leads_to_the_stage_before_and_to_its_figures(page, runs):
    open_run(page, "encode")
    expect(page.get_by_text(rounded(runs["encode"].data.metrics["test/accuracy"])).first).to_be_in_viewport()
    before = follow(page, page.get_by_role("link", name="deepen", exact=True).first)
    expect(before.get_by_role("heading", name="deepen", exact=True)).to_be_visible()

    page.get_by_role("tab", name="Model metrics").click()
    expect(page.get_by_text("encode (accuracy/val)", exact=True)).to_be_visible()
    page.get_by_role("tab", name="Artifacts").click()
    for name in ("curves.png", "confusion.png", "roc.png"):
        assert f"`{name}`" in BROWSE
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    page.get_by_text("roc.png", exact=True).first.click()
    expect_picture(page)


def test_models_bear_the_names_of_stages_and_the_registry_leads_to_a_champion_and_its_run(page, runs):
    page.get_by_role("link", name="Models", exact=True).click()
    for name in (*STAGES, "rings-classifier", "rings-regressor", "tuned-encode", "tuned-regress"):
        expect(page.get_by_role("link", name=name, exact=True).first).to_be_visible()

    page.get_by_role("link", name="Model registry").click()
    page.get_by_role("button", name="Try it now").click()  # a notice of MLflow's, once in a profile
    page.get_by_role("link", name="abalone-classifier", exact=True).click()
    expect(page.get_by_role("heading", name="abalone-classifier", exact=True)).to_be_visible()
    page.get_by_role("row", name="champion").get_by_role("link", name="Version 1").click()
    expect(page.get_by_role("heading", name="Version 1", exact=True)).to_be_visible()
    expect(page.get_by_text(rounded(runs["rings"].data.metrics["val/log_loss"])).first).to_be_visible()
    expect(page.locator(f'a[href*="{runs["rings"].info.run_id}"]').first).to_be_visible()


def test_main_is_unfolded_in_the_plain_list_which_leads_to_its_page_a_promotion_and_the_report(page, runs):
    show_all_runs(page)
    expect(row(page, 0).get_by_role("link", name="main", exact=True)).to_be_visible()
    for name in STAGES:
        expect(page.get_by_role("link", name=name, exact=True).last).to_be_visible()
    plain_list = page.url

    open_run(page, "main")
    expect(page.locator(f'a[href*="{runs["encode"].info.run_id}"]').first).to_be_visible()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("lesson.png", exact=True).first.click()
    expect_picture(page)

    page.goto(plain_list)
    open_run(page, "promote classification")
    for name in ("rings", "dropout", "encode"):
        expect(page.get_by_role("cell", name=name, exact=True).first).to_be_visible()
        expect(page.get_by_text(rounded(runs[name].data.metrics["val/log_loss"])).first).to_be_visible()

    page.goto(plain_list)
    open_run(page, "report")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("report.html", exact=True).first.click()
    report = page.frame_locator("iframe").first
    expect(report.get_by_role("columnheader", name="verdict").first).to_be_in_viewport()
    expect(report.get_by_role("cell", name=re.compile("supported|undecided|not judged")).first).to_be_in_viewport()


def click_until_there(page: Page, link: Locator, address: str) -> None:
    """Click a link until its page opens: a table that is still being drawn may replace the link under the mouse."""
    for _ in range(5):
        link.click()
        with suppress(PlaywrightTimeoutError):
            page.wait_for_url(lambda url: address in url, timeout=3_000)
            return


def test_two_runs_compared_show_what_a_stage_changed_and_both_curves_in_one_chart(page):
    for name in ("encode", "regularize"):
        assert f"`{name}`" in BROWSE
        place = page.locator(".ag-pinned-left-cols-container [role=row]")
        chosen = place.filter(has=page.get_by_role("link", name=name, exact=True))
        chosen.get_by_role("checkbox", name="toggle row selection").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text("Show diff only").first.click()
    expect(page.get_by_role("rowheader", name="learning_rate", exact=True)).to_have_count(0)
    expect(page.get_by_role("rowheader", name="weight_decay", exact=True)).to_be_visible()
    click_until_there(page, page.get_by_role("link", name="loss/test", exact=True), "#/metric")
    for name in ("encode", "regularize"):
        expect(page.get_by_text(f"{name} (loss/test)", exact=True).first).to_be_visible()
