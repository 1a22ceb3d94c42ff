"""What `pie view` does once its arguments are good: a server in a thread of its own, edits in this one."""

from __future__ import annotations

import argparse
import pathlib
import socket
import sys
import tempfile
import threading
import time
import webbrowser

import uvicorn

from pie_jax.cli.progress import Progress
from pie_jax.cli.signals import StopRequest
from pie_jax.errors import EXIT_OK, PieError, ResourceError, UsageError
from pie_jax.io import is_picture, load_photo, shown
from pie_jax.pack import find_pack, load_pack
from pie_jax.photo.fitted import LARGEST, frame_photo
from pie_jax.portrait.face_points import fit_face
from pie_jax.view.gallery import FAST, Gallery
from pie_jax.view.jobs import EmbeddingJob
from pie_jax.view.pictures import rendered
from pie_jax.view.security import Guard, new_token
from pie_jax.view.server import Server
from pie_jax.view.worker import Worker

HOST = "127.0.0.1"
_GRACE_SECONDS = 4.0  # after the last page is closed: it may only be reloading
_POLL_SECONDS = 0.2


def run(arguments: argparse.Namespace) -> int:
    """Serve until the last page is closed, or Ctrl-C; the exit code. Raises PieError."""
    with Progress() as progress, tempfile.TemporaryDirectory(prefix="pie_view_") as uploads:
        gallery = Gallery(load_pack(find_pack(arguments.pack)))
        gallery.pack.require("morphable")
        _fill(gallery, arguments, progress)
        listening = _listen(arguments.port)
        port = listening.getsockname()[1]
        worker, token, closing = Worker(), new_token(), _Closing(arguments.stay)
        embedding = EmbeddingJob(gallery.pack, arguments.pack, pathlib.Path(arguments.out), busy=worker.waiting)
        server = Server(gallery, worker, embedding, uploads=pathlib.Path(uploads), out=arguments.out, left=closing.left)
        app = Guard(server.app(), token=token, port=port)
        config = uvicorn.Config(app, log_level="error", access_log=False, server_header=False, date_header=False,
                                ws="websockets-sansio", ws_max_size=2**18, timeout_graceful_shutdown=1,
                                lifespan="off")
        web = uvicorn.Server(config)
        thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        address = f"http://{HOST}:{port}/?token={token}"
        try:
            with StopRequest() as stop:
                print(f"{address}\nopen it in a browser on this machine; Ctrl-C ends", flush=True)
                if arguments.browser:
                    webbrowser.open(address)
                watch = threading.Thread(target=_watch, args=(stop, closing, server, worker), daemon=True)
                watch.start()
                _warm(gallery, worker)
                worker.run(pause=_POLL_SECONDS)
        finally:
            embedding.cancel()
            web.should_exit = True
            thread.join(3.0)
            embedding.join(20.0)
    return EXIT_OK


class _Closing:
    """Since when no page is open, once there was one."""

    def __init__(self, stay: bool):
        self.stay, self.since = stay, threading.Event()

    def left(self) -> None:
        self.since.set()


def _watch(stop: StopRequest, closing: _Closing, server: Server, worker: Worker) -> None:
    """End the worker at a signal, or when the last page has been closed for a while."""
    while not stop.asked:
        time.sleep(_POLL_SECONDS)
        if closing.since.is_set() and not closing.stay:
            closing.since.clear()
            until = time.monotonic() + _GRACE_SECONDS
            while time.monotonic() < until and not server.pages and not stop.asked:
                time.sleep(_POLL_SECONDS)
            if not server.pages:
                break
    worker.stop()


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        raise ResourceError(f"port {port}: cannot be used ({error.strerror}); choose another with --port") from None
    listening.listen(64)
    return listening


def _fill(gallery: Gallery, arguments: argparse.Namespace, progress: Progress) -> None:
    """Add what was named; a photo without a face only costs itself a line."""
    items = arguments.items or ([arguments.out] if pathlib.Path(arguments.out).is_dir() else [])
    for item in items:
        path = pathlib.Path(item)
        if path.is_dir():
            pictures = [] if gallery.add_folders(path) else sorted(p for p in path.iterdir() if is_picture(p))
            if not pictures and not any(p.folder is not None for p in gallery.portraits.values()):
                raise UsageError(f"{shown(path)}: holds no embedding and no photo; name another folder")
        else:
            pictures = [path]
        for photo in pictures:
            try:
                image = load_photo(photo, notice=lambda text: progress.note(f"note: {text}"))
                square, points = frame_photo(gallery.pack, image, where=shown(photo),
                                             tell=lambda text: progress.note(f"note: {text}"))
                gallery.add(photo.name, photo_path=photo, fitted=fit_face(gallery.pack, image, square, points))
            except PieError as error:
                progress.warn(f"error: {error}")
                if len(items) == 1 and len(pictures) == 1:
                    raise
    if not items:
        print("no portraits yet: drop a photo on the page", file=sys.stderr)


def _warm(gallery: Gallery, worker: Worker) -> None:
    """Compile what the first slider needs while the page is being opened."""
    def first() -> None:
        for key in list(gallery.portraits)[:1]:
            portrait = gallery.of(key)
            for size in (FAST, LARGEST):
                rendered(gallery, portrait, gallery.start(portrait), size=size)

    worker.submit(first)


