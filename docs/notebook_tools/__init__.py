"""Builds the tutorial notebooks from their scripts, and checks that the two still agree.

The script in ``notebooks_src`` is the source; the notebook in ``docs/tutorial`` is built from it by
executing it. Run through ``docs/notebooks.py``.
"""
