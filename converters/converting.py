"""What every converter's command shares: options, the printed table, --check, and writing the part into a pack.

    def convert(checkpoint, arguments) -> Converted: ...            # a converter's own part
    def recognise(checkpoint) -> str | None: ...                     # is the file of this kind?
    def forward(converted, reference) -> dict[str, array]: ...       # outputs that --check compares
    def main(argv=None) -> int:
        return run(argv, kind="stylegan", description=..., convert=convert, recognise=recognise, forward=forward)
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters.prefixes import under_prefix
from converters.readers import Checkpoint, read
from converters.table import USED, Mismatch, Table
from pie_jax.cli import command
from pie_jax.errors import EXIT_OK, PackError, PieError, ResourceError, UsageError
from pie_jax.io import cause_of, shown

TOLERANCE = 1e-4  # largest relative error of --check, float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Converted:
    """One part of a pack, ready to be written."""

    part: str  # one of pie_jax.pack.PARTS
    weights: Any  # nested dict of float32 arrays, or a MorphableModel
    config: Any  # the network's config; None for "morphable"
    layout: str  # whose layout the file has, such as "rosinality/stylegan2-pytorch"
    licence: str  # the terms under which its owner publishes files of this layout, as far as the layout tells
    table: Table
    notes: tuple[str, ...] = ()  # what the user should know: substitutes, padding, what was inferred
    camera: Any = None  # a CameraConfig that goes with the part, or None


Convert = Callable[[Checkpoint, argparse.Namespace], Converted]
Forward = Callable[[Converted, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def parser(kind: str, description: str) -> command.Parser:
    """The options that all converters have; a converter may add its own."""
    p = command.Parser(module=f"converters.{kind}", description=description)
    p.add_argument("file", metavar="FILE", help="the checkpoint as its owner publishes it")
    p.add_argument("--pack", metavar="DIR", help="folder of the pack to write the part into (made if it is not there)")
    p.add_argument("--name", help="name of the pack in its manifest (its folder's, if it is new and none is given)")
    p.add_argument("--licence", metavar="TEXT", help="the file's licence, for the manifest (else the usual one)")
    p.add_argument("--storage", choices=("float32", "float16"), default="float32",
                   help="float16 halves the size and is off by up to 1e-3 relative")
    p.add_argument("--check", metavar="REFERENCE.npz", help="compare a forward pass with stored inputs and outputs")
    p.add_argument("--tolerance", type=float, default=TOLERANCE, help="largest relative error that --check accepts")
    p.add_argument("--dry-run", action="store_true", help="read, account for every tensor, check; write nothing")
    p.add_argument("--json", action="store_true", help="write the results to stdout as JSON")
    command.add_debug(p)
    return p


def run(argv: Sequence[str] | None, *, kind: str, description: str, convert: Convert,
        recognise: Callable[[Checkpoint], Any], forward: Forward | None = None,
        extra: Callable[[command.Parser], None] | None = None) -> int:
    """A converter's whole command; the exit code of pie_jax/errors.py."""
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    return command.guarded(
        lambda: in_memory(lambda: _run(argv, kind, description, convert, recognise, forward, extra)), debug=debug)


def in_memory(work: Callable[[], int]) -> int:
    """`work()`; ResourceError where memory runs out, because a converter has no smaller --batch to offer."""
    try:
        return work()
    except MemoryError as error:
        raise ResourceError("not enough memory to convert it; close other programs, or use a larger machine") from error


def _run(argv, kind, description, convert, recognise, forward, extra) -> int:
    p = parser(kind, description)
    if extra is not None:
        extra(p)
    arguments = p.parse_args(argv)
    if not arguments.pack and not arguments.dry_run:
        raise UsageError("give --pack DIR to write the part into, or --dry-run to look only")
    if arguments.check and forward is None:
        raise UsageError("--check: this converter has no forward pass to compare")
    command.configure("cpu")  # float32 as it is written; no accelerator is needed
    checkpoint = under_prefix(read(arguments.file), recognise)
    try:
        converted = converted_by(convert, checkpoint, arguments)
    except Mismatch as mismatch:
        if arguments.json:
            print(json.dumps({"file": str(checkpoint.path), "format": checkpoint.format, "error": str(mismatch),
                              "tensors": mismatch.table.to_json()}, indent=1))
        else:
            print(mismatch.table.text())
        raise
    if arguments.licence:
        converted = dataclasses.replace(converted, licence=arguments.licence)
    validate(converted, where=checkpoint.path)
    if not arguments.json:
        print(converted.table.text())
        print(f"{checkpoint.path.name}: {checkpoint.format}, layout {converted.layout}, part {converted.part}")
    errors = compare(converted, arguments.check, forward, tolerance=arguments.tolerance) if arguments.check else {}
    if not arguments.dry_run:
        write(arguments.pack, converted, checkpoint, name=arguments.name, storage=arguments.storage)
    if arguments.json:
        print(json.dumps(facts(converted, checkpoint) | {"check": errors, "written": not arguments.dry_run}, indent=1))
        return EXIT_OK
    for note in converted.notes:
        print(f"note: {note}")
    for name, error in errors.items():
        print(f"check {name}: largest relative error {error:.2e}")
    print("nothing written (--dry-run)" if arguments.dry_run else f"{converted.part} written to {arguments.pack}")
    return EXIT_OK


