"""The tables of README and docs, made from the committed rows.

    python -m benchmarks.tables            # writes every table anew
    python -m benchmarks.tables --check    # exit code 1 where a page is stale; writes nothing

A page holds a table between `<!-- table: NAME -->` and `<!-- end -->`. NAME is a key of `TABLES`; what stands between
the two lines is replaced.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import pathlib
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence

from pie_jax.cli import command

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", flags=re.S)
_STEP_KEY = ("pack", "batch", "samples", "controls", "precision", "cores", "jax")
_QUANTITY_NAMES = {"azimuth": "light azimuth", "elevation": "light elevation"}


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of texts."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def rows_of(name: str) -> list[dict]:
    """The rows of one JSONL file under benchmarks/results."""
    return [json.loads(line) for line in (RESULTS / name).read_text().splitlines()]


def pack_hash() -> str:
    """The hash of the demo pack that the shown quality rows were measured on."""
    return _summary()["pack"]


# ------------------------------------------------------------------------------------------- quality
@functools.cache
def _summary() -> dict:
    return json.loads((RESULTS / "quality" / "summary.json").read_text())


def _compared(names: Sequence[str]) -> dict:
    from benchmarks.quality.presets import compare

    found: dict[str, dict[int, dict]] = {name: {} for name in names}
    key = {name: _summary()[name] for name in ("pack", "calibration", "of")}
    for row in rows_of("quality/portraits.jsonl"):
        if row["preset"] in found and all(row[name] == value for name, value in key.items()):
            found[row["preset"]][row["seed"]] = row
    return compare(found, names)


def presets(first: str, second: str) -> str:
    """Two presets side by side, over the people that both embedded."""
    from benchmarks.quality.presets import COMPARED

    compared = _compared((first, second))
    rows = []
    for name, (unit, _) in COMPARED.items():
        each = compared[name]
        medians = [f"{each[preset]['median']:.3f}" if abs(each[preset]["median"]) < 1 else
                   f"{each[preset]['median']:.1f}" for preset in (first, second)]
        lead, error = each[first]["lead"], each[first]["error"]
        digits = max(0, 1 - math.floor(math.log10(error))) if error > 0 else 2  # two digits of the error
        rows.append((f"{name}, {unit}" if unit else name, *medians, f"{lead:+.{digits}f} ± {error:.{digits}f}"))
    return markdown((f"median of {len(compared['people'])} people", first, second, f"{first} - {second}"), rows)


def fidelity() -> str:
    """Synthesis, likeness and seconds of the default preset."""
    found = _summary()
    rows = (("synthesis against the portrait, PSNR", f"{found['psnr_median']:.1f} dB"),
            ("synthesis against the portrait, SSIM", f"{found['ssim_median']:.2f}"),
            ("sharpness of the face, of the portrait's", f"{found['sharpness_median']:.2f}"),
            ("identity cosine of the synthesis, by a network that no energy has seen",
             f"{found['identity_cosine_median']:.3f}"),
            ("identity cosine of edits, of that of the true edits", f"{found['identity_cosine_ratio']:.2f}"),
            ("yaw of the edits to -15, 0 and 15 degrees in order", f"{found['yaw_in_order']} of {found['count']}"),
            ("landmarks of an edit off the true ones, of 128 px", f"{found['landmark_px128_median']:.1f} px"),
            ("to embed a portrait", f"{found['seconds_per_portrait']:.0f} s"),
            ("to edit it", f"{found['seconds_per_edit_median']:.2f} s"))
    return markdown((f"median of {found['count']} people", ""), rows)


def edits() -> str:
    """What was asked against what came, and how near edits are to the true edited portraits."""
    found, rows = _summary(), []
    for name, accuracy in found["accuracy"].items():
        group = "light" if name == "azimuth" else name
        angle = name in ("yaw", "pitch", "azimuth", "elevation")
        rows.append((_QUANTITY_NAMES.get(name, name), f"{accuracy['slope']:.2f}",
                     f"{accuracy['mae']:.2f}{' degrees' if angle else ''}", *(
            f"{found[key][group]:{form}}" if group in found[key] else ""
            for key, form in (("truth_db", ".1f"), ("truth_gain_db", "+.1f"), ("face_gain_db", "+.1f"),
                              ("region_gain_db", "+.1f")))))
    head = ("edit", "slope", "mean error", "dB to the truth", "gain, dB", "in the face", "where it moves")
    return markdown(head, rows)


def mouth() -> str:
    """The mouth region: how many people an edit brings nearer to the truth, and the error left."""
    found, rows = _summary(), []
    for name, count in found["mouth_closer"].items():
        own = found["mouth_farther"][name]
        rows.append((name, f"{count} of {found['count']}", f"{found['mouth_error_ratio'][name]:.2f}",
                     f"{own['closer']} of {found['count']}", f"{own['error_ratio']:.2f}"))
    error = "error, of the unedited"
    return markdown(("edit", "to 2: nearer", error, "own edit: nearer", error), rows)


def response() -> str:
    """How the generator's change compares with the true rendering's, one factor moved."""
    rows = [(name, f"{one['cosine']:.2f}", f"{one['gain']:.2f}") for name, one in _summary()["response"].items()]
    return markdown(("factor", "cosine", "gain"), rows)


def ablation() -> str:
    """The paper's claims, asked of the rows of the shipped pack."""
    from benchmarks.ablation.claims import claims

    rows = [row for row in rows_of("ablation/ablation.jsonl") if row["pack"] == pack_hash()]
    return markdown(("claim", "verdict", "mean", "spread", "agree"), [
        (one["says"], one["verdict"], f"{one['difference']:+.2g}", f"{one['spread']:.2g}",
         f"{one['agree']} of {one['portraits']}") for one in claims(rows).values()])


