"""The code of an abalone model: its columns, its features, its networks, and the scorer that takes raw rows.

Every logged model carries a copy of this package in its ``code`` folder, under a name that ends in a digest of these
files, and always answers with that copy. So the package imports nothing else of the project, and its modules import
each other relatively: a copy works under any name.
"""
