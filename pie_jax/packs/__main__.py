"""`python -m pie_jax.packs status|verify|list`: what a pack holds, whether it is whole, which ones ship."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from pie_jax.cli import command
from pie_jax.errors import EXIT_OK, PackError
from pie_jax.pack.parts import PARTS, Part


def parser() -> command.Parser:
    """Flags of the command."""
    p = command.Parser(module="pie_jax.packs",
                       description="Packs: what one holds, whether it is whole, which ones ship.")
    command.add_debug(p)
    p.add_argument("--json", action="store_true", help="write to stdout as JSON")
    p.add_argument("action", choices=("status", "verify", "list"),
                   help="status: parts, sizes, hashes, licences, what is missing and where its owner publishes it; "
                        "verify: read every part and compare its hash; list: packs that ship")
    p.add_argument("pack", nargs="?", default="demo", metavar="DIR",
                   help="folder of a pack, or the name of one that ships")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code of errors.py."""
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    return command.guarded(lambda: _run(argv), debug=debug)


def _run(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
    if arguments.action == "list":
        return _list(arguments.json)
    return _status(arguments.pack, arguments.json) if arguments.action == "status" else _verify(arguments)


def _list(as_json: bool) -> int:
    import pathlib

    from pie_jax.pack import find_pack, read_manifest

    folders = sorted(p.parent for p in pathlib.Path(__file__).parent.glob("*/manifest.json"))
    rows = [_facts(find_pack(folder), read_manifest(folder)) for folder in folders]
    if as_json:
        print(json.dumps(rows, indent=1))
    elif not rows:
        print("no pack ships with this installation; make one: python -m pie_jax.training.demo_pack")
    for row in () if as_json else rows:
        print(f"{row['name']:<12} {row['resolution'] or '?':>5} px  {len(row['parts']):>2} parts  "
              f"{row['bytes'] / 2**20:6.1f} MiB  {row['licence'] or 'no licence named'}")
    return EXIT_OK


def _facts(folder, manifest) -> dict:
    from pie_jax.pack import configs_of, pack_hash

    generator = configs_of(manifest).generator
    entries = manifest.get("parts", {})
    training, own = manifest.get("training", {}), manifest.get("licence", "")
    parts = {name: {"bytes": entries[name].get("bytes", 0), "storage": entries[name].get("storage", ""),
                    "sha256": entries[name]["sha256"], "licence": training.get(name, {}).get("licence", own)}
             for name in PARTS if name in entries}
    missing = [name for name in PARTS if name not in entries]
    return {"name": manifest.get("name", folder.name), "folder": str(folder), "hash": pack_hash(manifest),
            "licence": own, "resolution": generator.resolution if generator else None,
            "architecture": generator.architecture if generator else None,
            "bytes": sum(part["bytes"] for part in parts.values()), "parts": parts,
            "missing": missing, "disabled": {name: _told(PARTS[name]) for name in missing},
            "training": training}


def _told(part: Part) -> dict[str, str]:
    return {name: getattr(part, name) for name in ("use", "disables", "published", "licence", "command")}


def _status(name: str, as_json: bool) -> int:
    from pie_jax.pack import find_pack, read_manifest

    folder = find_pack(name)
    facts = _facts(folder, read_manifest(folder))
    if as_json:
        print(json.dumps(facts, indent=1, sort_keys=True))
        return EXIT_OK
    generator = f"{facts['architecture']}, {facts['resolution']} px" if facts["resolution"] else "no generator yet"
    print(f"{facts['name']}  {generator}  {facts['bytes'] / 2**20:.1f} MiB  hash {facts['hash'][:12]}")
    print(f"{facts['folder']}\nlicence: {facts['licence'] or 'none named'}\n")
    print(f"{'part':<21}{'MiB':>8}  {'stored':<9}{'sha256':<14}{'steps':>8}  needed for")
    for part, entry in facts["parts"].items():
        steps = facts["training"].get(part, {}).get("steps", "")
        print(f"{part:<21}{entry['bytes'] / 2**20:>8.2f}  {entry['storage']:<9}{entry['sha256'][:12]:<14}{steps:>8}  "
              f"{PARTS[part].use}")
    for part, entry in facts["parts"].items():
        source = facts["training"].get(part, {}).get("converted_from", {}).get("file")
        if source or entry["licence"] != facts["licence"]:
            print(f"{part}: {f'from {source}; ' if source else ''}licence: {entry['licence'] or 'none named'}")
    if facts["missing"]:
        print("\nmissing (nothing is ever downloaded: get the file from its owner, or make the part)")
    for part in facts["missing"]:
        entry = PARTS[part]
        lines = (f"without it: {entry.disables}", f"published by: {entry.published}",
                 f"its licence: {entry.licence}", entry.command)
        print(f"{part:<21}" + f"\n{'':<21}".join(lines))
    for part, record in facts["training"].items():
        held_out = record.get("held_out") if isinstance(record, dict) else None
        if held_out:
            print(f"\n{part}, held out: " + ", ".join(f"{k} {v:.4g}" for k, v in _numbers(held_out)))
    return EXIT_OK


def _numbers(metrics: dict) -> list[tuple[str, float]]:
    return [(key, value) for key, value in metrics.items() if isinstance(value, int | float)]


def _verify(arguments) -> int:
    from pie_jax.pack import find_pack, load_pack, read_manifest

    folder = find_pack(arguments.pack)
    manifest = read_manifest(folder)
    results, problem = {}, None
    for part in PARTS:
        if part not in manifest.get("parts", {}):
            continue
        try:
            load_pack(folder, parts=(part,))
            results[part] = "ok"
        except PackError as error:
            results[part], problem = str(error), problem or error
    if arguments.json:
        print(json.dumps(results, indent=1))
    else:
        for part, result in results.items():
            print(f"{part:<21}{result}")
    if problem is not None:
        broken = [part for part, result in results.items() if result != "ok"]
        raise PackError(f"{folder}: {len(broken)} of {len(results)} parts cannot be used ({', '.join(broken)}); "
                        "download or make the pack again")
    if not results:
        raise PackError(f"{folder}: the pack has no parts; train or convert some first")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
