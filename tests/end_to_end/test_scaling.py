"""Every code block of docs/scaling.md runs, in order: a server for a team, machines, promotion, prediction, login.

What a machine has of its own here is a folder and the variables that ``make server`` prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from documents import check_out, code_blocks, run, warm_shell
from helpers import free_port
from mlflow import MlflowClient
from warm_processes import PYTHON, warm_variables

from abalone.tracking.browse import listens

BLOCKS = code_blocks("docs/scaling.md")
DOCUMENTED_PORT = "5000"
DATABASE_PORT = 5433
TRIALS = 4
ON_EACH_MACHINE = "mlflow run . -e tune"
SMALL = {
    "-P trials=256": f"-P trials={TRIALS} -P epochs=2",
    "-e rings": "-e rings -P members=2 -P epochs=10",
    "-e classify": "-e classify -P epochs=2",
}


class Team:
    """Machines that share a server, which is the first one's."""

    def __init__(self, folder: Path):
        self.machines = [check_out(folder / f"machine-{number}") for number in range(2)]
        self.port = str(free_port())
        self.exported: dict[str, str] = {}  # what is entered on every machine

    def run_block(self, language: str, code: str) -> None:
        """Run a block, on the first machine unless it is for each of them."""
        code = code.replace(DOCUMENTED_PORT, self.port)
        if language == "text":
            assert exports(code).keys() == self.exported.keys()
            for name, value in exports(code).items():
                assert re.fullmatch(re.escape(value).replace(re.escape("..."), ".+"), self.exported[name])
        elif language == "python":
            run([PYTHON, "-c", code], self.machines[0], **warm_variables(), **self.exported)
        else:
            assert language == "bash"
            for line in code.splitlines():
                self.run_line(line)

    def run_line(self, line: str) -> None:
        """Run one command; those of ``make`` as they are, the others in warm processes and with little to train."""
        if line.startswith("export "):
            self.exported |= exports(line)
        elif line.startswith("make "):
            self.make(line.split()[1:])
        else:
            for documented, small in SMALL.items():
                line = line.replace(documented, small)
            machines = self.machines if line.startswith(ON_EACH_MACHINE) else self.machines[:1]
            shell, variables = warm_shell(line)
            with ThreadPoolExecutor() as side_by_side:
                done = [side_by_side.submit(run, shell, folder, **variables, **self.exported) for folder in machines]
            for machine in done:
                machine.result()  # or its error

    def make(self, arguments: list[str]) -> None:
        """Run ``make``; what it prints to be entered on each machine is then in all of them."""
        # The test extra has what the extra for servers would install.
        command = ["make", "--assume-old", ".venv/.installed-server", *arguments]
        variables = warm_variables()
        command.append(f"PATH={variables['PATH']}")  # so that the servers start warm
        if "server-stop" not in arguments:
            command.append(f"PORT={self.port}")
        printed = run(command, self.machines[0], **variables)
        self.exported |= exports(printed)


def exports(text: str) -> dict[str, str]:
    """The variables that lines of a text export."""
    return {name: value.strip('"') for name, value in re.findall(r"^ *export (\w+)=(.*)$", text, re.M)}


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    """Two machines. Their folder is not pytest's, because PostgreSQL runs as another user if this one is root."""
    assert not listens(DATABASE_PORT), f"port {DATABASE_PORT} is in use by another program"
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        team = Team(Path(folder))
        yield team
        if listens(int(team.port)) or listens(DATABASE_PORT):  # a block has failed
            team.make(["server-stop"])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=lambda n: f"{n}-{BLOCKS[n][0]}")
def test_block(team: Team, number: int):
    language, code = BLOCKS[number]
    team.run_block(language, code)
    if ON_EACH_MACHINE in code:
        assert_one_whole_study(team)
    if "-e predict" in code:
        assert (team.machines[0] / "scored.csv").read_text().count("\n") == 6  # a header and five rows
    if "server-stop" in code.splitlines()[-1]:
        assert not listens(int(team.port)) and not listens(DATABASE_PORT)


def assert_one_whole_study(team: Team) -> None:
    """The machines have shared one run of the study, and made as many trials as were asked for together."""
    client = MlflowClient(team.exported["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("abalone").experiment_id
    trials = client.search_runs([experiment], "tags.stage = 'trial'")
    assert len(trials) == TRIALS and "RUNNING" not in {run.info.status for run in trials}
    assert len({run.data.tags["mlflow.parentRunId"] for run in trials}) == 1
