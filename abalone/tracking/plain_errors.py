"""Errors of stores and disks in one sentence, without the layers of libraries around them."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abalone.tracking import reachable
from abalone.tracking.locks import StoreFault

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_TEXT = os.strerror(errno.ENOSPC)


def explain(error: BaseException) -> str:
    """An error in one sentence, if it means a full disk, a locked database or a server that is away.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    str
        Otherwise the error's own text.
    """
    return fault(error) or reachable.explain(error)


def fault(error: BaseException) -> str:
    """What is wrong with a disk or a database, if that is the reason of an error; otherwise ""."""
    sentence = ""
    for cause in _causes(error):  # the last one is the first that was raised: what failed then only ended the run
        place = _full_place(cause)
        if place:
            sentence = f"the disk is full: {place} could not be written; free some space"
        elif isinstance(cause, StoreFault):
            sentence = str(cause)
    return sentence


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those because of which, or during which, it was raised."""
    while error is not None:
        yield error
        hidden = None if error.__suppress_context__ else error.__context__
        error = error.__cause__ or hidden


def _full_place(error: BaseException) -> str:
    """Path that could not be written because a disk is full; "" for other errors."""
    if isinstance(error, shutil.Error):  # of a copied folder: a list of source, target and reason
        full = [str(target) for _, target, reason in error.args[0] if FULL_TEXT in str(reason)]
        return full[0] if full else ""
    if isinstance(error, OSError) and error.errno in FULL:
        return str(error.filename2 or error.filename or "a file")  # of a copy, the second one is the target
    if isinstance(error, RuntimeError) and "unexpected pos" in str(error):  # all that torch says; MLflow saves there
        return tempfile.gettempdir()
    return ""


@contextmanager
def named(path: Path | str) -> Iterator[None]:
    """Within the block, let errors of the file system that name no file name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and not isinstance(error, shutil.Error):
            error.filename = str(path)
        raise
