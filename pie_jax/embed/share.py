"""Which photos of a run are this process's own. Imports no JAX.

Every process names the same photos; each takes its share by their order alone, so that nobody has to ask another, and
a rerun with the same shares goes on with the same photos.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pie_jax.errors import UsageError

if TYPE_CHECKING:  # NumPy is behind it
    from pie_jax.embed.photos import Photo

_EXPLICIT = ("coordinator", "processes", "process")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """Part `index` (from 0) of `count` equal ones."""

    index: int = 0
    count: int = 1

    @property
    def name(self) -> str:
        """"" where it is the whole."""
        return f"{self.index}-of-{self.count}" if self.count > 1 else ""

    def of(self, photos: Sequence[Photo]) -> list[Photo]:
        """This share of the photos. Those that may want the same folder of results are in one share.

        That is: photos of the same name, and "face-2" where there is a "face", see `assign_folders`.
        """
        names = {_key(photo) for photo in photos}
        owners: dict[str, int] = {}
        for photo in photos:
            owners.setdefault(_family(_key(photo), names), len(owners))
        return [photo for photo in photos if owners[_family(_key(photo), names)] % self.count == self.index]


def _key(photo: Photo) -> str:
    return photo.path.stem.casefold()


def _family(name: str, names: set[str]) -> str:
    """`name` without the numbers that may have been put behind another of the `names`."""
    while (match := re.fullmatch(r"(.+)-\d+", name)) and match[1] in names:
        name = match[1]
    return name


def add_share(parser: argparse.ArgumentParser) -> None:
    """--share, --distributed, --coordinator, --processes, --process."""
    group = parser.add_argument_group("several processes or machines, with the same photos and the same -o for all")
    group.add_argument("--share", metavar="I/N", help="work on share I (from 0) of N; nobody has to know of the others")
    group.add_argument("--distributed", action="store_true",
                       help="be told the share by jax.distributed on Slurm, GKE, Open MPI or a TPU pod")
    group.add_argument("--coordinator", metavar="HOST:PORT",
                       help="be told it by jax.distributed anywhere: where process 0 listens")
    group.add_argument("--processes", type=int, metavar="N", help="with --coordinator: how many there are")
    group.add_argument("--process", type=int, metavar="I", help="with --coordinator: which one this is, from 0")
    group.add_argument("--wait", type=int, default=300, metavar="S", help="seconds to wait for all to have started")


def check_share(arguments: argparse.Namespace) -> None:
    """Raise UsageError for flags that contradict each other or name no share; set `arguments.share`: Share or None."""
    explicit = [name for name in _EXPLICIT if getattr(arguments, name) is not None]
    ways = [bool(arguments.share), arguments.distributed, bool(explicit)]
    if sum(ways) > 1:
        raise UsageError("--share, --distributed and --coordinator: give one of them")
    if explicit:
        for name in _EXPLICIT:
            if name not in explicit:
                raise UsageError(f"--{name}: needed with --{explicit[0]}")
        if not re.fullmatch(r"(\S+|\[\S+\]):\d{1,5}", arguments.coordinator):
            raise UsageError(f"--coordinator: expected HOST:PORT, got {arguments.coordinator!r}")
        _check("--process", arguments.process, arguments.processes)
    if arguments.wait < 1:
        raise UsageError(f"--wait: expected 1 or more seconds, got {arguments.wait}")
    if arguments.share is not None:
        match = re.fullmatch(r"(\d+)/(\d+)", arguments.share)
        if not match:
            raise UsageError(f"--share: expected I/N as 0/4, got {arguments.share!r}")
        arguments.share = Share(index=int(match[1]), count=int(match[2]))
        _check("--share", arguments.share.index, arguments.share.count)


def _check(flag: str, index: int, count: int) -> None:
    if count < 1:
        raise UsageError(f"{flag}: expected at least 1 process, got {count}")
    if not 0 <= index < count:
        raise UsageError(f"{flag}: expected 0 to {count - 1}, got {index}")


def find_share(arguments: argparse.Namespace) -> Share:
    """The share that the flags ask for; waits for the other processes where jax.distributed must be asked."""
    if arguments.share is not None:
        return arguments.share
    if arguments.coordinator is None and not arguments.distributed:
        return Share()
    from pie_jax import runtime
    from pie_jax.embed import rendezvous

    place = rendezvous.rendezvous(coordinator=arguments.coordinator, count=arguments.processes, index=arguments.process,
                           seconds=arguments.wait)
    runtime.set_visible_devices(place.visible_devices)
    return Share(index=place.index, count=place.count)
