"""Errors a user can mend, and the exit code each one ends a command with.

Every message is one line: the file or argument, the cause, the next step.
"""


class PieError(Exception):
    """A failure with a cause and a next step; `exit_code` is what a command returns for it."""

    exit_code = 1


class UsageError(PieError):
    """The command line asks for something that does not exist (unknown control, component, preset)."""

    exit_code = 2


class InputError(PieError):
    """A photo, embedding or folder cannot be used."""

    exit_code = 3


class PackError(PieError):
    """A pack, or a part of it, is missing, damaged or of another kind."""

    exit_code = 4


class NoFaceError(InputError):
    """No face where one is needed."""

    exit_code = 5


class NumericsError(PieError):
    """A term or a gradient stopped being finite and could not be recovered."""

    exit_code = 6


class ResourceError(PieError):
    """Not enough memory, disk or permission to go on."""

    exit_code = 7


EXIT_OK = 0
EXIT_SOME_FAILED = 1
EXIT_INTERRUPTED = 130
