"""`python -m harness.cli`: the command line without its script."""

import sys

from harness.cli import main

sys.exit(main())
