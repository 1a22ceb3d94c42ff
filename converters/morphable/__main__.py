"""`python -m converters.morphable`."""

import sys

from converters.morphable.command import main

if __name__ == "__main__":
    sys.exit(main())