def joint() -> str:
    """One embedding for all controls beside one for a control alone, gain over the unedited where the edit moves."""
    from benchmarks.joint import summary

    found = summary([row for row in rows_of("joint/joint.jsonl") if row["pack"] == pack_hash()])
    names = list(found["psnr_db"])
    rows = [("synthesis, dB", *(f"{value:.1f}" for value in found["psnr_db"].values()))]
    rows += [(f"{edit}, gain in dB", *(f"{gains[name]:+.1f}" if name in gains else "" for name in names))
             for edit, gains in found["gain_db"].items()]
    rows += [(f"{edit}, yaw off by, degrees", *(f"{off[name]:.2f}" if name in off else "" for name in names))
             for edit, off in found["yaw_off_deg"].items()]
    return markdown((f"median of {found['count']} people", *names), rows)


def precision() -> str:
    """bfloat16 beside float32, on the same people."""
    from benchmarks.precision.__main__ import summary

    key = {"pack": pack_hash(), "preset": "fast"}
    lines, networks = ([row for row in rows_of(f"precision/{name}.jsonl") if key.items() <= row.items()]
                       for name in ("embeddings", "networks"))
    found = summary(lines, networks)
    rows = [(name, f"{found[name]['psnr_db']:.2f}", f"{found[name]['truth_error']:.4f}",
             f"{found[name]['ms_step']:.0f}") for name in ("float32", "bfloat16")]
    return markdown((f"median of {found['count']} people", "PSNR, dB", "error of edits to the truth, of 1",
                     f"ms a step, {lines[-1]['cores']} core, {lines[-1]['device']}"), rows)


# --------------------------------------------------------------------------------------- performance
def _step_runs() -> dict[tuple, dict[tuple[str, str], dict]]:
    """Key of a case -> (case, implementation) -> its row, of the last run that has a whole step."""
    runs: dict[tuple, dict[tuple[str, str], dict]] = {}
    for key, group in itertools.groupby(rows_of("steps/rows.jsonl"),
                                        key=lambda row: (*(row[name] for name in _STEP_KEY), row["commit"])):
        run: dict[tuple[str, str], dict] = {}
        for row in group:
            if row["case"] == "step" and row["implementation"] == "pie_jax":
                run = {}  # the same case was timed once more
            run[row["case"], row["implementation"]] = row
        if ("step", "pie_jax") in run:
            runs[key[:-1]] = run
    return dict(sorted(runs.items()))


