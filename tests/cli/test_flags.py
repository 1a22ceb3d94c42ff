"""Flags made from a config, and the config read back from them."""

import dataclasses

import pytest

from pie_jax.cli.command import Parser
from pie_jax.cli.flags import add_fields, read_fields
from pie_jax.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy:
    width: int = 8
    sizes: tuple[int, ...] = (1, 2)
    rate: float = 0.5
    kind: str = "a"
    deep: bool = False
    untouched: int = 3

    def __post_init__(self):
        if self.width < 1:
            raise ValueError(f"width: expected 1 or more, got {self.width}")


FIELDS = ("width", "sizes", "rate", "kind", "deep")


def parse(*argv, prefix=""):
    parser = Parser(module="toy")
    add_fields(parser, Toy(untouched=9), FIELDS, prefix=prefix, choices={"kind": ("a", "b")}, help={"width": "of it"})
    return read_fields(parser.parse_args(argv), Toy(untouched=9), FIELDS, prefix=prefix)


def test_defaults_and_changes_come_back():
    assert parse() == Toy(untouched=9)
    changed = parse("--width", "4", "--sizes", "3,5,7", "--rate", "0.1", "--kind", "b", "--deep")
    assert changed == Toy(width=4, sizes=(3, 5, 7), rate=0.1, kind="b", deep=True, untouched=9)
    assert parse("--weight-rate", "2", prefix="weight") == Toy(rate=2.0, untouched=9)


@pytest.mark.parametrize("argv,says", [(("--sizes", "3,x"), "--sizes"), (("--kind", "c"), "kind"),
                                       (("--width", "1.5"), "width"), (("--width", "0"), "width: expected 1 or more")])
def test_what_does_not_fit_is_named(argv, says):
    with pytest.raises(UsageError, match=says):
        parse(*argv)
