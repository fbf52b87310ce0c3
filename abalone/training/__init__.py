"""Fast training: one network, many networks in one batched program, and the ensemble of ``rings``.

May import ``model``, ``settings``, ``data`` and ``tracking``.
"""
