"""The page itself, in headless Chromium: a slider turns the face, a photo is dropped, edits are undone and saved."""

import base64
import io
import os
import pathlib
import signal

import numpy as np
import pytest
from PIL import Image

from benchmarks.view.browser import chromium, dragged, opened, settled, viewing

pytest.importorskip("playwright", reason="playwright is not installed")
pytest.importorskip("uvicorn", reason="the extra view is not installed")
if chromium() is None:
    pytest.skip("no Chromium here", allow_module_level=True)


@pytest.fixture(scope="module")
def photo_path(photo, tmp_path_factory):
    path = tmp_path_factory.mktemp("view") / "me.png"
    photo.save(path)
    return path


@pytest.fixture(scope="module")
def viewer(photo_path):
    """The address of a viewer, and its process: `test_ctrl_c_ends_the_viewer`, the last to use it, ends it."""
    with viewing([str(photo_path), "-o", str(photo_path.parent / "out"), "--stay"]) as found:
        yield found


@pytest.fixture(scope="module")
def address(viewer):
    return viewer[0]


@pytest.fixture
def page(address):
    with opened(address, width=1200, height=800) as found:
        settled(found)
        yield found
        assert found.errors == []


def canvas(page):
    """The pixels of the edited picture."""
    url = page.evaluate("() => document.getElementById('edited').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"), int)


def test_a_slider_turns_the_face_and_is_undone(page):
    before = canvas(page)
    dragged(page, "#slider-yaw", 0.5, 0.75, moves=12)
    settled(page)
    turned = canvas(page)
    assert turned.shape == before.shape and np.abs(turned - before).mean() > 3
    assert np.abs(turned - before)[:30, :30].mean() < 1  # the corner stays
    assert float(page.input_value("#slider-yaw")) > 15 and "yaw" in page.inner_text("#edits")
    assert "ms" in page.inner_text("#latency") and page.locator("#edits li").count() == 1
    page.keyboard.press("Control+z")
    settled(page)
    assert np.abs(canvas(page) - before).mean() < 0.5 and page.locator("#edits li").count() == 0
    page.keyboard.press("Control+Shift+z")
    settled(page)
    assert np.abs(canvas(page) - turned).mean() < 0.5


def test_a_slider_that_comes_back_is_shown_at_full_size_too(page):
    page.fill("#slider-yaw ~ input", "20")
    page.keyboard.press("Enter")
    settled(page)
    box = page.locator("#slider-yaw").bounding_box()
    at = box["x"] + 8 + (box["width"] - 16) * (20 + 45) / 90
    page.mouse.move(at, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(at + 40, box["y"] + box["height"] / 2)
    page.wait_for_timeout(200)
    page.mouse.move(at, box["y"] + box["height"] / 2)
    page.mouse.up()
    settled(page)
    assert page.evaluate("() => document.body.dataset.quality") == "full"


def test_edits_are_switched_off_reordered_and_reset(page):
    before = canvas(page)
    page.click("#presets >> text=Smile")
    settled(page)
    page.click("#presets >> text=Look left")
    settled(page)
    assert page.locator("#edits li span").all_inner_texts() == ["Smile", "Look left"]
    page.click("[aria-label='Earlier: Look left']")
    settled(page)
    assert page.locator("#edits li span").all_inner_texts() == ["Look left", "Smile"]
    both = canvas(page)
    page.locator("#edits input").nth(0).uncheck()
    settled(page)
    smiling = canvas(page)
    assert np.abs(smiling - both).mean() > 2 and np.abs(smiling - before).mean() > 0.2
    page.click("#reset")
    settled(page)
    assert np.abs(canvas(page) - before).mean() < 0.5 and page.inner_text("#no-edits") == "None yet."


def test_the_light_follows_the_ball_and_the_keys(page):
    before = canvas(page)
    box = page.locator("#ball").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.95, box["y"] + box["height"] * 0.5)
    page.mouse.up()
    settled(page)
    assert float(page.input_value("#slider-azimuth")) > 45 and np.abs(canvas(page) - before).mean() > 1
    azimuth = float(page.input_value("#slider-azimuth"))
    page.focus("#ball")
    page.keyboard.press("ArrowLeft")
    settled(page)
    assert float(page.input_value("#slider-azimuth")) == pytest.approx(azimuth - 5, abs=1.0)