def _machine(row: Mapping) -> str:
    return f"{row['cores']} core{'s' if row['cores'] > 1 else ''}, JAX {'.'.join(row['jax'].split('.')[:2])}"


def _place(row: Mapping) -> str:
    pack = "demo pack" if row["pack"] == "demo" else "random weights"
    return f"{pack}, {row['resolution']} px, {_machine(row)}"


def steps_torch() -> str:
    """How many times as fast as PyTorch, from the milliseconds of one run each."""
    rows = []
    for run in _step_runs().values():
        if ("step", "eager_fused") not in run:
            continue
        jax_ms = [run.get((case, "pie_jax"), {}).get("ms") for case in ("step", "mean step", "synthesis")]
        cells = []
        for peer in ("eager_fused", "eager_best", "compile"):
            torch_ms = [run.get((case, peer), {}).get("ms") for case in ("step", "step", "synthesis")]
            cells.append("; ".join(f"{b / a:.1f}" if a and b else "-" for a, b in zip(jax_ms, torch_ms, strict=True)))
        rows.append((_place(run["step", "pie_jax"]), *cells))
    return markdown(("step; mean step of `quick`; synthesis", "eager, fused weights", "eager, best form",
                     "`torch.compile`"), rows)


def parity() -> str:
    """How far a step is from PyTorch's, and painting edits to 512 px from painting them whole; worst of the runs."""
    found = [row for run in _step_runs().values() for row in run.values() if row.get("parity_energy") is not None]
    shown = {"parity_energy": "energy, beside PyTorch", "parity_gradient": "gradient, beside PyTorch",
             "parity_kink": "gradient where a code lies on a kink of a ReLU, beside PyTorch",
             "edit_energy": "energy, edited portraits painted only as far as they are read, beside whole"}
    return markdown(("what", "relative difference, worst"), [
        (text, f"{max(row[name] for row in found if row.get(name) is not None):.0e}") for name, text in shown.items()])


def steps_times() -> str:
    """Milliseconds of a whole step and of the mean step of `quick`, and the seconds to make its program."""
    rows = []
    for run in _step_runs().values():
        row, mean = run["step", "pie_jax"], run.get(("mean step", "pie_jax"))
        rows.append((_place(row), f"{row['batch']}", f"{row['samples']}", f"{row['controls']}", row["precision"],
                     f"{row['ms']:.0f}", f"{mean['ms']:.0f}" if mean else "",
                     f"{row['trace_s']:.1f}" if row.get("trace_s") is not None else "",
                     f"{row['compile_s']:.1f}" if row.get("compile_s") is not None else ""))
    return markdown(("case", "portraits", "samples of v", "controls", "precision", "step, ms",
                     "mean step of `quick`, ms", "trace, s", "compile, s"), rows)


def raster() -> str:
    """Rasterizing alone and rendering with shading, forward and with the gradient; rasterizing beside PyTorch."""
    found: dict[tuple, dict[str, dict]] = {}
    for row in rows_of("raster.jsonl"):
        key = (row["mesh"], row["resolution"], row["cores"], row["jax"])
        found.setdefault(key, {})[row["case"]] = row
    cases = ("raster_forward", "raster_gradient", "render_forward", "render_gradient")
    rows = []
    for one in found.values():
        row, ratio = one[cases[0]], one["raster_gradient"].get("ratio")
        rows.append((f"{row['vertices']} vertices, {row['resolution']} px, {_machine(row)}",
                     *(f"{one[case]['ms']:.1f}" for case in cases), f"{ratio:.1f}" if ratio else ""))
    return markdown(("mesh", *(f"{case.replace('_', ', ')}, ms" for case in cases), "times as fast as PyTorch"), rows)


def startup() -> str:
    """Seconds to the first step: the first start compiles, the second finds what was compiled."""
    last = {row["what"]: row for row in rows_of("startup.jsonl")}
    parts = ("import_s", "trace_s", "compile_s")
    return markdown((f"{next(iter(last.values()))['cores']} core", "seconds", "import", "trace", "compile"), [
        (name, f"{row['wall_s']:.1f}", *(f"{row[key]:.1f}" if key in row else "" for key in parts))
        for name, row in last.items()])


