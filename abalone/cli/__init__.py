"""The command line: one command per entry point of MLproject, which parses its options, checks them and makes one call.

Torch, MLflow and pandas are imported inside the commands, so that ``--help`` and usage errors need none of them.
May import everything else.
"""
