"""Training of the bundled matchers on this project's own renderings.

One command per model trains it from seeds alone::

    python -m aquamvs.training lightglue --out trained/

The package is no part of matching: nothing imports it but its own command.
"""
