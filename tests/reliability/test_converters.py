"""Files that only look right: exit code 4 and what they lack, whatever tensor is gone, empty or of another rank."""

import argparse

import numpy as np
import pytest

from converters.converting import converted_by
from converters.readers.checkpoint import Checkpoint, unwrapped
from pie_jax.errors import PackError, UsageError


@pytest.mark.parametrize("error,said", [
    (KeyError("classifier.0.bias"), "lacks 'classifier.0.bias'"),
    (IndexError("tuple index out of range"), "out of range"),
    (TypeError("unhashable"), "unhashable"), (AttributeError("'int' object has no attribute 'shape'"), "no attribute"),
    (ValueError("cannot reshape"), "cannot reshape"), (ZeroDivisionError("division by zero"), "division")])
def test_what_a_converter_stumbles_over_is_said_of_the_file(tmp_path, error, said):
    def convert(checkpoint, arguments):
        raise error

    checkpoint = Checkpoint(path=tmp_path / "x.pth", format="npz", tree={})
    with pytest.raises(PackError, match=said) as caught:
        converted_by(convert, checkpoint, argparse.Namespace())
    assert "\n" not in str(caught.value) and "x.pth" in str(caught.value)


def test_our_own_errors_pass(tmp_path):
    def convert(checkpoint, arguments):
        raise UsageError("give --control")

    with pytest.raises(UsageError, match="give --control"):
        converted_by(convert, Checkpoint(path=tmp_path, format="npz", tree={}), argparse.Namespace())


def test_prefixes_of_wrappers_are_taken_off():
    array = np.zeros(3)
    for prefix in ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.module."):
        assert set(unwrapped({f"{prefix}{name}": array for name in ("a.weight", "b")})) == {"a.weight", "b"}
        nested = {"g_ema": {f"{prefix}a": array}, "step": 3}
        assert unwrapped(nested) == {"g_ema": {"a": array}, "step": 3}
    mixed = {"module.a": array, "b": array}
    assert unwrapped(mixed) == mixed and unwrapped([1]) == [1]
    endless = {"a": array}
    endless["self"] = endless
    assert unwrapped(endless)["self"]["a"] is array
    deep = {}
    for _ in range(5000):
        deep = {"a": deep}
    assert set(unwrapped(deep)) == {"a"}
