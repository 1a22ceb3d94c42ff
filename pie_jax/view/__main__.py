"""`python -m pie_jax.view`."""

import sys

from pie_jax.view import main

sys.exit(main())
