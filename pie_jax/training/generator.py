"""Train a StyleGAN2 generator: a warm start from known scenes or photographs, then adversarial sharpening.

    python -m pie_jax.training.generator --pack DIR --data runs/family --resolution 64 --minutes 60
    python -m pie_jax.training.generator --pack DIR --stage decoded --photos FOLDER --minutes 30
    python -m pie_jax.training.generator --pack DIR --stage adversarial --photos FOLDER --steps 20000

The supervised stage reads pairs from `pie_jax.training.data.family_data`. A pack that has a generator of a lower
resolution is grown: its weights are kept and the new block starts from nothing; of a higher one the lower layers are
taken. The decoded stage learns one code a photograph together with the synthesis network: a start for the adversarial
stage (StyleGAN2's loss, R1, style mixing, adaptive augmentation), which takes the same pairs, or photographs that
`pie_jax.training.photographs` framed, and needs no start. A pack without a generator starts from that of --start.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pie_jax.cli.command import Parser
from pie_jax.cli.flags import add_fields
from pie_jax.errors import UsageError
from pie_jax.io import read_npz, save_png
from pie_jax.training.core import command, loop
from pie_jax.training.generator_start import DEFAULTS, FLAGS, batch_source, initial_weights, pack_config

if TYPE_CHECKING:
    import jax
    import numpy as np

    from pie_jax.arrays import Array, Weights
    from pie_jax.config import GeneratorConfig


def parser() -> Parser:
    result = command.parser_of("generator", module="pie_jax.training.generator", description=__doc__, steps=20_000,
                               batch=16)
    result.add_argument("--stage", choices=("supervised", "decoded", "adversarial"), default="supervised")
    result.add_argument("--data", default="runs/family", metavar="DIR", help="folder of training.family_data")
    result.add_argument("--photos", default=None, metavar="FOLDER",
                        help="decoded and adversarial stage: portraits, framed by training.photographs")
    result.add_argument("--start", default="none", metavar="PACK",
                        help="with --photos: whose generator a pack without one starts from")
    add_fields(result, DEFAULTS, FLAGS, help={"channel_base": "channels at resolution r: so many / r"})
    result.add_argument("--learning-rate", type=float, default=3e-3)
    result.add_argument("--region", type=float, default=30.0, help="weight of eyes and mouth in the loss")
    result.add_argument("--pair", type=float, default=8.0, help="weight of the difference within antithetic pairs")
    result.add_argument("--gain", type=float, default=0.0, help="weight of (gain - 1)^2 within such pairs")
    result.add_argument("--r1", type=float, default=None, help="R1 gamma (default: 0.0002 resolution^2 / batch)")
    result.add_argument("--mixing", type=float, default=0.5, help="share of style-mixed codes in the adversarial stage")
    result.add_argument("--perceptual", type=float, default=0.3, help="weight of features in the decoded stage")
    result.add_argument("--augment", type=float, default=None, metavar="TARGET",
                        help="certainty of the discriminator that augmentation aims at; 0: none (default: 0.6 with "
                             "--photos, else 0)")
    result.add_argument("--augment-images", type=float, default=100_000.0, metavar="N",
                        help="images after which augmentation can have gone from never to always")
    result.add_argument("--warm-up", type=int, default=None, metavar="STEPS",
                        help="adversarial stage: the generator's rate rises over so many steps while the discriminator "
                             "learns (default: 1500 with --photos, else 0)")
    result.add_argument("--precision", choices=("float32", "bfloat16"), default="float32",
                        help="of the convolutions in the adversarial stage")
    result.add_argument("--judges", default="demo", metavar="PACK",
                        help="pack whose networks measure samples: perceptual, face_descriptor")
    result.add_argument("--evaluate-minutes", type=float, default=10.0, metavar="N",
                        help="minutes between sheets of samples")
    return result


def mean_w(mapping_weights: Weights, config: GeneratorConfig, *, count: int = 10_000) -> jax.Array:
    """w_mean [D]: the mean of w over `count` codes."""
    import jax
    import jax.numpy as jnp

    from pie_jax.nn.layers import apply
    from pie_jax.nn.stylegan2 import Mapping

    z = jax.random.normal(jax.random.key(0), (count, config.z_dim))
    map_z = jax.jit(lambda weights, z: apply(Mapping(config), weights, z))
    return jnp.mean(map_z(mapping_weights, z), axis=0)


def synthesiser(config: GeneratorConfig, mapping_weights: Weights, synthesis_weights: Weights, *,
                batch: int = 24) -> Callable[[Array], np.ndarray]:
    """z [N, 512] -> images [N, R, R, 3] in 0..1, in compiled batches."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from pie_jax.nn.layers import apply
    from pie_jax.nn.stylegan2 import Mapping, Synthesis, to_w_plus

    @jax.jit
    def synthesise(mapping_weights, synthesis_weights, z):
        w = apply(Mapping(config), mapping_weights, z)
        image = apply(Synthesis(config), synthesis_weights, to_w_plus(w, config.num_layers))
        return jnp.clip(image * 0.5 + 0.5, 0.0, 1.0)

    def run(z):
        parts = []
        for start in range(0, len(z), batch):
            part = z[start:start + batch]
            full = np.concatenate([part, np.zeros((batch - len(part), z.shape[1]), z.dtype)])
            parts.append(np.asarray(synthesise(mapping_weights, synthesis_weights, full))[:len(part)])
        return np.concatenate(parts)

    return run