def converted_by(convert: Convert, checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    """`convert(checkpoint, arguments)`, its prefix told; PackError where a file only looks like one of its kind."""
    prefix = checkpoint.prefix
    try:
        converted = convert(checkpoint, arguments)
        if not prefix:
            return converted
        aside = f"; {checkpoint.aside} other arrays of the file are left out" if checkpoint.aside else ""
        return dataclasses.replace(converted, table=dataclasses.replace(converted.table, prefix=prefix), notes=(
            *converted.notes, f"all names begin with {prefix!r}, which is taken off{aside}"))
    except Mismatch as mismatch:
        mismatch.table = dataclasses.replace(mismatch.table, prefix=prefix)
        raise
    except PieError:
        raise
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        place = f"at {checkpoint.lookups[0]}: " if checkpoint.lookups else ""
        what = f"lacks {error}" if isinstance(error, KeyError) else f"{place}{cause_of(error)}"
        raise PackError(f"{shown(checkpoint.path)}: looks like one of its kind, but cannot be converted ({what}); use "
                        "a file as its owner publishes it") from error


def facts(converted: Converted, checkpoint: Checkpoint) -> dict[str, Any]:
    """The conversion as plain containers."""
    from pie_jax.config import to_dict

    return {"file": str(checkpoint.path), "format": checkpoint.format, "layout": converted.layout,
            "part": converted.part, "config": None if converted.config is None else to_dict(converted.config),
            "licence": converted.licence, "notes": list(converted.notes), "summary": converted.table.summary(),
            "tensors": converted.table.to_json()}


def validate(converted: Converted, *, where: Any) -> None:
    """PackError unless a network's weights are exactly what its module declares (jax.eval_shape)."""
    from pie_jax.pack import PackConfigs, check_weights, is_network

    if is_network(converted.part):
        try:
            check_weights(converted.part, converted.weights, PackConfigs().with_part(converted.part, converted.config),
                          where=str(where))
        except PackError as error:
            sources = [row.name for row in converted.table.rows for target in row.note.split(", ")
                       if row.status == USED and f"/{target} " in f"{error} "]
            raise PackError(f"{error}; made of {', '.join(sources[:8])}" if sources else str(error)) from error


def write(pack: str | Path, converted: Converted, checkpoint: Checkpoint, *, name: str | None = None,
          storage: str = "float32") -> None:
    """Write the part into `pack`; the manifest's record of it says which file it is, its hash, layout and licence.

    Errors: PackError (another generator's rigs in the pack and the like), ResourceError (disk, permission).
    """
    from pie_jax.pack import update_configs, update_part

    path = checkpoint.path
    source = {"file": path.name, "format": checkpoint.format, "layout": converted.layout,
              "sha256": checkpoint.sha256(), "bytes": 0 if path.is_dir() else path.stat().st_size}
    record = {"converted_from": source, "licence": converted.licence, "notes": list(converted.notes),
              "tensors": converted.table.summary()}
    update_part(pack, converted.part, converted.weights, config=converted.config, record=record, storage=storage,
                check=False)
    if converted.camera is not None or name:
        more: dict[str, Any] = {"name": name} if name else {}
        update_configs(pack, camera=converted.camera, **more)


def compare(converted: Converted, reference: str | Path, forward: Forward, *, tolerance: float) -> dict[str, float]:
    """Largest relative error (of the output's largest magnitude) of every output that `forward` computes.

    Errors: PackError where the reference lacks the inputs or outputs, or an error is above `tolerance`.
    """
    stored = read(reference)
    if stored.format != "npz":
        raise PackError(f"{reference}: expected an .npz of inputs and outputs; write one with numpy.savez")
    arrays = stored.state_dict()
    outputs = forward(converted, arrays)
    if not outputs:
        raise PackError(f"{reference}: no input and output that the {converted.part} knows among "
                        f"{', '.join(sorted(arrays)) or 'none'}; see the converter's --help")
    errors = {}
    for key, got in outputs.items():
        due, got = np.asarray(arrays[key], np.float64), np.asarray(got, np.float64)
        if due.shape != got.shape:
            raise PackError(f"{reference}: {key} has shape {list(due.shape)}, the forward pass gives {list(got.shape)}")
        errors[key] = float(np.abs(got - due).max() / max(np.abs(due).max(), 1e-30))
        if not errors[key] <= tolerance:
            raise PackError(f"{reference}: {key} differs by {errors[key]:.2e} relative, more than {tolerance:.0e}; "
                            "the reference is of other weights, or the conversion is wrong")
    return errors
