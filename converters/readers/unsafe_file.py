"""Why a file is not read, said in one bounded line."""

import reprlib
from typing import Any

ANOTHER_FILE = "download it again from its owner's page, or use another file"
STATE_DICT_ALONE = ("where you have the program that made it, save the state dict alone: "
                    "torch.save(network.state_dict(), FILE)")


class UnsafeFileError(ValueError):
    """What is wrong with the file's content; `read` adds its path and the `advice`, and raises PackError."""

    def __init__(self, what: str, *, advice: str = ANOTHER_FILE):
        super().__init__(what)
        self.advice = advice


_brief = reprlib.Repr()
_brief.maxlevel, _brief.maxother, _brief.maxstring = 2, 60, 60


def brief(value: Any) -> str:
    """A value of a file for a message: short, whatever it holds; a repr would unfold what it shares."""
    return " ".join(_brief.repr(value).split())[:100]
