"""All results of a folder at a glance: summary.csv for programs, index.html for eyes."""

from __future__ import annotations

import contextlib
import csv
import html
import io
import pathlib
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from pie_jax.io import clear_unfinished, locked_folder, read_json, replace_file

_COLUMNS = ("name", "photo", "outcome", "match", "psnr_db", "ssim", "identity_cosine", "landmark_error_px224",
            "seconds", "error")
_WORDS = {"name": "name", "match": "match", "psnr_db": "PSNR, dB", "ssim": "SSIM", "identity_cosine": "identity",
          "landmark_error_px224": "landmarks, px", "seconds": "s"}


def write_summary(out: pathlib.Path, failed: Sequence[tuple[str, str]]) -> None:
    """Write both files into OUT: every embedding that is there, and what failed in this run as (photo, cause).

    ResourceError: they cannot be written.
    """
    with locked_folder(out):  # of several processes the last one knows of all results
        with contextlib.suppress(OSError):
            clear_unfinished(out, of=("summary.csv.*", "index.html.*"))  # a killed process may have left them
        _write(out, failed)


def _write(out: pathlib.Path, failed: Sequence[tuple[str, str]]) -> None:
    rows = [*_rows(out), *({"name": pathlib.PurePath(photo).name, "photo": photo, "outcome": "failed", "error": cause}
                           for photo, cause in failed)]
    table = io.StringIO()
    writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(out / "summary.csv", table.getvalue().encode("utf-8", "surrogateescape"))
    replace_file(out / "index.html", _page(rows).encode("utf-8", "replace"))


def _rows(out: pathlib.Path) -> Iterator[dict]:
    """One row for each finished embedding in OUT; no picture is opened."""
    for folder in sorted(path.parent for path in out.glob("*/report.json")):
        report = read_json(folder / "report.json")
        metrics, seconds = report.get("metrics"), report.get("seconds")
        if not isinstance(metrics, dict) or not isinstance(seconds, dict):
            continue
        match, photo = report.get("match"), report.get("photo")
        numbers = {name: metrics.get(name) for name in _COLUMNS if name in metrics}
        yield {"name": folder.name, "photo": photo.get("name") if isinstance(photo, dict) else None,
               "outcome": report.get("outcome"), "match": match.get("verdict") if isinstance(match, dict) else None,
               **{name: round(value, 4) if isinstance(value, float) else value for name, value in numbers.items()},
               "seconds": round(sum(v for k, v in seconds.items() if k in ("compile", "optimise", "edit")), 1)}


def _page(rows: Sequence[dict]) -> str:
    heads = "".join(f'<th><button type="button">{html.escape(words)}</button></th>' for words in _WORDS.values())
    body = "\n".join(_line(row) for row in rows)
    failed = sum("error" in row for row in rows)
    count = f"{len(rows) - failed} portrait{'s' * (len(rows) - failed != 1)}" + (f", {failed} failed" if failed else "")
    page = (pathlib.Path(__file__).parent / "summary.html").read_text("utf-8")
    for mark, words in (("count", count), ("heads", heads), ("rows", body)):
        page = page.replace(f"<!--{mark}-->", words)
    return page


def _line(row: dict) -> str:
    cells = "".join(f"<td>{_shown(row.get(name))}</td>" for name in list(_WORDS)[1:])
    name = html.escape(str(row["name"]))
    if row.get("error"):
        return (f'<tr class="bad"><td>{name}</td>{cells}<td class="grid">{html.escape(str(row["error"]))}</td></tr>')
    grid = quote(f"{row['name']}/grid.png", errors="surrogateescape")
    return (f'<tr><td><a href="{grid}">{name}</a></td>{cells}<td class="grid"><a href="{grid}">'
            f'<img loading="lazy" decoding="async" src="{grid}" alt="Results of {name}"></a></td></tr>')


def _shown(value: object) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else html.escape(str(value))
