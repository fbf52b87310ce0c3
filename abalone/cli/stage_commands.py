"""Commands that train: the stages of the guide, ``rings``, and ``main``, which runs everything."""

from __future__ import annotations

from typing import Any

import click

from abalone import api, settings
from abalone.cli.group import command
from abalone.cli.options import SHARED_BY_MAIN, keys_of, parse_settings, run_options, settings_options, workers_option
from abalone.cli.output import say, show
from abalone.settings import STAGES

EXAMPLES = {
    "classify": "--hidden-sizes 256,256",
    "deepen": "--hidden-sizes 64,64,64,64",
    "encode": "--epochs 20 --checkpoint last",
    "regularize": "--weight-decay 0.05 --run-name stronger",
    "dropout": "--dropout 0.5 --seed 7",
    "regress": "--clip 0 --standardize-target false",
}


def stage_command(stage: str) -> click.Command:
    """The command of a stage of the guide."""

    lesson = STAGES[stage]

    @command(stage, EXAMPLES.get(stage, "--epochs 20"), f"{lesson.teaches} ({lesson.source}.)", lesson.teaches)
    @settings_options(keys_of(stage), stage)
    @run_options
    def train_stage(experiment_name: str | None, run_name: str | None, debug: bool, **given: Any) -> None:
        stage_settings = parse_settings(stage, given)
        result = api.run_stage(stage, stage_settings, say=say, experiment_name=experiment_name, run_name=run_name)
        show(result)

    return train_stage


STAGE_COMMANDS = [stage_command(stage) for stage in STAGES]


@command("rings", "--members 32", f"{settings.RINGS.teaches} ({settings.RINGS.source}.)")
@settings_options(keys_of("rings"), "rings")
@run_options
def rings(experiment_name: str | None, run_name: str | None, debug: bool, **given: Any) -> None:
    """Train the ensemble; the help text is that of ``settings.RINGS``."""
    rings_settings = parse_settings("rings", given)
    result = api.run_stage("rings", rings_settings, say=say, experiment_name=experiment_name, run_name=run_name)
    show(result)


@command("main", "--trials 64 --seeds 0")
@click.option(
    "--trials",
    type=click.IntRange(0, 100_000),
    default=32,
    show_default=True,
    help="Trials of each of the two studies; 0 for no study.",
)
@click.option(
    "--seeds",
    type=click.IntRange(0, 1000),
    default=20,
    show_default=True,
    help="Seeds of the report; 0 for no report, otherwise at least 3.",
)
@workers_option
@settings_options(SHARED_BY_MAIN)
@run_options
def main(
    trials: int,
    seeds: int,
    workers: int | str,
    experiment_name: str | None,
    run_name: str | None,
    debug: bool,
    **given: Any,
) -> None:
    """Run the whole guide with one command: stages, tuning, promotion, the guide's claims and a closing table."""
    if 0 < seeds < 3:
        raise click.BadParameter(
            f"{seeds} is too few to judge a claim; expected 0 for no report, or at least 3", param_hint="'--seeds'"
        )
    stages = {stage: parse_settings(stage, given) for stage in STAGES}
    # An epoch of `rings` is not comparable with one of the guide's stages, so `--epochs` does not apply to it.
    given_rings = {key: value for key, value in given.items() if key != "epochs"}
    rings_settings = parse_settings("rings", given_rings)
    api.run_main(
        stages,
        rings_settings,
        trials=trials,
        seeds=seeds,
        workers=workers,
        say=say,
        experiment_name=experiment_name,
        run_name=run_name,
    )
