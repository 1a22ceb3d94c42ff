"""Only the page that was opened with the token is answered; nothing outside the gallery is served."""

import pytest

pytest.importorskip("starlette", reason="the extra view is not installed")

from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from pie_jax.view import security
from pie_jax.view.security import COOKIE


def stranger(served):
    """A client of the same server without the token."""
    return TestClient(served[0].app, base_url="http://127.0.0.1:80", headers={"host": "127.0.0.1:80"},
                      follow_redirects=False)


def test_without_the_token_nothing_is_answered(served):
    client = stranger(served)
    for path in ("/", "/static/view.js", "/api/portraits", "/api/pack", "/?token=wrong"):
        assert client.get(path).status_code == 403, path
    assert client.post("/api/photos", content=b"x").status_code == 403
    assert client.get("/api/pack", headers={"cookie": f"{COOKIE}_80=wrong"}).status_code == 403
    assert client.get("/api/pack", headers={"cookie": "=; ; \"\\x"}).status_code == 403


def test_the_token_becomes_a_cookie_that_no_script_reads(served):
    client = stranger(served)
    answer = client.get("/?token=secret")
    cookie = answer.headers["set-cookie"].lower()
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    assert "httponly" in cookie and "samesite=strict" in cookie
    page = client.get("/")
    assert page.status_code == 200 and "pie view" in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff" and page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("headers, status", [
    ({"host": "evil.example"}, 421), ({"host": "127.0.0.1:81"}, 421), ({"origin": "http://evil.example"}, 403),
    ({"origin": "null"}, 403), ({"content-length": str(2**40)}, 413)])
def test_other_hosts_origins_and_sizes_are_refused(served, headers, status):
    assert served[0].get("/api/pack", headers=headers).status_code == status


def test_a_body_that_says_it_is_small_is_cut(served, monkeypatch):
    monkeypatch.setattr(security, "MOST_BYTES", 1000)

    def body():
        for _ in range(50):
            yield b"x" * 100

    with pytest.raises(ClientDisconnect):  # the server sees the client gone
        served[0].post("/api/photos", content=body(), headers={"x-name": "a.jpg"})


def test_sockets_of_other_origins_are_closed(served):
    client, _ = served
    for headers in ({"origin": "http://evil.example"}, {}):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/socket", headers=headers):
            pass
    with client.websocket_connect("/socket", headers={"origin": "http://127.0.0.1:80"}):
        pass
    with pytest.raises(WebSocketDisconnect), stranger(served).websocket_connect(
            "/socket", headers={"origin": "http://127.0.0.1:80"}):
        pass


@pytest.mark.parametrize("path", [
    "/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2f..%2fconfig.py", "/api/portraits/..%2f..%2fetc",
    "/api/portraits/nobody/thumbnail", "/api/portraits/nobody/secrets", "/api/photos/none/preview"])
def test_nothing_outside_is_served(served, path):
    answer = served[0].get(path)
    assert answer.status_code in (400, 404) and "def " not in answer.text


def test_a_link_that_leads_out_of_the_folder_is_left_alone(photo_pack, tmp_path):
    from pie_jax.view.gallery import Gallery

    outside = tmp_path / "outside"
    (tmp_path / "out").mkdir()
    outside.mkdir()
    (outside / "embedding.npz").write_bytes(b"x")
    (tmp_path / "out" / "link").symlink_to(outside)
    assert Gallery(photo_pack).add_folders(tmp_path / "out") == 0
