"""Flags from the fields of a config, so that a knob has its name, type and default in one place."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pie_jax.errors import UsageError

Config = TypeVar("Config")


def add_fields(parser: argparse.ArgumentParser, defaults: Any, fields: Sequence[str], *, prefix: str = "",
               help: Mapping[str, str] | None = None, choices: Mapping[str, Sequence[str]] | None = None) -> None:
    """A flag `--[PREFIX-]FIELD` for each of `fields` of the dataclass instance `defaults`, whose values it shows.

    Whole numbers, numbers and text keep their type, a bool becomes a switch, a tuple of whole numbers is written N,N.
    """
    for name in fields:
        value, flag = getattr(defaults, name), _flag(prefix, name)
        told = (help or {}).get(name, name.replace("_", " "))
        if isinstance(value, bool):
            parser.add_argument(flag, action="store_true", default=value, help=told)
        elif isinstance(value, tuple):
            parser.add_argument(flag, default=",".join(str(n) for n in value), metavar="N,N",
                                help=f"{told} (default: %(default)s)")
        else:
            parser.add_argument(flag, type=type(value), default=value, choices=(choices or {}).get(name),
                                help=f"{told} (default: %(default)s)")


def read_fields(arguments: argparse.Namespace, defaults: Config, fields: Sequence[str], *, prefix: str = "") -> Config:
    """`defaults` with `fields` as the flags of `add_fields` say. UsageError names the flag whose value does not fit."""
    changes = {}
    for name in fields:
        value, flag = getattr(arguments, _flag(prefix, name)[2:].replace("-", "_")), _flag(prefix, name)
        if isinstance(getattr(defaults, name), tuple):
            try:
                value = tuple(int(part) for part in value.split(","))
            except ValueError:
                raise UsageError(f"{flag}: expected whole numbers N,N, got {value!r}") from None
        changes[name] = value
    try:
        return dataclasses.replace(defaults, **changes)  # pyright: ignore[reportArgumentType]
    except ValueError as error:  # a config checks itself
        raise UsageError(str(error)) from None


def _flag(prefix: str, name: str) -> str:
    return "--" + (f"{prefix}-" if prefix else "") + name.replace("_", "-")
