"""The page's list of edits: applied in order, refused where it is no edit, said as a command that does the same."""

import shlex

import numpy as np
import pytest

from pie_jax.edit.arguments import parse
from pie_jax.errors import UsageError
from pie_jax.portrait.request import AXES, expression_names, photo_params_of, target_params
from pie_jax.view.edits import applied, checked, command_of, values_of


def portraits(gallery):
    return list(gallery.portraits.values())


def angles(params):
    return dict(zip(AXES, np.degrees(np.asarray(params.rotation)), strict=True))


def test_edits_apply_one_after_the_other(gallery):
    me, you = portraits(gallery)
    smile = expression_names(gallery.pack).index("smile")
    edits = [{"set": {"yaw": 30, "expression": {"smile": 1.0}}}, {"take": {"from": you.key, "controls": ["pose"]}},
             {"set": {"pitch": 4.0}}, {"set": {"expression": {"smile": 2.0}}}]
    params = applied(gallery, me, edits)
    assert angles(params)["yaw"] == pytest.approx(angles(you.fitted.params)["yaw"], abs=0.5)  # taken after it was set
    assert angles(params)["pitch"] == pytest.approx(4.0, abs=1e-4) and params.expression[smile] == 2.0
    shown = values_of(gallery, params)
    assert shown["pitch"] == pytest.approx(4.0, abs=1e-3) and shown["expression"]["smile"] == 2.0
    assert len(shown["illumination"]) == 27


def test_light_has_four_numbers_and_shows_them_again(gallery):
    me, _ = portraits(gallery)
    params = applied(gallery, me, [{"set": {"light": [40.0, 20.0, 0.7, 0.3]}}])
    assert values_of(gallery, params)["light"] == pytest.approx([40.0, 20.0, 0.7, 0.3], abs=2e-3)


@pytest.mark.parametrize("edits", [
    None, {}, ["x"], [{}], [{"set": {"yaw": "far"}}], [{"set": {"yaw": True}}], [{"set": {"yaw": 1e9}}],
    [{"set": {"light": [1, 2]}}], [{"set": {"expression": [1]}}], [{"take": {"from": "x", "controls": []}}],
    [{"take": {"from": "x", "controls": ["hair"]}}], [{"set": {}}] * 201])
def test_what_is_no_edit_is_refused(edits):
    with pytest.raises(UsageError):
        checked(edits)


@pytest.mark.parametrize("edits", [[{"set": {"yaw": 120}}], [{"set": {"expression": {"nose": 1}}}],
                                   [{"set": {"light": [0, 0, -1, 0]}}],
                                   [{"take": {"from": "?", "controls": ["pose"]}}]])
def test_what_cannot_be_is_refused(gallery, edits):
    with pytest.raises(UsageError):
        applied(gallery, portraits(gallery)[0], edits)


def test_the_command_does_the_same(gallery):
    me, you = portraits(gallery)
    edits = [{"set": {"yaw": -9, "light": [0, 10, 0.5, 0.5]}}, {"take": {"from": you.key, "controls": ["pose"]}},
             {"set": {"roll": 3, "expression": {"smile": -0.5, "blink": 1}}}, {"set": {"light": [-40, 10, 0.6, 0.4]}}]
    text = command_of(gallery, me, edits, out="my out")
    embed, edit = text.split(" && ")
    assert shlex.split(embed) == ["pie", "embed", str(me.photo_path), "-o", "my out"]
    words = shlex.split(edit)
    assert words[:3] == ["pie", "edit", "my out/me"]
    arguments = parse(words[2:])
    request = {"roll": arguments.roll, "expression": arguments.expression, "light": arguments.light,
               "like": (photo_params_of(gallery.pack, you.fitted, own=me.fitted), arguments.control)}
    target, _ = target_params(gallery.pack, me.fitted.params, **request)
    wanted = applied(gallery, me, edits)
    for name in ("rotation", "expression", "illumination"):
        np.testing.assert_allclose(getattr(target, name), getattr(wanted, name), atol=1e-5)
    assert arguments.yaw is None and arguments.like == "you.png"


def test_no_single_command_takes_from_two(gallery):
    me, you = portraits(gallery)
    edits = [{"take": {"from": me.key, "controls": ["pose"]}}, {"take": {"from": you.key, "controls": ["expression"]}}]
    with pytest.raises(UsageError, match="one other"):
        command_of(gallery, me, edits, out="out")


def test_the_command_names_the_face_that_was_chosen(gallery):
    me, _ = portraits(gallery)
    second = gallery.add("two.png", photo_path=me.photo_path, fitted=me.fitted, dropped=True, face=2)
    try:
        text = command_of(gallery, second, [{"set": {"yaw": 5}}], out="out")
        assert text == "pie embed two.png --face 2 -o out && pie edit out/two --yaw=5"
    finally:
        gallery.portraits.pop(second.key)
