"""Who may talk to the page's server: this machine's own page, and no other program or web site.

Another web site open in the same browser can send requests to the loopback address, or give a name of its own that
leads there. So every request needs a secret that only the opened page has, the address as its host, and no foreign
origin.
"""

from __future__ import annotations

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse

COOKIE = "pie_view"
MOST_BYTES = 64 * 2**20  # of one request
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
                               "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """ASGI middleware that answers only the page that was opened with the token.

    The page's address carries the token once; from then on a cookie does, which no script and no other site can read.
    """

    def __init__(self, app: Any, *, token: str, port: int):
        self.app, self.token = app, token
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        problem = self._problem(scope, headers)
        if problem is not None:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008})
                return None
            return await PlainTextResponse(problem[1], status_code=problem[0])(scope, receive, send)
        if scope["type"] == "http" and scope["path"] == "/" and _given(scope):
            answer = RedirectResponse("/", status_code=303, headers=_HEADERS)
            answer.set_cookie(f"{COOKIE}_{scope['server'][1]}", self.token, httponly=True, samesite="strict")
            return await answer(scope, receive, send)

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        return await self.app(scope, _limited(receive), guarded)

    def _problem(self, scope: Any, headers: Headers) -> tuple[int, str] | None:
        """Status and words of a refusal, or None."""
        if headers.get("host", "") not in self.hosts:
            return 421, "wrong host"
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.hosts}:
            return 403, "wrong origin"
        if scope["type"] == "websocket" and origin is None:
            return 403, "no origin"
        if headers.get("content-length", "0").isdecimal() and int(headers.get("content-length", "0")) > MOST_BYTES:
            return 413, f"more than {MOST_BYTES // 2**20} MiB"
        shown = _cookie(headers, scope["server"][1])
        if scope["type"] == "http" and scope["path"] == "/":
            shown = _given(scope) or shown
        if not hmac.compare_digest(shown.encode(), self.token.encode()):
            return 403, "open the page by the address that pie view printed"
        return None


def new_token() -> str:
    """A secret for one run of the server."""
    return secrets.token_urlsafe(24)


def _given(scope: Any) -> str:
    """The token in a request's address."""
    return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]


def _cookie(headers: Headers, port: int) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(f"{COOKIE}_{port}")
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _limited(receive: Any) -> Any:
    """`receive` that ends a body of more than MOST_BYTES, whatever its header said."""
    got = 0

    async def limited() -> Any:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b"")) if message["type"] == "http.request" else 0
        if got > MOST_BYTES:
            return {"type": "http.disconnect"}
        return message

    return limited
