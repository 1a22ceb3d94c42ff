"""The page's server: its files, the portraits, photos that are dropped on it, and a socket for pictures of edits.

Handlers run in the server's thread; all that touches a portrait is asked of the worker.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pathlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from pie_jax.errors import PieError, UsageError
from pie_jax.io import load_photo
from pie_jax.photo.detect import Face, find_faces
from pie_jax.photo.fitted import frame_photo
from pie_jax.portrait.calibration import calibration
from pie_jax.portrait.face_points import fit_face
from pie_jax.portrait.request import LARGEST_ANGLE, expression_names
from pie_jax.view import pictures
from pie_jax.view.edits import command_of, values_of
from pie_jax.view.gallery import Gallery, Portrait
from pie_jax.view.jobs import EmbeddingJob
from pie_jax.view.presets import PRESETS
from pie_jax.view.security import MOST_BYTES
from pie_jax.view.worker import Worker

PAGE = pathlib.Path(__file__).parent / "page"
_MOST_PAGES = 16
_MOST_UPLOADS = 2**31  # bytes of all photos that are dropped on the page
_PREVIEW = 1024  # px of the longer side
_LONGEST_MESSAGE = 2**18
_KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp", ".mp4": "video/mp4"}


@dataclasses.dataclass
class Upload:
    """A photo that was dropped on the page, and its faces."""

    path: pathlib.Path
    faces: list[Face]

    def image(self) -> Image.Image:
        """Its pixels; they are not kept."""
        return load_photo(self.path, notice=lambda text: None)


class Server:
    """What the handlers share. `pages` counts the open ones; `left` is called when the last one closes."""

    def __init__(self, gallery: Gallery, worker: Worker, embedding: EmbeddingJob, *, uploads: pathlib.Path, out: str,
                 left: Callable[[], None] = lambda: None):
        self.gallery, self.worker, self.embedding, self.folder, self.out = gallery, worker, embedding, uploads, out
        self.left = left
        self.pages: set[WebSocket] = set()
        self.uploads: dict[str, Upload] = {}
        self.bytes = 0  # of them
        self.loop: asyncio.AbstractEventLoop | None = None

    def app(self) -> Starlette:
        """The application, without its guard."""
        routes = [Route("/", self.page), Route("/api/pack", self.pack), Route("/api/portraits", self.portraits),
                  Route("/api/portraits/{key}", self.portrait), Route("/api/portraits/{key}/{what}", self.picture),
                  Route("/api/portraits/{key}/download", self.download, methods=["POST"]),
                  Route("/api/portraits/{key}/command", self.command, methods=["POST"]),
                  Route("/api/portraits/{key}/embed", self.embed, methods=["POST"]),
                  Route("/api/cancel", self.cancel, methods=["POST"]),
                  Route("/api/photos", self.photo, methods=["POST"]),
                  Route("/api/photos/{key}/preview", self.preview),
                  Route("/api/photos/{key}/open", self.open_face, methods=["POST"]),
                  WebSocketRoute("/socket", self.socket), Mount("/static", StaticFiles(directory=PAGE))]
        return Starlette(routes=routes, exception_handlers={PieError: _told})

    async def work(self, work: Callable[[], Any]) -> Any:
        """Have the worker do it."""
        return await asyncio.wrap_future(self.worker.submit(work))

    async def page(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html", media_type="text/html; charset=utf-8")

    async def pack(self, request: Request) -> Response:
        pack = self.gallery.pack
        return JSONResponse({"name": pack.name, "expressions": list(expression_names(pack)), "presets": PRESETS,
                             "reach": dict(calibration(pack).get("reach", {})), "largest_angle": LARGEST_ANGLE})

    async def portraits(self, request: Request) -> Response:
        return JSONResponse([_row(portrait) for portrait in self.gallery.portraits.values()])

    async def portrait(self, request: Request) -> Response:
        def look() -> dict:
            portrait = self.gallery.of(request.path_params["key"])
            return _row(portrait) | {"values": values_of(self.gallery, self.gallery.start(portrait))}

        return JSONResponse(await self.work(look))

    async def picture(self, request: Request) -> Response:
        key, what = request.path_params["key"], request.path_params["what"]
        if what not in ("thumbnail", "original"):
            return JSONResponse({"error": "not found"}, status_code=404)

        def draw() -> bytes:
            portrait = self.gallery.of(key)
            return pictures.jpeg(self.gallery.thumbnail(portrait) if what == "thumbnail"
                                 else self.gallery.picture(portrait), quality=93)

        return Response(await self.work(draw), media_type="image/jpeg")

    async def download(self, request: Request) -> Response:
        asked = await _json(request)
        suffix, kind = str(asked.get("suffix")), asked.get("kind")
        if suffix not in _KINDS or kind not in ("photo", "animation"):
            raise UsageError("download: expected a photo as .png or .jpg, or an animation as .gif, .webp or .mp4")
        make = pictures.whole_photo if kind == "photo" else pictures.animation

        def work() -> tuple[bytes, str]:
            portrait = self.gallery.of(request.path_params["key"])
            return make(self.gallery, portrait, asked.get("edits"), suffix=suffix), portrait.name

        data, name = await self.work(work)
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in pathlib.PurePath(name).stem)[:80] or "portrait"
        return Response(data, media_type=_KINDS[suffix],
                        headers={"X-Name": (f"{stem}_edit{suffix}").encode("ascii", "replace").decode()})

    async def command(self, request: Request) -> Response:
        asked = await _json(request)
        text = await self.work(lambda: command_of(
            self.gallery, self.gallery.of(request.path_params["key"]), asked.get("edits"), out=self.out))
        return JSONResponse({"command": text})

    async def photo(self, request: Request) -> Response:
        data = await request.body()
        self.bytes += len(data)
        if self.bytes > _MOST_UPLOADS:
            raise UsageError(f"photos of more than {_MOST_UPLOADS // 2**30} GiB dropped; start the viewer again")
        name = pathlib.PurePath(unquote(request.headers.get("x-name", "photo.jpg")).replace("\\", "/")).name or "photo"
        key = secrets.token_hex(8)

        def look() -> dict:
            folder = self.folder / key
            folder.mkdir()
            path = folder / _safe(name)
            path.write_bytes(data)
            notes: list[str] = []
            image = load_photo(path, notice=notes.append)
            faces = find_faces(self.gallery.pack, image)
            self.uploads[key] = Upload(path, faces)
            return {"key": key, "name": name, "size": image.size, "notes": notes,
                    "faces": [[round(v, 1) for v in face.box] for face in faces],
                    "points": [face.landmarks.round(1).tolist() for face in faces]}

        return JSONResponse(await self.work(look))

    def _upload(self, request: Request) -> Upload:
        upload = self.uploads.get(request.path_params["key"])
        if upload is None:
            raise UsageError("this photo is not open any more; drop it again")
        return upload

    async def preview(self, request: Request) -> Response:
        def shrink() -> bytes:
            image = self._upload(request).image()
            image.thumbnail((_PREVIEW, _PREVIEW))
            return pictures.jpeg(image)

        return Response(await self.work(shrink), media_type="image/jpeg")

    async def open_face(self, request: Request) -> Response:
        asked = await _json(request)
        face = asked.get("face", 1)
        if not isinstance(face, int) or isinstance(face, bool):
            raise UsageError(f"face: expected a number from 1, got {face!r:.20}")

        def fit() -> dict:
            upload = self._upload(request)
            image = upload.image()
            if not 1 <= face <= len(upload.faces):
                raise UsageError(f"face {face}: this photo shows {len(upload.faces)}")
            square, points = frame_photo(self.gallery.pack, image, where=upload.path.name,
                                         landmarks=upload.faces[face - 1].landmarks)
            portrait = self.gallery.add(upload.path.name, photo_path=upload.path, dropped=True,
                                        face=face,
                                        fitted=fit_face(self.gallery.pack, image, square, points))
            return _row(portrait)

        return JSONResponse(await self.work(fit))

    async def embed(self, request: Request) -> Response:
        def begin() -> dict:
            portrait = self.gallery.of(request.path_params["key"])
            if portrait.folder is not None or portrait.fitted is None or portrait.photo_path is None:
                raise UsageError(f"{portrait.name}: is embedded already")

            def done(folder: pathlib.Path) -> None:
                portrait.folder = folder

            self.embedding.start(portrait, load_photo(portrait.photo_path, notice=lambda text: None), self.tell, done)
            return {}

        return JSONResponse(await self.work(begin))

    async def cancel(self, request: Request) -> Response:
        self.embedding.cancel()
        return JSONResponse({})

    def tell(self, data: bytes) -> None:
        """Send something to every page, from any thread."""
        if self.loop is not None and not self.loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._tell(data), self.loop)

    async def _tell(self, data: bytes) -> None:
        for page in list(self.pages):
            try:
                await page.send_bytes(data)
            except (RuntimeError, WebSocketDisconnect):
                self.pages.discard(page)

    async def socket(self, page: WebSocket) -> None:
        if len(self.pages) >= _MOST_PAGES:
            await page.close(code=1013)
            return
        await page.accept()
        self.loop = asyncio.get_running_loop()
        self.pages.add(page)
        asked: set[asyncio.Task] = set()
        sending = asyncio.Lock()
        try:
            while True:
                text = await page.receive_text()
                message = _message(text)
                future = self.worker.submit_newest(id(page), lambda m=message: pictures.answer(self.gallery, m))
                task = asyncio.create_task(_send(page, sending, message, asyncio.wrap_future(future)))
                asked.add(task)
                task.add_done_callback(asked.discard)
        except (WebSocketDisconnect, KeyError):
            pass
        except UsageError as error:
            await page.close(code=1003, reason=str(error)[:120])
        finally:
            self.pages.discard(page)
            if not self.pages:
                self.embedding.cancel()
                self.left()


async def _send(page: WebSocket, sending: asyncio.Lock, message: dict, answer: Awaitable[bytes]) -> None:
    """Send the answer to a message, unless a newer message has taken its place."""
    try:
        data = await answer
    except asyncio.CancelledError:
        return
    except PieError as error:
        data = pictures.framed({"type": "error", "seq": message.get("seq"), "text": str(error)})
    except Exception as error:
        data = pictures.framed({"type": "error", "seq": message.get("seq"),
                                "text": f"unexpected {type(error).__name__}: {error}"[:300]})
    try:
        async with sending:
            await page.send_bytes(data)
    except (RuntimeError, WebSocketDisconnect):
        pass


def _message(text: str) -> dict[str, Any]:
    if len(text) > _LONGEST_MESSAGE:
        raise UsageError("message too long")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError("message: expected JSON") from None
    if not isinstance(message, dict):
        raise UsageError("message: expected an object")
    return message


async def _json(request: Request) -> dict[str, Any]:
    return _message((await request.body())[:MOST_BYTES].decode("utf-8", "replace"))


def _row(portrait: Portrait) -> dict[str, Any]:
    return {"key": portrait.key, "name": portrait.name, "embedded": portrait.folder is not None,
            "photo": portrait.fitted is not None or portrait.folder is not None}


def _safe(name: str) -> str:
    """A file name for a photo that came from the page."""
    stem, dot, suffix = name.rpartition(".")
    clean = "".join(c if c.isalnum() or c in " -_." else "_" for c in (stem or name))[:80].strip(". ") or "photo"
    return f"{clean}.{suffix.lower()[:5]}" if dot and suffix.isalnum() else clean


async def _told(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)
