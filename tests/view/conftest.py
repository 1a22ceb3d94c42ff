"""A gallery of two portraits, served in this process or by the command itself."""

import dataclasses
import threading

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def gallery(photo_pack, fitted, tmp_path_factory, photo):
    """The sample photo twice: with a portrait larger than what is shown fast, and as one dropped on the page."""
    from pie_jax.view.gallery import Gallery

    path = tmp_path_factory.mktemp("photos") / "me.png"
    photo.save(path)
    gallery = Gallery(photo_pack)
    large = np.asarray(Image.fromarray(fitted.portrait).resize((512, 512)))
    gallery.add("me.png", photo_path=path, fitted=dataclasses.replace(fitted, portrait=large))
    gallery.add("you.png", photo_path=path, fitted=fitted, dropped=True)
    return gallery


@pytest.fixture
def served(gallery, tmp_path):
    """(client that has the token, its server): requests are answered in this process."""
    pytest.importorskip("starlette", reason="the extra view is not installed")
    from starlette.testclient import TestClient

    from pie_jax.view.jobs import EmbeddingJob
    from pie_jax.view.security import COOKIE, Guard
    from pie_jax.view.server import Server
    from pie_jax.view.worker import Worker

    worker = Worker()
    thread = threading.Thread(target=worker.run, kwargs={"pause": 0.05}, daemon=True)
    thread.start()
    embedding = EmbeddingJob(gallery.pack, "demo", tmp_path / "out", busy=worker.waiting)
    server = Server(gallery, worker, embedding, uploads=tmp_path, out=str(tmp_path / "out"))
    app = Guard(server.app(), token="secret", port=80)
    client = TestClient(app, base_url="http://127.0.0.1:80", headers={"host": "127.0.0.1:80"},
                        cookies={f"{COOKIE}_80": "secret"}, follow_redirects=False)
    yield client, server
    worker.stop()
    thread.join(10)
