"""`python -m converters.stylegan FILE --pack DIR`."""

import sys

from converters.stylegan.convert import main

if __name__ == "__main__":
    sys.exit(main())