def test_before_is_shown_by_a_key_and_by_a_line(page):
    page.keyboard.down("b")
    assert page.is_visible("#original") and page.is_visible("#badge")
    page.keyboard.up("b")
    assert not page.is_visible("#original")
    page.click("#split")
    assert page.is_visible("#divider") and page.get_attribute("#split", "aria-pressed") == "true"
    page.focus("#divider")
    page.keyboard.press("ArrowRight")
    assert int(page.get_attribute("#divider", "aria-valuenow")) == 53


def test_a_photo_is_dropped_its_face_chosen_and_the_other_taken_from(page, photo, tmp_path):
    path = tmp_path / "two.png"
    both = Image.new("RGB", (photo.width * 2, photo.height))
    both.paste(photo, (0, 0))
    both.paste(photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (photo.width, 0))
    both.save(path)
    page.set_input_files("#file", str(path))
    page.wait_for_selector("#faces[open]")
    assert page.inner_text("#faces-title") == "Which of 2 faces?"
    page.locator("#choices button").nth(1).click()
    page.wait_for_function("() => document.getElementById('title').textContent === 'two.png'")
    settled(page)
    assert page.locator("#portraits li").count() >= 2
    page.click("summary:has-text('Take from another')")
    page.click("#take")
    settled(page)
    assert "pose and expression of me.png" in page.inner_text("#edits")
    page.set_input_files("#file", files=[{"name": "wall.png", "mimeType": "image/png", "buffer": wall()}])
    page.wait_for_function("() => document.getElementById('status').textContent.includes('no face found')")


def wall():
    buffer = io.BytesIO()
    Image.new("RGB", (400, 300), (120, 130, 140)).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_whole_photo_and_the_command_are_given(page, photo):
    dragged(page, "#slider-smile", 0.43, 0.6, moves=6)
    settled(page)
    page.click("summary:has-text('Download')")
    with page.expect_download() as waiting:
        page.click("text=Photo, full size, PNG")
    saved = np.asarray(Image.open(waiting.value.path()), int)
    assert waiting.value.suggested_filename == "me_edit.png" and saved.shape == np.asarray(photo).shape
    assert 0 < np.any(saved != np.asarray(photo, int), axis=-1).mean() < 0.9
    page.click("summary:has-text('Download')")
    page.click("#command")
    page.wait_for_function("() => document.querySelector('#words-text').value")
    words = page.input_value("#words-text")
    assert words.startswith("pie embed ") and "--expression smile=" in words


def test_it_is_usable_narrow_wide_dark_and_by_names(address):
    for width, height, dark in ((360, 740, False), (1280, 800, True), (3840, 2160, False)):
        with opened(address, width=width, height=height, dark=dark) as page:
            settled(page)
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width
            ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, ground[4:-1].split(","))) < 150) == dark
            nameless = page.evaluate("""() => [...document.querySelectorAll('button, input, select, summary')]
                .filter((e) => e.offsetParent && !(e.textContent.trim() || e.ariaLabel || e.title
                    || (e.labels || []).length || e.closest('label'))).map((e) => e.outerHTML)""")
            assert nameless == []
            if os.environ.get("PIE_SCREENSHOTS"):
                page.screenshot(path=str(pathlib.Path(os.environ["PIE_SCREENSHOTS"]) / f"view_{width}.png"))


def test_ctrl_c_ends_the_viewer(viewer):
    _, process = viewer
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def test_the_viewer_ends_with_its_last_page(photo_path):
    with viewing([str(photo_path)]) as (found, process):
        with opened(found) as page:
            settled(page)
            assert process.poll() is None
        assert process.wait(60) == 0
