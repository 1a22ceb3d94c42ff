"""FFHQ's framing: where the square of known eyes and a known mouth lies."""

import numpy as np
import pytest

from pie_jax.photo.align import framing, is_framed, whole
from pie_jax.photo.squares import Square


def landmarks(eyes=((40.0, 50.0), (60.0, 50.0)), mouth=((43.0, 74.0), (57.0, 74.0))):
    points = np.zeros((66, 2))
    points[36:42], points[42:48] = eyes
    points[48], points[54] = mouth
    return points


def test_an_upright_face():
    square = framing(landmarks())
    assert square.angle == pytest.approx(0.0) and square.side == pytest.approx(2 * max(2.0 * 20, 1.8 * 24))
    assert (square.x, square.y) == pytest.approx((50.0, 52.4))


def test_it_turns_and_grows_with_the_face():
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    upright, turned = framing(landmarks()), framing(3.0 * landmarks() @ turn.T)
    assert turned.angle == pytest.approx(0.4) and turned.side == pytest.approx(3 * upright.side)
    np.testing.assert_allclose((turned.x, turned.y), 3 * turn @ (upright.x, upright.y))


def test_what_is_framed_already_is_left_alone():
    assert is_framed(Square(x=51.0, y=49.0, side=101.0), (100, 100))
    assert not is_framed(Square(x=51.0, y=49.0, side=140.0), (100, 100))
    assert not is_framed(whole((100, 120)), (100, 120))
