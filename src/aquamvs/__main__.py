"""``python -m aquamvs``: the command line, where the script folder is not on the path."""

import sys

from .cli import main

sys.exit(main())
