"""What every training runs through: the loop, its checkpoints, its command line."""