def scaling() -> str:
    """How processor time grows with each quantity; a slope of 1 is proportional."""
    from benchmarks.growth import verdict
    from benchmarks.scaling import latest

    groups = itertools.groupby(latest(rows_of("scaling/rows.jsonl")), key=lambda row: row["quantity"])
    rows = []
    for name, group in groups:
        found = list(group)
        grown = verdict(found)
        rows.append((name, f"{found[0]['size']} to {found[-1]['size']}", f"{grown['slope']:.2f}", grown["verdict"],
                     f"{found[0]['cpu_ms'] / 1e3:.3g}", f"{found[-1]['cpu_ms'] / 1e3:.3g}"))
    return markdown(("quantity", "sizes", "slope", "verdict", "processor seconds, smallest", "largest"), rows)


def cluster() -> str:
    """What many photos cost, multiplied from one."""
    from benchmarks.scaling import PHOTOS, latest, summary

    found = summary(latest(rows_of("scaling/rows.jsonl")))
    hours = found[f"hours_{PHOTOS}_photos_one_core"]
    rows = (("processor seconds of a photo, default preset, without compiling, reading and writing",
             f"{found['cpu_s_photo']:.1f}"),
            (f"hours of one core for {PHOTOS} photos (multiplied)", f"{hours:.0f}"),
            ("hours of 64 such cores (divided)", f"{hours / 64:.1f}"),
            ("more processor time of a photo on eight virtual devices of one core than on one",
             f"{found['sharding_overhead']:.0%}"),
            ("more peak memory from 30 to 300 steps, MB", f"{found['memory_growth_mb_steps']:.0f}"),
            ("more peak memory from 1 to 8 photos, MB", f"{found['memory_growth_mb_photos']:.0f}"))
    return markdown(("many photos", ""), rows)


def commands() -> str:
    """Seconds and gigabytes of whole commands; of one command and case the last row."""
    timed = (row for row in rows_of("commands.jsonl") if "wall_s" in row or "cpu_s" in row)
    last = {(row["command"], row["what"]): row for row in timed}

    def cell(row, key, *, scale=1.0):
        return f"{row[key] / scale:.3g}" if key in row else ""

    return markdown(("command", "case", "seconds", "processor seconds", "GB"), [
        (f"`{command.removeprefix('python -m ')}`", what, cell(row, "wall_s"), cell(row, "cpu_s"),
         cell(row, "memory_gb") or cell(row, "peak_mb", scale=1e3)) for (command, what), row in last.items()])


def photos() -> str:
    """Photographs embedded with the demo pack, which is no model of them."""
    rows = [row for row in rows_of("commands.jsonl") if "photo-real" in row["what"]]
    return markdown(("photo-real portrait", "PSNR, dB", "SSIM", "landmarks off, of 224 px"), [
        (row["what"].split()[2], f"{row['psnr_db']:.1f}", f"{row['ssim']:.2f}", f"{row['landmark_px224']:.1f}")
        for row in rows])


_PHOTO_LINES = (
    ("pairs_gain_db", "smile of another photo of the same person: gain over the unedited photo, dB, {pairs} pairs"),
    ("pairs_better", "of them better than unedited"), ("pairs_teeth_gain_db", "gain where teeth show, dB"),
    ("pairs_landmarks_px224", "landmarks off the true smile's, px of 224"),
    ("pairs_identity", "identity beside the true smile, as a share of the photos' own"),
    ("identity_after", "identity beside the unedited photo"),
    ("there_and_back_db", "turned by 15 degrees and back, dB"),
    ("outside_changed", "pixels changed outside of what moves or is relit"),
    ("studio_gain_db", "made people: gain over the unedited picture, dB"),
    ("studio_over_generator_db", "made people: over the generator's own edit, dB"),
    ("detect_rate", "faces found, of {detect_pictures} pictures"),
    ("detect_points_of_eyes", "points off, in distances of the eyes"),
    ("false_accepts", "faces found in {without_a_face} pictures without one"),
    ("fit_px224", "points of the fit off, px of 224"), ("fit_seconds", "fit of one photo, s"),
    ("fit_seconds_of_16", "fit of a photo in a batch of 16, s"), ("edit_ms_512", "edit at 512 px, ms"),
    ("edit_ms_1024", "edit at 1024 px, ms"), ("embed_seconds", "embed of a photo of 12 megapixels, s"),
    ("edit_seconds", "edit of it from the command line, s"))


