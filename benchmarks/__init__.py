"""Speed and scores, measured side by side with what others would write.

Each ``bench_*`` module runs by ``python -m benchmarks.NAME``. Results are ratios within one run, so that they carry
over to other machines. ``pictures`` makes the pictures of README and docs.
"""
