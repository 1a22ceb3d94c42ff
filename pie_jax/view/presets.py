"""Edits that the page offers by name; values are the sliders' own."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "Smile": {"expression": {"smile": 1.4}},
    "Laugh": {"expression": {"smile": 1.8, "jaw_open": 0.9, "cheek_raise": 0.8}},
    "Serious": {"expression": {"smile": 0.0, "frown": 0.6, "jaw_open": 0.0}},
    "Surprised": {"expression": {"brow_raise": 1.6, "eye_wide": 1.0, "jaw_open": 1.2}},
    "Wink": {"expression": {"blink_left": 1.8, "smile": 0.8}},
    "To the camera": {"yaw": 0.0, "pitch": 0.0, "roll": 0.0},
    "Look left": {"yaw": -14.0},
    "Look right": {"yaw": 14.0},
    "Side light": {"light": [70.0, 15.0, 0.8, 0.35]},
    "From above": {"light": [10.0, 60.0, 0.8, 0.4]},
    "Soft light": {"light": [0.0, 20.0, 0.3, 0.75]},
}
