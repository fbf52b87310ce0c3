"""Everything that travels inside a logged model: columns, features, networks and the scorer of raw rows.

Imports nothing else of the project, and within itself only relatively, so that a copy works under any name.
"""
