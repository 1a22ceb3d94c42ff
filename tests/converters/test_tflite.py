"""MediaPipe's networks from TensorFlow Lite files, against TensorFlow Lite itself where it is installed."""

import jax
import numpy as np
import pytest

pytest.importorskip("flatbuffers")

from converters import tflite  # noqa: E402
from converters.readers import read  # noqa: E402
from pie_jax.errors import PackError  # noqa: E402
from pie_jax.pack import load_pack  # noqa: E402

FILES = {"face_detector": "face_detection_short_range.tflite", "face_mesh": "face_landmark_with_attention.tflite",
         "person_matte": "selfie_segmentation.tflite"}


@pytest.mark.parametrize("part", FILES)
def test_a_file_becomes_the_part_that_ships(shared_models, part):
    converted = tflite.convert(read(shared_models / FILES[part]), None)
    assert converted.part == part and "Apache-2.0" in converted.licence
    shipped = load_pack("demo", parts=(part,))
    assert shipped.configs.of(part) == converted.config
    for name, value in converted.weights.items():
        np.testing.assert_array_equal(np.asarray(shipped.weights[part][name]), value, err_msg=name)


@pytest.mark.parametrize("part", ["face_detector", "person_matte"])
def test_outputs_are_those_of_tensorflow_lite(shared_models, part):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    converted = tflite.convert(read(shared_models / FILES[part]), None)
    side = converted.config.resolution
    images = np.asarray(jax.random.uniform(jax.random.key(0), (2, side, side, 3)))
    interpreter = interpreters.Interpreter(str(shared_models / FILES[part]))
    interpreter.allocate_tensors()
    outputs = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        outputs.append([interpreter.get_tensor(d["index"])[0] for d in interpreter.get_output_details()])
    reference = {f"output_{i}": np.stack(values) for i, values in enumerate(zip(*outputs))}
    found = tflite.forward(converted, {"images": images, **reference})
    for name, value in reference.items():
        assert np.abs(found[name] - value).max() <= 1e-3 * np.abs(value).max(), name


def test_damaged_and_foreign_files_are_refused_in_one_line(shared_models, tmp_path):
    whole = (shared_models / FILES["face_detector"]).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "bad.tflite"
    for kept in (12, 40, 1000, len(whole) // 2):
        path.write_bytes(whole[:kept])
        with pytest.raises(PackError, match="bad.tflite"):
            tflite.convert(read(path), None)
    for _ in range(40):
        damaged = bytearray(whole)
        for place in rng.integers(8, len(whole), 20):
            damaged[place] = rng.integers(0, 256)
        for place in rng.integers(len(whole) - 40_000, len(whole), 20):  # the tables are at the end
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged))
        try:
            tflite.convert(read(path), None)
        except PackError as error:
            assert "\n" not in str(error)
    with pytest.raises(PackError, match="not one of MediaPipe's networks"):
        tflite.convert(read(shared_models / "face_landmark.tflite"), None)


def test_a_folder_of_downloads_is_recognised(shared_models, tmp_path, capsys):
    from converters.all import main

    folder = tmp_path / "downloads"
    folder.mkdir()
    for number, name in enumerate(FILES.values()):
        (folder / f"{number}.bin").symlink_to(shared_models / name)  # by content, never by name
    assert main([str(folder), "--pack", str(tmp_path / "pack")]) == 0
    assert set(load_pack(tmp_path / "pack").weights) == set(FILES)
