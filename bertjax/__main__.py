"""`python -m bertjax`, the same as the command `bertjax`."""

import sys

from bertjax.cli.main import main

sys.exit(main())
