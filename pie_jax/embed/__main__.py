"""`python -m pie_jax.embed`."""

import sys

from pie_jax.embed import main

sys.exit(main())
