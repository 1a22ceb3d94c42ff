"""All results at a glance: rows for programs, a page for eyes, whatever the names are."""

import csv
import json

from pie_jax.embed.summary import write_summary


def result(out, name, psnr, verdict, photo="a.png"):
    (out / name).mkdir()
    (out / name / "report.json").write_text(json.dumps({
        "outcome": "finished", "photo": {"name": photo, "sha256": "0"}, "match": {"verdict": verdict},
        "metrics": {"psnr_db": psnr, "ssim": 0.8, "identity_cosine": None},
        "seconds": {"compile": 1.0, "optimise": 2.5, "edit": 0.5, "load": 9.0}}))


def test_every_embedding_and_every_failure_has_its_row(tmp_path):
    result(tmp_path, "a", 21.23456, "poor")
    result(tmp_path, "b", 30.0, "good", photo="写真.png")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "report.json").write_text("{")  # damaged: left out
    write_summary(tmp_path, [("photos/d.jpg", "photos/d.jpg: no face found; give another")])
    with open(tmp_path / "summary.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["a", "b", "d.jpg"]
    assert rows[0]["psnr_db"] == "21.2346" and rows[0]["seconds"] == "4.0" and rows[1]["photo"] == "写真.png"
    assert rows[2]["outcome"] == "failed" and "no face" in rows[2]["error"]


def test_names_do_no_harm_to_the_page(tmp_path):
    name = "x\" onload=alert(1) <script>"
    result(tmp_path, name, 25.0, "fair")
    write_summary(tmp_path, [("<b>.png", "<i>cause</i>")])
    page = (tmp_path / "index.html").read_text()
    assert page.count("<script>") == 1 and "onload=alert(1) <" not in page and "<i>cause" not in page
    assert 'loading="lazy"' in page and "x%22%20onload%3Dalert" in page and "<h1>1 portrait, 1 failed</h1>" in page


def test_what_a_killed_process_left_is_cleared_and_nothing_else(tmp_path):
    for name in (".summary.csv.x1.part", ".index.html.y2.part", ".film.mp4.part"):
        (tmp_path / name).write_bytes(b"x")
    write_summary(tmp_path, [])
    assert {path.name for path in tmp_path.glob(".*.part")} == {".film.mp4.part"}
