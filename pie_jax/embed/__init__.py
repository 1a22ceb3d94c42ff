"""`python -m pie_jax.embed PHOTO... -o OUT`: photos to embeddings, with pictures and figures of how well it went."""

from pie_jax.cli.command import staged_main

main = staged_main("pie_jax.embed", smaller="--micro-batch, then a smaller --batch")
