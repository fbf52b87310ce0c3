"""Networks trained fast: one by one, many in one batched program, and the ensemble of `rings`.

May import `model`, `settings`, `data` and `tracking`.
"""
