"""The page's requests: portraits, photos dropped on it, downloads, and pictures through the socket."""

import dataclasses
import io
import json
import struct

import jax
import numpy as np
import pytest
import toy
from PIL import Image

pytest.importorskip("starlette", reason="the extra view is not installed")

from starlette.websockets import WebSocketDisconnect

HEADERS = {"origin": "http://127.0.0.1:80"}


def png(photo):
    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    return buffer.getvalue()


def picture_of(data):
    """Header and picture of an answer."""
    (length,) = struct.unpack("<I", data[:4])
    header = json.loads(data[4:4 + length])
    image = np.asarray(Image.open(io.BytesIO(data[4 + length:])), int) if len(data) > 4 + length else None
    return header, image


def test_the_socket_answers_with_pictures_of_both_sizes(served, gallery):
    client, _ = served
    key = next(iter(gallery.portraits))
    original = np.asarray(Image.open(io.BytesIO(client.get(f"/api/portraits/{key}/original").content)), int)
    with client.websocket_connect("/socket", headers=HEADERS) as page:
        page.send_text(json.dumps({"portrait": key, "edits": [], "quality": "full", "seq": 1}))
        header, still = picture_of(page.receive_bytes())
        assert header["seq"] == 1 and header["quality"] == "full" and header["size"] == still.shape[0]
        assert np.abs(still - original).mean() < 1.0
        page.send_text(json.dumps({"portrait": key, "edits": [{"set": {"yaw": 15}}], "seq": 2}))
        header, turned = picture_of(page.receive_bytes())
        assert header["quality"] == "fast" and turned.shape == (256, 256, 3) and header["values"]["yaw"] == 15
        small = np.asarray(Image.fromarray(original.astype(np.uint8)).resize((256, 256)), int)
        assert np.abs(turned - small).mean() > 4
        page.send_text(json.dumps({"portrait": "nobody", "edits": [], "seq": 3}))
        header, _ = picture_of(page.receive_bytes())
        assert header["type"] == "error" and "reload" in header["text"]
        page.send_text("[1")
        with pytest.raises(WebSocketDisconnect):
            page.receive_bytes()


def test_a_dropped_photo_is_looked_at_opened_and_downloaded_whole(served, photo):
    client, server = served
    name = "..%2F..%2Fhome%2FMein%20Bild.PNG"
    found = client.post("/api/photos", content=png(photo), headers={"x-name": name}).json()
    assert found["name"] == "Mein Bild.PNG" and len(found["faces"]) == 1 and len(found["points"][0]) == 66
    assert client.get(f"/api/photos/{found['key']}/preview").headers["content-type"] == "image/jpeg"
    assert client.post(f"/api/photos/{found['key']}/open", json={"face": 2}).json()["error"].startswith("face 2")
    row = client.post(f"/api/photos/{found['key']}/open", json={"face": 1}).json()
    assert row["name"] == "Mein Bild.png" and not row["embedded"]
    assert row["key"] in [portrait["key"] for portrait in client.get("/api/portraits").json()]
    asked = {"kind": "photo", "suffix": ".png", "edits": [{"set": {"expression": {"smile": 1.5}}}]}
    answer = client.post(f"/api/portraits/{row['key']}/download", json=asked)
    image = np.asarray(Image.open(io.BytesIO(answer.content)), int)
    before = np.asarray(photo, int)
    assert answer.headers["x-name"] == "Mein_Bild_edit.png" and image.shape == before.shape
    same = np.all(image == before, axis=-1)
    assert 0.3 < same.mean() < 1.0  # what the smile does not move is the photo's own
    server.gallery.portraits.pop(row["key"])


def test_what_is_no_photo_gets_one_line(served):
    client, _ = served
    answer = client.post("/api/photos", content=b"<html>", headers={"x-name": "page.jpg"})
    assert answer.status_code == 400 and "web page" in answer.json()["error"]
    empty = Image.new("RGB", (300, 300), (90, 120, 160))
    assert client.post("/api/photos", content=png(empty), headers={"x-name": "wall.png"}).json()["faces"] == []


def test_an_animation_goes_there_and_back(served, gallery, monkeypatch):
    from pie_jax.view import pictures

    monkeypatch.setattr(pictures, "_FILM", (256, 4, 10.0))
    key = next(iter(gallery.portraits))
    asked = {"kind": "animation", "suffix": ".webp", "edits": [{"set": {"yaw": 12}}]}
    with Image.open(io.BytesIO(served[0].post(f"/api/portraits/{key}/download", json=asked).content)) as film:
        assert film.n_frames == 6 and film.size == (256, 256)
    asked["suffix"] = ".exe"
    assert served[0].post(f"/api/portraits/{key}/download", json=asked).status_code == 400


def test_a_portrait_is_embedded_with_its_progress_told(served, gallery, monkeypatch, tmp_path):
    from pie_jax.config import PRESETS, EmbedConfig
    from pie_jax.pack import load_pack, save_pack
    from pie_jax.view import jobs

    save_pack(tmp_path / "toy", toy.toy_pack(jax.random.key(0), parts=("generator",), configs=toy.SMALLEST))

    few = tuple(dataclasses.replace(stage, steps=4) for stage in PRESETS["fast"])
    monkeypatch.setattr(jobs, "EmbedConfig", lambda energy, stages: EmbedConfig(
        energy=dataclasses.replace(energy, terms=("synthesis",)), stages=few))
    told, folders = [], []
    portrait = next(iter(gallery.portraits.values()))
    job = jobs.EmbeddingJob(load_pack(tmp_path / "toy"), str(tmp_path / "toy"), tmp_path / "out", busy=lambda: False)
    image = Image.open(portrait.photo_path).convert("RGB")
    job.start(portrait, image, told.append, folders.append)
    job.join(3000)
    states = [picture_of(data)[0]["state"] for data in told]
    assert states[-1] == "done" and "optimise" in states and folders == [tmp_path / "out" / "me"]
    assert (folders[0] / "embedding.npz").is_file() and any(picture_of(data)[1] is not None for data in told)
    job.cancel()
    told.clear()
    job.start(portrait, image, lambda data: (told.append(data), job.cancel()), folders.append)
    job.join(3000)
    assert picture_of(told[-1])[0]["state"] in ("cancelled", "done")
