"""The viewer as its user has it: the command, its socket and its page in a browser."""
