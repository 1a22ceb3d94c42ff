"""`python -m pie_jax.edit OUT/<name> --yaw 15 -o edited.png`: change an embedded portrait."""

from pie_jax.cli.command import staged_main

main = staged_main("pie_jax.edit", ahead=True)
