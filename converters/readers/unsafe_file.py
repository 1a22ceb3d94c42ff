"""Why a file is not read, and the bounds that its declared sizes must keep."""

MAX_BYTES = 8 * 2**30  # all arrays of one file
MAX_RATIO = 200  # of inflated to stored bytes; weights compress by 1.1, tables of zeros by more
SMALL = 16 * 2**20  # below this no ratio is looked at
MAX_DEPTH = 200  # of nested containers
MAX_NODES = 200_000  # containers and leaves of one tree


class UnsafeFileError(ValueError):
    """What is wrong with the file's content; `read` adds its path and raises PackError."""


def check_size(what: str, declared: int, stored: int) -> None:
    """Refusal when `declared` bytes are more than a file of `stored` bytes may honestly hold."""
    if declared < 0 or declared > MAX_BYTES or (declared > SMALL and declared > MAX_RATIO * max(stored, 1)):
        raise UnsafeFileError(f"{what} declares {declared} bytes out of {stored} stored ones")
