"""`python -m infra.bench`."""

import sys

from infra.bench.run import main

sys.exit(main(sys.argv[1:]))
