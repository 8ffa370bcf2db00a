"""``python -m opdsl``: the command line."""

import sys

from opdsl.cli import main

sys.exit(main())
