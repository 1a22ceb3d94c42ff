"""Tables of photographs: edited, on the screen, driven."""

from __future__ import annotations

import statistics

from benchmarks.tables.markdown import markdown, rows_of

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
    ("guess_px224", "points of the regressor's first guess off, px of 224"),
    ("own_points", "share that is fitted by the points of the pack's own network"),
    ("fit_px224", "points of the fit off, px of 224"), ("fit_seconds", "fit of one photo, s"),
    ("fit_seconds_of_16", "fit of a photo in a batch of 16, s"), ("edit_ms_512", "edit at 512 px, ms"),
    ("edit_ms_1024", "edit at 1024 px, ms"), ("embed_seconds", "embed of a photo of 12 megapixels, s"),
    ("edit_seconds", "edit of it from the command line, s"))


def photos() -> str:
    """Photographs embedded with the demo pack, which is no model of them."""
    rows = [row for row in rows_of("commands.jsonl") if "photo-real" in row["what"]]
    return markdown(("photo-real portrait", "PSNR, dB", "SSIM", "landmarks off, of 224 px"), [
        (row["what"].split()[2], f"{row['psnr_db']:.1f}", f"{row['ssim']:.2f}", f"{row['landmark_px224']:.1f}")
        for row in rows])


def photo_edits() -> str:
    """Edits of photographs against the truth."""
    found = next(row for row in reversed(rows_of("photo/rows.jsonl")) if row["kind"] == "summary")

    def text(value) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{name} {text(each)}" for name, each in value.items() if each is not None)
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    return markdown(("figure", "value"), [(words.format(**found), text(found[name])) for name, words in _PHOTO_LINES
                                          if name in found])


def mouth_sources() -> str:
    """What fills an opened mouth: gain in the box of the mouth, by source."""
    found = next(row for row in reversed(rows_of("photo/mouths.jsonl")) if row["kind"] == "mouths")
    words = {"mouth_teeth": "smiles that show teeth", "mouth_no_teeth": "smiles that do not"}
    lines = [(words[name], found[name]) for name in words if name in found]
    sources = ("lips", "network", "studio", "generator")
    return markdown(("median gain over the unedited photo, dB", *sources), [
        (f"{text}, {gains['pairs']} pairs", *(f"{gains[source]:+.2f}" for source in sources)) for text, gains in lines])


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


def judged() -> str:
    """A pack of photographs, the demo pack and the photo's own pixels on held-out portraits; medians."""
    found = next(row for row in reversed(rows_of("photographs/judged.jsonl")) if row["kind"] == "summary")
    packs = {name: value for name, value in found.items() if isinstance(value, dict)}
    lines = (("psnr_db", "synthesis: PSNR, dB"), ("ssim", "SSIM"), ("landmarks_px224", "landmarks off, px of 224"),
             ("identity", "cosine of faceres"), ("identity_yaw+10", "after yaw +10: cosine"),
             ("identity_yaw-10", "after yaw -10"), ("identity_smile", "after a smile"),
             ("identity_light", "after another light"))
    head = (f"{name.rsplit(' ', 1)[0] if name != 'carried photo' else name}, {value['portraits']} portraits"
            for name, value in packs.items())
    return markdown(("median", *head), [
        (words, *(f"{value[name]:.3g}" if name in value else "" for value in packs.values())) for name, words in lines])
