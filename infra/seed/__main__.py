"""`python -m infra.seed`."""

import sys

from infra.seed import main

sys.exit(main(sys.argv[1:]))
