"""Bounds as data: classes of channels, and what a file gives back of them."""

import dataclasses
import json

import pytest

from pie_jax.bounds import ALL, Bounds, Range, bounds_from, committed_bounds

BOUNDS = Bounds(winograd=(Range(32, 0, 100), Range(64, 10, ALL), Range(128, 0, 0)),
                fused_upsample=(Range(8, 0, ALL), Range(16, 50, 90)))


@pytest.mark.parametrize("channels, size, used", [
    (31, 50, False), (32, 1, True), (63, 100, True), (63, 101, False), (64, 10, False), (127, 11, True),
    (128, 50, False), (512, 50, False)])
def test_a_class_of_channels_begins_at_its_number(channels, size, used):
    assert BOUNDS.winograd_range(channels).holds(size) is used


@pytest.mark.parametrize("features, size, used", [(3, 1, True), (8, 10**9, True), (9, 50, False), (16, 51, True),
                                                  (16, 91, False), (17, 60, False)])
def test_a_class_of_features_ends_at_its_number(features, size, used):
    assert BOUNDS.fused_range(features).holds(size) is used


@pytest.mark.parametrize("bounds", [BOUNDS, *(committed_bounds(threads, shares_products=shares)
                                              for threads in (1, 2, 3, 64) for shares in (False, True))])
def test_bounds_survive_json(bounds):
    assert bounds_from(json.loads(json.dumps(dataclasses.asdict(bounds)))) == bounds
    assert hash(bounds) == hash(dataclasses.replace(bounds))


@pytest.mark.parametrize("data", [
    None, [], {}, {"winograd": []}, {"winograd": [], "fused_upsample": {}},
    {"winograd": [[1, 2]], "fused_upsample": []}, {"winograd": [[1, 2, 3.0]], "fused_upsample": []},
    {"winograd": [[1, 2, True]], "fused_upsample": []}, {"winograd": [[1, 2, -1]], "fused_upsample": []},
    {"winograd": [[64, 0, 9], [32, 0, 9]], "fused_upsample": []},
    {"winograd": [[1, 2, 2**63]], "fused_upsample": []}, {"winograd": [], "fused_upsample": [], "more": []}])
def test_what_is_no_bounds_is_none(data):
    assert bounds_from(data) is None
