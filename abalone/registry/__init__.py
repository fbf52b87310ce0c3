"""How a champion is chosen, promoted and rolled back, the pages that say so, and scoring a file with champions.

May import ``model``, ``settings``, ``data``, ``tracking``, ``training`` and ``evaluation``.
"""
