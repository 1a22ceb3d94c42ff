"""Embed the portrait that ships with the demo pack, and turn it: `python examples/embed_and_edit.py [OUT] [STEPS]`."""

import dataclasses
import pathlib
import sys

import pie_jax
import pie_jax.runtime
from pie_jax.config import PRESETS
from pie_jax.io import save_png
from pie_jax.pack import find_pack


def main(out: str = "out", steps: str = "") -> None:
    pie_jax.runtime.configure()
    pack = pie_jax.load_pack("demo")
    config = pie_jax.EmbedConfig(energy=pack.configs.energy)
    if steps:  # a few are enough to see that all is there
        stages = tuple(dataclasses.replace(stage, steps=int(steps)) for stage in PRESETS["fast"])
        config = dataclasses.replace(config, stages=stages)
    photo = find_pack("demo") / "sample.png"
    embedding = pie_jax.embed_portraits(pack, [photo], config=config)[0]
    image = pie_jax.edit_portrait(pack, embedding, yaw=15, expression={"smile": 2})
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    embedding.save(pathlib.Path(out) / "embedding.npz")
    save_png(pathlib.Path(out) / "turned.png", image)
    print(f"{embedding.report['metrics']['psnr_db']:.1f} dB; see {out}/turned.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
