"""A folder of photos, each embedded and turned: `python examples/folder_of_photos.py PHOTOS [OUT] [STEPS]`."""

import dataclasses
import pathlib
import sys

import pie_jax
import pie_jax.runtime
from pie_jax.config import PRESETS
from pie_jax.io import save_png


def main(photos: str, out: str = "out", steps: str = "") -> None:
    pie_jax.runtime.configure()
    pack = pie_jax.load_pack("demo")
    config = pie_jax.EmbedConfig(energy=pack.configs.energy)
    if steps:  # a few are enough to see that all is there
        stages = tuple(dataclasses.replace(stage, steps=int(steps)) for stage in PRESETS["fast"])
        config = dataclasses.replace(config, stages=stages)
    paths = sorted(path for path in pathlib.Path(photos).iterdir() if path.suffix.lower() in (".jpg", ".png", ".webp"))
    embeddings = pie_jax.embed_portraits(pack, paths, config=config)  # one batch: all move in every step
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    for path, embedding in zip(paths, embeddings, strict=True):
        save_png(pathlib.Path(out) / f"{path.stem}_turned.png", pie_jax.edit_portrait(pack, embedding, yaw=10))
        print(f"{path.name}: {embedding.report['metrics']['psnr_db']:.1f} dB")


if __name__ == "__main__":
    main(*sys.argv[1:])
