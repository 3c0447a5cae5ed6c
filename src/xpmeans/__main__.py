"""``python -m xpmeans``: the command line without its script."""

import sys

from xpmeans.cli import main

sys.exit(main())
