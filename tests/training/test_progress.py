"""What a training shows of itself: one call per epoch, and numbers that do not depend on it."""

from __future__ import annotations

from abalone.data.loading import load_data
from abalone.settings import load_settings
from abalone.training.fit import fit
from abalone.training.progress import training_progress
from abalone.training.ring_ensemble import fit_rings


def test_fit_reports_each_epoch_and_gives_the_same_curves():
    settings = load_settings("encode", {"epochs": 2})
    data = load_data(settings.data, settings.seed)
    reported = []
    _, history = fit(settings, data.x, data.rings, data.split, reported.append)
    _, silent = fit(settings, data.x, data.rings, data.split)
    assert [epoch["loss/val"] for epoch in reported] == history.metrics["loss/val"]
    assert history.metrics == silent.metrics


def test_fit_rings_reports_each_epoch_also_without_watched_rows():
    settings = load_settings("rings", {"epochs": 2, "members": 2, "hidden_sizes": "8"})
    data = load_data(settings.data, settings.seed)
    for watched, names in ((data.split.val, {"loss/train", "loss/val"}), (None, set())):
        reported = []
        fit_rings(settings, data.x, data.rings, data.split.train, watched, reported.append)
        assert len(reported) == 2
        assert set(reported[0]) == names


def test_without_a_terminal_a_training_is_announced_in_one_line(capsys):
    said = []
    with training_progress("encode", 50, 1670, said.append) as after_epoch:
        after_epoch({"loss/val": 0.5})
    assert said == ["encode: training 50 epochs on 1,670 rows"]
    with training_progress("encode", 50, 1670):
        pass
    assert capsys.readouterr() == ("", "")
