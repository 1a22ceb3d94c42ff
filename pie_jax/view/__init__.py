"""`pie view [OUT | PHOTO...]`: portraits on the screen, with sliders that answer at once, on this machine only."""

from pie_jax.cli.command import staged_main

main = staged_main("pie_jax.view", ahead=True)
