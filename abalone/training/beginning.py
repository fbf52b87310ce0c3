"""Old path of ``initialization``, for ``benchmarks/bench_tuning.py``; to be deleted when that imports the new one."""

from abalone.training.initialization import targets

__all__ = ["targets"]
