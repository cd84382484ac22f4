"""`python -m pase_msa` is `pase`."""

import sys

from pase_msa.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
