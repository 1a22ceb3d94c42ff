"""`pie drive PHOTO --by VIDEO|FOLDER|OTHER`: a photo that moves as another person does."""

from pie_jax.cli.command import staged_main

main = staged_main("pie_jax.drive", ahead=True)
