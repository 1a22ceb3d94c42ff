"""`python -m pie_jax.edit`."""

import sys

from pie_jax.edit import main

sys.exit(main())