def photo_edits() -> str:
    """Edits of photographs against the truth."""
    found = next(row for row in reversed(rows_of("photo/rows.jsonl")) if row["kind"] == "summary")

    def text(value) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{name} {text(each)}" for name, each in value.items() if each is not None)
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    return markdown(("figure", "value"), [(words.format(**found), text(found[name])) for name, words in _PHOTO_LINES
                                          if name in found])


def view() -> str:
    """The viewer through its own page."""
    row = rows_of("view.jsonl")[-1]
    return markdown(("two cores, JAX " + row["jax"], "measured"), [
        (f"pictures a second while a slider is dragged, {row['fast_px']} px", f"{row['pictures_a_second']:.0f}"),
        ("from a move to its picture, ms: median, 95th percentile", f"{row['fast_ms']:.0f}, {row['fast_ms_p95']:.0f}"),
        (f"from letting go to the picture of {row['full_px']} px, ms", f"{row['full_ms']:.0f}"),
        ("from the command to the first picture, programs kept, s", f"{row['first_picture_s']:.1f}")])


def drive() -> str:
    """Photos driven by clips, beside the clips' own frames; medians of all clips."""
    rows = [row for row in rows_of("drive.jsonl") if row["kind"] == "drive"]
    long = next((row for row in reversed(rows_of("drive.jsonl")) if row["kind"] == "drive_length"), None)
    lines = [(words, f"{statistics.median(row[name] for row in rows):.3g}") for name, words in (
        ("psnr_db", f"PSNR over the face, dB, {len(rows)} clips"),
        ("undriven_db", "of the first frame, not driven, dB"),
        ("landmarks_px224", "landmarks off the clip's, px of 224"), ("identity", "cosine of faceres"),
        ("jitter_share", "jitter of the landmarks, as a share of the clip's own"))]
    if long is not None:
        words = f"a video of {long['video_s']} s, {long['video_frames']} frames: s on two cores, start included"
        lines.append((words, f"{long['video_driven_s']:.0f}"))
    return markdown(("driven", "measured"), lines)


TABLES: dict[str, Callable[[], str]] = {
    "photo-edits": photo_edits, "view": view, "drive": drive,
    "presets": functools.partial(presets, "fast", "paper"),
    "presets-quick": functools.partial(presets, "quick", "fast"),
    "fidelity": fidelity, "edits": edits, "mouth": mouth, "response": response, "ablation": ablation, "joint": joint,
    "precision": precision, "steps-torch": steps_torch, "parity": parity, "steps-times": steps_times, "raster": raster,
    "startup": startup, "scaling": scaling, "cluster": cluster, "commands": commands, "photos": photos,
}


# ------------------------------------------------------------------------------------------- command
def renewed(text: str, *, page: str) -> str:
    """The page with every table made anew. SystemExit: an unknown name, or a table without its end."""
    names = re.findall(r"<!-- table: (.*?) -->", text)
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        raise SystemExit(f"{page}: unknown table {unknown[0]!r}; expected one of {', '.join(TABLES)}")
    if len(_BLOCK.findall(text)) != len(names) or text.count("<!-- end -->") != len(names):
        raise SystemExit(f"{page}: a table has no end; close it by a line <!-- end -->")
    return _BLOCK.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


@command.guarded_main
def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    options = command.Parser(module="benchmarks.tables", description=__doc__)
    command.add_debug(options)
    options.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is stale")
    arguments = options.parse_args(argv)
    stale = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
        if (new := renewed(text, page=name)) != text:
            stale.append(name)
            if not arguments.check:
                path.write_text(new, encoding="utf-8")
    if stale:
        print(f"{', '.join(stale)}: " + ("stale; run: python -m benchmarks.tables" if arguments.check else "written"))
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
