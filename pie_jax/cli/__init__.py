"""What every command shares: parsing, exit codes, progress, signals, pictures. Imports no JAX until a command runs."""
