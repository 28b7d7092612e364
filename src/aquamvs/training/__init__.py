"""Training of the bundled matchers on this project's own renderings.

One command per model trains it from seeds alone::

    python -m aquamvs.training lightglue --out trained/

No stage imports this package; the benchmark of the matchers borrows its true warps.
"""
