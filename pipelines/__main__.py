"""`python -m pipelines` is `blocknerf`."""

import sys

from pipelines.cli import main

sys.exit(main())
