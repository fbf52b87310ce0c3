"""What many seeds say about each stage, read from the tags of an experiment's newest report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow import MlflowClient

from abalone.tracking.addresses import link, run_path
from abalone.tracking.runs import experiment_id_of

SEEDS_TAG_PREFIX = "seeds."  # the tag ``seeds.encode`` of a report holds one sentence about encode


@dataclass(frozen=True)
class SeedFindings:
    """The findings of one report.

    Parameters
    ----------
    path : str
        Path of the report's page in the UI.
    sentences : mapping of stage to str
    """

    path: str
    sentences: Mapping[str, str]

    def about(self, stage: str) -> str:
        """The sentence about a stage, with a link to the report; empty if the report has none."""
        sentence = self.sentences.get(stage, "")
        if not sentence:
            return ""
        return f"{sentence} ({link('report', self.path)})"


def find_seed_findings(run_id: str, dataset: str, epochs: int) -> SeedFindings | None:
    """Find the newest finished report on the same data with the same number of epochs.

    Parameters
    ----------
    run_id : str
        Run in whose experiment to search.
    dataset : str
        Tag ``dataset`` of the report.
    epochs : int
        Parameter ``epochs`` of the report.
    """
    experiment_id = experiment_id_of(run_id)
    query = (
        f"tags.stage = 'report' and tags.dataset = '{dataset}' and params.epochs = '{epochs}' "
        "and attributes.status = 'FINISHED'"
    )
    newest_first = ["attributes.start_time DESC"]
    found = MlflowClient().search_runs([experiment_id], query, max_results=1, order_by=newest_first)
    if not found:
        return None
    [report] = found
    sentences = {}
    for tag, sentence in report.data.tags.items():
        if tag.startswith(SEEDS_TAG_PREFIX):
            sentences[tag.removeprefix(SEEDS_TAG_PREFIX)] = sentence
    return SeedFindings(run_path(experiment_id, report.info.run_id), sentences)
