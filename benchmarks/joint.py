"""One embedding for pose, expression and light together, beside three embeddings that serve one control each.

    python -m benchmarks.joint --pack demo --preset fast --count 6 --out benchmarks/results/joint

Every portrait of the studio is embedded four times: for all controls (the pack's energy) and for each control alone. An
edit of one control is made on the joint embedding and on that control's own; chains of edits are made on all four,
because a portrait that is to be turned, lit and smiling needs one embedding. All are compared with the true edited
portrait over the region that the edit moves, beside the joint embedding left unedited. Rows (`joint.jsonl`) that exist
are skipped. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import warnings

from benchmarks.quality.embeddings import add_arguments, embedded, label_of, stages_of
from pie_jax.cli import command
from pie_jax.config import CONTROLS, EmbedConfig

JOINT = "joint"
SINGLE = ("yaw-15", "yaw+15", "azimuth-45", "azimuth+45", "smile+2", "jaw_open+2")
CHAINS = (("yaw+15", "smile+2"), ("yaw-15", "azimuth+45"), ("jaw_open+2", "azimuth-45"),
          ("yaw+15", "smile+2", "azimuth+45"))


def parser() -> argparse.ArgumentParser:
    result = command.Parser(module="benchmarks.joint", description=__doc__)
    command.add_debug(result)
    add_arguments(result, preset="search", count=6)
    result.add_argument("--out", default="runs/joint", metavar="DIR")
    return result


def configs_of(energy, stages) -> dict[str, EmbedConfig]:
    """Name of an embedding -> its config: the pack's own energy, and the same for one control alone."""
    alone = {control: dataclasses.replace(energy, controls=(control,)) for control in energy.controls}
    return {name: EmbedConfig(energy=one, stages=stages) for name, one in ({JOINT: energy} | alone).items()}


def request_of(edits) -> dict:
    """The arguments of one call of `edit_portrait` that makes all `edits`."""
    request: dict = {}
    for edit in edits:
        for name, value in edit.request.items():
            request[name] = request.get(name, {}) | value if name == "expression" else value
    return request


def row_of(pack, head, portrait, embeddings) -> dict:
    """PSNR of every embedding's synthesis; for each edit and chain the dB over its region, and the yaw that is read."""
    import numpy as np

    from benchmarks.quality.edits import EDITS, obtained, true_scene
    from benchmarks.quality.measure import MOVED, decibels, look
    from benchmarks.quality.portraits import render
    from pie_jax.portrait import ReachWarning, edit_portrait
    from pie_jax.portrait.request import expression_names

    named, names = {edit.name: edit for edit in EDITS}, expression_names(pack)
    row = {"psnr_db": {name: made.report["metrics"]["psnr_db"] for name, made in embeddings.items()}, "edits": {}}
    unedited = edit_portrait(pack, embeddings[JOINT])
    for parts in [(name,) for name in SINGLE] + list(CHAINS):
        edits, scene = [named[name] for name in parts], portrait.scene
        for edit in edits:
            scene = true_scene(head, scene, edit)
        truth = render(head, scene, resolution=portrait.image.shape[0]).image
        mask = np.abs(truth - portrait.image).max(-1) > MOVED
        found = {"unedited": {"region_db": decibels(unedited, truth, mask), "truth_db": decibels(unedited, truth)}}
        for name in embeddings if len(parts) > 1 else (JOINT, edits[0].control):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ReachWarning)
                image = edit_portrait(pack, embeddings[name], **request_of(edits))
            found[name] = {"region_db": decibels(image, truth, mask), "truth_db": decibels(image, truth)}
            if edits[0].quantity == "yaw":
                read = obtained(look(pack, [image]).params_vector[0], "yaw", names)
                found[name]["yaw_off_deg"] = abs(read - edits[0].asked)
        row["edits"][" ".join(parts)] = found
    return row


def summary(rows: list[dict]) -> dict:
    """Medians over portraits: gains in dB on the unedited over the region, and what the joint one loses to others."""
    import numpy as np

    def median(values):
        return float(np.median(values))

    out: dict = {"count": len(rows), "psnr_db": {name: median([row["psnr_db"][name] for row in rows])
                                                 for name in rows[0]["psnr_db"]}, "gain_db": {}, "yaw_off_deg": {}}
    for edit, found in rows[0]["edits"].items():
        of = {name: [row["edits"][edit][name] for row in rows] for name in found}
        bare = np.asarray([one["region_db"] for one in of["unedited"]])
        out["gain_db"][edit] = {name: median(np.asarray([one["region_db"] for one in values]) - bare)
                                for name, values in of.items() if name != "unedited"}
        if edit.startswith("yaw"):
            out["yaw_off_deg"][edit] = {name: median([one["yaw_off_deg"] for one in values])
                                        for name, values in of.items() if name != "unedited"}
    lost = [row["edits"][edit][control]["region_db"] - row["edits"][edit][JOINT]["region_db"]
            for row in rows for edit in SINGLE for control in row["edits"][edit] if control in CONTROLS]
    out["joint_behind_own_db"] = {"median": median(lost), "low": float(np.percentile(lost, 10)),
                                  "high": float(np.percentile(lost, 90))}
    return out


def table(figures: dict, *, title: str) -> str:
    """The figures for a terminal."""
    from benchmarks.quality.table import columns, number

    names = list(figures["psnr_db"])
    lines = [["gain on the unedited, dB", *names]]
    lines += [[edit, *(number(found.get(name)) for name in names)] for edit, found in figures["gain_db"].items()]
    lines.append(["PSNR of the synthesis, dB", *(number(figures["psnr_db"][name]) for name in names)])
    lines += [[f"{edit}: yaw off, degrees", *(number(found.get(name)) for name in names)]
              for edit, found in figures["yaw_off_deg"].items() if " " in edit]
    behind = figures["joint_behind_own_db"]
    return "\n".join([title, *columns(lines),
                      f"single edits: the control's own embedding is {behind['median']:+.2f} dB nearer than the joint "
                      f"(10 to 90 %: {behind['low']:.2f} to {behind['high']:.2f})"])


@command.guarded_main
def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    from benchmarks.quality.portraits import photograph
    from benchmarks.quality.rows import add, key_of, rounded, rows
    from pie_jax.pack import load_pack
    from pie_jax.runtime import configure
    from pie_jax.studio.head import build_head

    label = label_of(arguments)
    configure()
    pack, head, folder = load_pack(arguments.pack), build_head(), pathlib.Path(arguments.out)
    configs, key = configs_of(pack.configs.energy, stages_of(arguments)), key_of(pack, label)
    lines, kept = folder / "joint.jsonl", folder / "embeddings" / f"{key['pack']}_{label}"
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        if rows(lines, **key, seed=seed):
            continue
        portrait = photograph(head, seed, resolution=pack.configs.generator.resolution)
        embeddings = {name: embedded(pack, [portrait], config, kept / name)[0] for name, config in configs.items()}
        add(lines, key | {"seed": seed} | row_of(pack, head, portrait, embeddings))
        print(f"portrait {seed}", file=sys.stderr, flush=True)
    figures = rounded(summary(rows(lines, **key)))
    print(table(figures, title=f"Pack {pack.name} ({key['pack']}), preset {label}: {figures['count']} unseen people"))
    print(json.dumps(key | figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
