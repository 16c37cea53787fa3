"""`python -m spheremap` is the same as the `spheremap` command."""

import sys

from spheremap.cli import main

sys.exit(main())
