"""Raw rows to the input tensor, and the preparation layer inside a network."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from abalone.model.columns import FEATURES, MEASUREMENTS
from abalone.model.features import Prepare, encode

ROWS = pd.DataFrame(
    [
        ("M", 0.455, 0.365, 0.095, 0.514, 0.2245, 0.101, 0.15, 15),
        ("I", 0.33, 0.255, 0.08, 0.205, 0.0895, 0.0395, 0.055, 7),
        ("F", 0.53, 0.42, 0.135, 0.677, 0.2565, 0.1415, 0.21, 9),
    ],
    columns=["Sex", *MEASUREMENTS, "Rings"],
)


@pytest.fixture
def x() -> torch.Tensor:
    """Float32 [50, 10] as from ``encode``: one-hot, then measurements of different size and spread."""
    random = np.random.default_rng(0)
    one_hot = np.eye(3)[random.integers(0, 3, 50)]
    measured = random.gamma(2.0, [0.5, 0.4, 0.1, 0.8, 0.3, 0.2, 0.2], (50, 7))
    return torch.tensor(np.hstack([one_hot, measured]), dtype=torch.float32)


def test_encode_gives_one_hot_sex_then_unscaled_measurements():
    encoded = encode(ROWS)
    assert encoded.shape == (3, 10) and encoded.dtype == torch.float32
    assert encoded[:, :3].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]  # I, F, M
    assert np.array_equal(encoded[:, 3:].numpy(), ROWS[list(MEASUREMENTS)].to_numpy("float32"))


def test_encode_finds_columns_by_name():
    assert torch.equal(encode(ROWS[ROWS.columns[::-1]]), encode(ROWS))


def test_encode_accepts_the_guides_spelling_of_shell_weight():
    assert torch.equal(encode(ROWS.rename(columns={"Shell weight": "Shell weights"})), encode(ROWS))


def test_encode_prefers_the_files_spelling_if_there_are_both():
    assert torch.equal(encode(ROWS.assign(**{"Shell weights": -1})), encode(ROWS))


@pytest.mark.parametrize("value, shown", [("m", "'m'"), ("", "''"), (None, "None"), (pd.NA, "<NA>"), (1.0, "1.0")])
def test_encode_names_the_row_of_an_unknown_sex(value, shown):
    rows = ROWS.assign(Sex=pd.Series(["M", value, "X"], dtype=object)).set_axis(["a", "b", "c"])
    with pytest.raises(ValueError, match=f"^row b: Sex is {shown}, expected M, F or I$"):
        encode(rows)


def test_encode_accepts_a_single_row_with_any_index():
    assert torch.equal(encode(ROWS.iloc[[2]]), encode(ROWS)[2:])


def test_prepare_standardises_measurements_and_leaves_one_hot_columns_alone(x):
    features = ("Height", "I", "Whole weight", "M")
    prepared = Prepare(features, clip=0).fit(x)(x).numpy()
    raw = x.numpy()[:, [FEATURES.index(name) for name in features]]
    assert prepared.dtype == np.float32 and prepared.shape == (50, 4)
    assert np.array_equal(prepared[:, [1, 3]], raw[:, [1, 3]])
    for i in (0, 2):
        expected = (raw[:, i] - raw[:, i].mean(dtype=float)) / raw[:, i].std(dtype=float, ddof=0)
        np.testing.assert_allclose(prepared[:, i], expected, atol=1e-6)


def test_prepare_takes_its_statistics_from_the_given_rows_only(x):
    fitted = Prepare(MEASUREMENTS, clip=0).fit(x[:30])
    changed = x.clone()
    changed[30:] = 1e6
    again = Prepare(MEASUREMENTS, clip=0).fit(changed[:30])
    assert torch.equal(fitted.mean, again.mean) and torch.equal(fitted.scale, again.scale)
    assert not torch.equal(fitted.mean, Prepare(MEASUREMENTS, clip=0).fit(x).mean)


def test_prepare_does_not_depend_on_the_order_of_rows(x):
    forwards = Prepare(MEASUREMENTS, clip=0).fit(x)
    backwards = Prepare(MEASUREMENTS, clip=0).fit(x.flip(0))
    assert torch.equal(forwards.mean, backwards.mean) and torch.equal(forwards.scale, backwards.scale)


@pytest.mark.parametrize("constant", [0.0, 0.1, 0.455])
def test_a_constant_column_stays_finite(x, constant):
    x[:, FEATURES.index("Height")] = constant
    prepare = Prepare(("Height", "Length"), clip=0).fit(x)
    assert prepare.scale[0] == 1 and (prepare(x)[:, 0] == 0).all()
    x[0, FEATURES.index("Height")] = constant + 0.5
    assert prepare(x)[0, 0] == pytest.approx(0.5)


def test_clip_limits_standardised_measurements_only(x):
    features = ("Height", "F")
    free = Prepare(features, clip=0).fit(x)
    limited = Prepare(features, clip=0.5).fit(x)
    x[0, FEATURES.index("Height")] = 1e6
    x[1, FEATURES.index("Height")] = -1e6
    assert free(x)[0, 0] > 1e5
    assert limited(x)[:2, 0].tolist() == [0.5, -0.5]
    assert torch.equal(limited(x)[:, 0], free(x)[:, 0].clamp(-0.5, 0.5))
    assert torch.equal(limited(x)[:, 1], x[:, FEATURES.index("F")])  # 1 is above the limit and stays


def test_clip_may_be_an_integer(x):
    assert torch.equal(Prepare(FEATURES, clip=4).fit(x)(x), Prepare(FEATURES, clip=4.0).fit(x)(x))


def test_a_prepare_layer_rebuilt_from_its_state_is_the_same(x):
    fitted = Prepare(FEATURES, clip=1.0).fit(x)
    rebuilt = Prepare(FEATURES, clip=1.0)
    rebuilt.load_state_dict(fitted.state_dict())
    assert torch.equal(rebuilt(x), fitted(x))
    assert not list(fitted.parameters())  # gradients train nothing here
