"""`python -m pie_jax.drive`."""

import sys

from pie_jax.drive import main

sys.exit(main())
