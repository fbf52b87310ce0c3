"""Where the rows lie that a model was fitted on, and which rows they were.

A network answers for any row, also far from everything that it has learned from. So a model keeps the distribution of
each measurement of its rows, marks the rows beyond it, and can be compared with the rows of another population. It also
keeps a digest of each row, because a file that is to test the model must not contain rows that it was fitted on, and
their rings, from which the baseline is made. All of this travels with the model: it needs neither the tracking store
nor the run nor the data file.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .columns import MEASUREMENTS, SEXES

LEVELS = np.linspace(0, 1, 101)  # of the quantiles that are kept; the first and the last are the range
SUMMARY = {"min": 0, "5%": 5, "25%": 25, "50%": 50, "75%": 75, "95%": 95, "max": 100}  # places in LEVELS
DIGEST_BYTES = 8
DECIMALS = 6  # that count for a digest; the UCI file has four


def _join_names(code: int) -> str:
    """Names of the measurements whose bits are set in a number."""
    return ",".join(name for place, name in enumerate(MEASUREMENTS) if code >> place & 1)


BITS = 2 ** torch.arange(len(MEASUREMENTS))
NAMES = np.array([_join_names(code) for code in range(2 ** len(MEASUREMENTS))], dtype=object)


class TrainingRange:
    """Distribution, digests and rings of the rows that a model was fitted on.

    Parameters
    ----------
    quantiles : Tensor [7, 101], float64
        Quantiles of each measurement at ``LEVELS``, in the units of the UCI file.
    digests : Tensor [m], int64
        Digest of each row, see ``row_digests``.
    rings : Tensor [m], int64
        Number of rings of each row.
    """

    def __init__(self, quantiles: Tensor, digests: Tensor, rings: Tensor):
        self.quantiles = quantiles
        self.digests = digests
        self.rings = rings
        # Compared as the networks see them, in float32: the largest training row must not be outside.
        self.low = quantiles[:, 0].float()
        self.high = quantiles[:, -1].float()

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Self:
        """Measure the rows that a model was fitted on.

        Parameters
        ----------
        frame : DataFrame [m, at least 9]
            Checked rows with ``Rings``.
        """
        measured = frame[list(MEASUREMENTS)].to_numpy(dtype=np.float64)
        quantiles = np.quantile(measured, LEVELS, axis=0)  # [101, 7]
        return cls(
            quantiles=torch.from_numpy(quantiles.T.copy()),
            digests=torch.from_numpy(row_digests(frame)),
            rings=torch.tensor(frame["Rings"].to_numpy(dtype=np.int64)),
        )

    def state(self) -> dict[str, Tensor]:
        """Return the arguments of the constructor, which torch saves and loads without unpickling."""
        return {"quantiles": self.quantiles, "digests": self.digests, "rings": self.rings}

    def outside(self, x: Tensor) -> np.ndarray:
        """Name the measurements of each row that are smaller or larger than in any row that was fitted.

        Parameters
        ----------
        x : Tensor [n, 10], float32
            Encoded rows.

        Returns
        -------
        ndarray [n] of str
            Names separated by commas; empty if there are none.
        """
        measured = x[:, len(SEXES) :]
        is_outside = (measured < self.low) | (measured > self.high)  # [n, 7]
        return NAMES[(is_outside * BITS).sum(1).numpy()]

    def contains(self, frame: pd.DataFrame) -> np.ndarray:
        """Find the rows, by sex and measurements, that the model was fitted on.

        Parameters
        ----------
        frame : DataFrame [n, at least 8]
            Checked rows.

        Returns
        -------
        ndarray [n], bool
        """
        return np.isin(row_digests(frame), self.digests.numpy())

    def summary(self) -> dict[str, dict[str, float]]:
        """Return the range and a few quantiles of each measurement, for people."""
        described = {}
        for name, values in zip(MEASUREMENTS, self.quantiles.tolist()):
            described[name] = {level: round(values[place], DECIMALS) for level, place in SUMMARY.items()}
        return described


def row_digests(frame: pd.DataFrame) -> np.ndarray:
    """Return a digest of sex and measurements of each row.

    The number of rings is left out: an animal that was counted again is still one that the model has learned from.

    Parameters
    ----------
    frame : DataFrame [n, at least 8]
        Checked rows.

    Returns
    -------
    ndarray [n], int64
    """
    sex = pd.Index(SEXES, dtype=object).get_indexer(frame["Sex"])
    measured = frame[list(MEASUREMENTS)].to_numpy(dtype=np.float64)
    values = np.column_stack([sex, (measured * 10**DECIMALS).round()]).astype("<i8")  # [n, 8]
    digests = b"".join(blake2b(row.tobytes(), digest_size=DIGEST_BYTES).digest() for row in values)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)