def sheet(path: pathlib.Path, data: Any, images: Array) -> None:
    """Write truth (odd rows) over synthesis (even rows) of the held-out scenes as one PNG."""
    import numpy as np
    from PIL import Image

    truth, images = data["images"], (np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8)
    rows = [np.concatenate(list(block[start:start + 8]), axis=1) for start in range(0, len(truth), 8)
            for block in (truth, images)]
    save_png(path, Image.fromarray(np.concatenate(rows, axis=0)))


def train(arguments: argparse.Namespace) -> loop.RunResult:
    import jax

    from pie_jax.config import to_dict
    from pie_jax.pack import load_pack, update_part
    from pie_jax.runtime import configure
    from pie_jax.training import supervised
    from pie_jax.training.data.family_data import RESPONSE_FACTORS, FamilyData, shrink
    from pie_jax.training.losses.response import response

    if arguments.stage == "decoded":
        from pie_jax.training.decoded import train_decoded

        return train_decoded(arguments)
    if arguments.stage == "adversarial":
        from pie_jax.training.adversarial import train_adversarial

        return train_adversarial(arguments)
    configure()
    has_pack = (pathlib.Path(arguments.pack) / "manifest.json").is_file()
    pack = load_pack(arguments.pack, parts=("generator",)) if has_pack else None
    config = pack_config(arguments, pack)
    folder = pathlib.Path(arguments.data)
    if not (folder / "count.json").is_file():
        raise UsageError(f"{folder}: holds no rendered pairs; run: "
                         f"python -m pie_jax.training.family_data --data {folder} --resolution {arguments.resolution}")
    data = FamilyData.open(folder)
    if data.resolution % config.resolution:
        raise UsageError(f"{folder}: holds images of {data.resolution} px, --resolution asks for {config.resolution}")
    held_out = read_npz(folder / "response.npz")
    held_out |= {name: shrink(held_out[name], config.resolution) for name in ("images", "moved_images")}
    run_folder = pathlib.Path(arguments.run)
    mapping, synthesis, origin = initial_weights(jax.random.key(arguments.seed), config, pack)
    batches = batch_source(data, resolution=config.resolution, batch=arguments.batch, seed=arguments.seed)
    optimiser = supervised.clipped_adam()
    state = loop.new_state(jax.random.key(arguments.seed + 1), synthesis, optimiser, extra={"mapping": mapping})
    step = supervised.supervised_step(config, optimiser, peak=arguments.learning_rate, region=arguments.region,
                                      pair=arguments.pair, gain=arguments.gain)

    def evaluate(state):
        synthesise = synthesiser(config, state.extra["mapping"], state.ema)
        sheet(run_folder / "held_out.png", held_out, synthesise(held_out["z"]))
        return response(synthesise, held_out, RESPONSE_FACTORS)

    result = loop.run(run_folder, state, step, steps=arguments.steps, minutes=arguments.minutes,
                      batch_fn=batches, batch_size=arguments.batch,
                      chunk=16, restart=arguments.restart, evaluate=evaluate, evaluate_seconds=240.0,
                      description={"config": to_dict(config), "batch": arguments.batch, "seed": arguments.seed},
                      name="generator")
    mapping = result.state.extra["mapping"]
    weights = {"mapping": mapping, "synthesis": result.state.ema, "w_mean": mean_w(mapping, config)}
    if result.outcome != "interrupted":
        record = command.record(result, arguments, module="generator", start=origin, pairs=data.count(),
                             images_seen=result.steps * arguments.batch)
        update_part(arguments.pack, "generator", weights, config=config, record=record)
    return result


def main(argv: list[str] | None = None) -> int:
    return command.run_command(train, parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
