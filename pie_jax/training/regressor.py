"""Train the regressor, a face crop to FaceParams, as MoFA does: by rendering what it says (arXiv 1703.10580).

`python -m pie_jax.training.regressor --pack DIR` for any pack with a morphable model. The images come from the pack's
generator, from a folder of photos (`--photos`), or both; every one is compared with the rendering of its own FaceParams
over the pixels the face covers, its landmarks with the projected ones, and the coefficients are held near zero, with
the weights of Deep3DFaceRecon (arXiv 1903.08527). Landmarks are those of the pack's landmark network, where it has
one, and for photos those of its face mesh. `--studio` adds studio portraits, whose FaceParams are known and compared
one by one, `--family` the pairs of the demo generator. `--keep` holds what the pack's regressor says of all but photos
(learning without forgetting, arXiv 1606.09282), and `--share` says how far its weights then go to what was learned
(WiSE-FT, arXiv 2109.01903).
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.cli.command import Parser
from pie_jax.cli.flags import add_fields, read_fields
from pie_jax.config import RegressorConfig, to_dict
from pie_jax.errors import UsageError
from pie_jax.face3d.morphable import PARAMETERS, VECTOR_SLICES, FaceParams
from pie_jax.imaging import face_crop
from pie_jax.nn.layers import apply, initialise
from pie_jax.pack import Pack, PackConfigs, load_pack, update_part
from pie_jax.pack.inference import find_landmarks, map_z
from pie_jax.training.core import command, loop
from pie_jax.training.data import codes
from pie_jax.training.data.augment import degrade
from pie_jax.training.data.family_data import family_portraits
from pie_jax.training.data.photo_folder import PhotoFaces, holds_out, read_photos, with_points
from pie_jax.training.data.studio_data import StudioData, add_data_arguments, open_data
from pie_jax.training.dfr import explained, group_errors, normalisation
from pie_jax.training.losses import face_losses

if TYPE_CHECKING:
    from pie_jax.arrays import Array, Weights
    from pie_jax.config import CameraConfig
    from pie_jax.face3d.morphable import MorphableModel
    from pie_jax.training.core.loop import TrainState

PART = "regressor"
DEFAULTS = RegressorConfig(stage_sizes=(2, 2, 2, 2), bottleneck=False, width=24, resolution=64)
FLAGS = ("stage_sizes", "bottleneck", "width", "resolution")
LOSS_FLAGS = ("landmark", "render_rows", "keep")
OPTIMISER = optax.chain(optax.clip_by_global_norm(5.0), optax.scale_by_adam(b1=0.9, b2=0.99))
SPREAD = {"identity": 1.0, "expression": 1.0, "texture": 1.0, "rotation": 0.25, "illumination": 0.25,
          "translation": 0.25}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegressorLossConfig:
    """Weights of the terms. The first six are Deep3DFaceRecon's, landmarks being in pixels of a 224 px crop."""

    colour: float = 1.92
    landmark: float = 1.6e-3
    coefficients: float = 3e-4
    gamma: float = 10.0
    reflectance: float = 5.0
    truth: float = 1.0  # studio portraits: FaceParams in deviations
    truth_points: float = 4e-3  # studio portraits: projected landmarks, squared pixels of a 224 px crop
    keep: float = 0.0  # all but photos: both errors of studio portraits, from what the regressor said at the start
    render_rows: int = 8  # rows of a batch that are rendered
    resolution: int = 64  # of those renderings


def self_supervised(model: MorphableModel, vectors: Array, crops_01: Array, landmarks: Array | None,
                    camera: CameraConfig, losses: RegressorLossConfig) -> dict[str, jax.Array]:
    """MoFA's terms (scalars, weighted) of FaceParams vectors [B, 257] against crops [B, R, R, 3].

    landmarks [B, 66, 2] in 0..1 of the crop, or None.
    """
    params = FaceParams.from_vector(vectors)
    rows = min(losses.render_rows, vectors.shape[0])
    shown = jax.tree.map(lambda x: x[:rows], params)
    colour = face_losses.photometric_loss(model, shown, crops_01[:rows], camera, norm="l21")
    found = {
        "colour": losses.colour * jnp.mean(colour),
        "prior": losses.coefficients * jnp.mean(face_losses.coefficient_loss(params))
        + losses.gamma * jnp.mean(face_losses.gamma_loss(params))
        + losses.reflectance * jnp.mean(face_losses.reflectance_loss(model, params))}
    if landmarks is not None:
        points = face_losses.projected_landmarks(model, params, camera)
        found["landmark"] = losses.landmark * 224.0**2 * jnp.mean(
            face_losses.landmark_loss(points, landmarks, weights=face_losses.LANDMARK_WEIGHTS))
    return found


def supervised(model: MorphableModel, vectors: Array, truth: Array, std: Array, importance: Array | None,
               camera: CameraConfig, losses: RegressorLossConfig) -> dict[str, jax.Array]:
    """Terms (scalars, weighted) of FaceParams vectors [B, 257] against the studio's truth [B, 257].

    std, importance [257]: deviations of the truth, and how much each component shows.
    """
    errors = group_errors(vectors, truth, std, importance=importance)
    points = face_losses.projected_landmarks(model, FaceParams.from_vector(vectors), camera)
    true_points = face_losses.projected_landmarks(model, FaceParams.from_vector(truth), camera)
    return {"truth": losses.truth * jnp.asarray(sum(errors.values())) / len(errors),
            "points": losses.truth_points * 224.0**2 * jnp.mean(face_losses.landmark_loss(points, true_points))}


def make_step(configs: PackConfigs, losses: RegressorLossConfig, *, peak: float, painted: int = 0) -> Callable:
    """The step of `loop.run`.

    batch: any of {"studio": {"images", "params", "landmarks"}, "photos": {"images" uint8 [B, H, W, 3], "points"?}};
    `painted` more portraits are drawn from frozen["generator"]. frozen: {"morphable", "generator"?, "landmarks"?},
    "importance" [257] where there are studio rows or something is kept. With `losses.keep`, state.extra["before"] has
    the weights that the run began with, and the statistics of normalisation stay as they are, too.
    """
    from pie_jax.nn.regressor import Regressor, update_batch_stats

    network, camera = Regressor(configs.regressor), configs.camera

    def paint(key, frozen):
        z = jax.random.normal(key, (painted, configs.generator.z_dim))
        w = map_z(configs.generator, frozen["generator"], z)
        w_plus = jnp.broadcast_to(w[:, None], (painted, configs.generator.num_layers, configs.generator.w_dim))
        return codes.paint(configs, frozen, w_plus, resolution=codes.synthesis_resolution(configs))

    def crop_all(portraits, resolution):
        return jnp.concatenate([face_crop(x, camera, resolution=resolution) for x in portraits])

    def marks_of(portraits, points, frozen):
        """Landmarks in 0..1 of the crops of lists of portraits, or None; points: those known, None where not."""
        if all(known is None for known in points) and "landmarks" not in frozen:
            return None
        return jnp.concatenate([
            face_losses.portrait_to_crop(known, camera) if known is not None
            else jax.lax.stop_gradient(find_landmarks(configs, frozen, x)) for x, known in zip(portraits, points)])

    def loss(weights, before, key, rows, frozen):
        z_key, *degrade_keys = jax.random.split(key, 3)
        studio, photos, drawn = [], [], []
        if "studio" in rows:
            studio = [degrade(degrade_keys[0], rows["studio"]["images"].astype(jnp.float32) / 255.0)]
        if "photos" in rows:
            photos = [degrade(degrade_keys[1], rows["photos"]["images"].astype(jnp.float32) / 255.0)]
        if painted:
            drawn = [jax.lax.stop_gradient(paint(z_key, frozen))]
        crops = crop_all(studio + photos + drawn, configs.regressor.resolution)
        statistics = None
        if losses.keep > 0:
            vectors = apply(network, weights, crops)
        else:
            vectors, sown = apply(network, weights, crops, train=True, mutable=["batch_stats"])
            statistics = sown["batch_stats"]
        known, shown = (sum(x.shape[0] for x in part) for part in (studio, photos))
        judged = photos if losses.keep > 0 else photos + drawn  # by pixels and landmarks; what is kept is not
        found, std = {}, jax.lax.stop_gradient(weights["output_std"])
        if studio:
            found |= supervised(frozen["morphable"], vectors[:known], rows["studio"]["params"], std,
                                frozen["importance"], camera, losses)
        if judged:
            points = [rows["photos"].get("points") for _ in photos] + [None] * (len(judged) - len(photos))
            count = sum(x.shape[0] for x in judged)
            found |= self_supervised(frozen["morphable"], vectors[known:known + count],
                                     crop_all(judged, losses.resolution), marks_of(judged, points, frozen), camera,
                                     losses)
        elif losses.render_rows > 0:
            found |= self_supervised(frozen["morphable"], vectors, crop_all(studio, losses.resolution), None, camera,
                                     losses)
        if losses.keep > 0:
            others = np.r_[:known, known + shown:vectors.shape[0]]
            said = jax.lax.stop_gradient(apply(network, before, crops[others]))
            kept = supervised(frozen["morphable"], vectors[others], said, std, frozen["importance"], camera, losses)
            found["kept"] = losses.keep * jnp.asarray(sum(kept.values()))
        return sum(found.values()), (found, statistics)

    def step(state, rows, frozen):
        (value, (found, statistics)), gradients = jax.value_and_grad(loss, has_aux=True)(
            state.weights, state.extra.get("before"), loop.step_key(state), rows, frozen)
        state = loop.apply_gradients(state, gradients, optimiser=OPTIMISER,
                                     learning_rate=loop.cosine(state.fraction, peak=peak, warm_up=0.03))
        if statistics is not None:
            state = dataclasses.replace(state, weights=update_batch_stats(state.weights, statistics))
        return state, {"loss": value} | found

    return step


def default_scale() -> dict[str, np.ndarray]:
    """Output scale where no truth is known: the mean face, one deviation, a quarter radian, a quarter unit."""
    std = np.zeros(PARAMETERS, np.float32)
    for name, part in VECTOR_SLICES.items():
        std[part] = SPREAD[name]
    return {"output_mean": np.zeros(PARAMETERS, np.float32), "output_std": std}


def train(arguments: argparse.Namespace) -> loop.RunResult:
    """Train and write the part. Needs a morphable model and at least one source of images."""
    camera = command.camera_of(arguments)
    config = read_fields(arguments, DEFAULTS, FLAGS)
    pack = pack_with_model(arguments)
    before = pack.configs.regressor  # a convolutional network: its weights serve any resolution
    if (arguments.keep or arguments.share < 1.0) and not arguments.warm:
        raise UsageError("--keep, --share: need --warm, a regressor to start from")
    if not 0.0 < arguments.share <= 1.0:
        raise UsageError(f"--share: expected more than 0, and 1 at most, got {arguments.share}")
    if arguments.warm and before is not None and dataclasses.replace(before, resolution=config.resolution) != config:
        raise UsageError(f"--warm: the pack's regressor is another network ({pack.configs.regressor}); pass its sizes")
    configs = dataclasses.replace(pack.configs, regressor=config, camera=camera, rignets=())
    losses = dataclasses.replace(read_fields(arguments, RegressorLossConfig(), LOSS_FLAGS),
                                 resolution=min(64, config.resolution))
    data = open_data(arguments.data) if arguments.studio else None
    family = None
    if arguments.family is not None:
        if data is None:
            raise UsageError("--family: also needs --studio, whose portraits tell how it goes")
        family = family_portraits(pathlib.Path(arguments.family))
    photos = None
    if arguments.photos is not None:
        photos = with_points(pack, read_photos(arguments.photos, resolution=2 * config.resolution, limit=20_000))
    painted = arguments.painted
    if painted is None:
        painted = 0 if "generator" not in pack.weights else arguments.batch // 4 if data else arguments.batch
    if data is None and photos is None and not painted:
        raise UsageError("regressor: nothing to learn from; pass --studio or --photos, or train the pack's generator")
    if arguments.keep and data is None and not painted:
        raise UsageError("--keep: there are photos alone; it holds studio portraits (--studio) and --painted ones")
    if painted:
        pack.require("generator")
    result = _run(arguments, configs, losses, pack, data, family, photos, painted)
    if result.outcome != "interrupted":
        counts = {"painted": painted, "portraits": len(data) if data else 0,
                  "photos": len(photos) if photos is not None else 0, "family": len(family) if family else 0}
        if arguments.warm:
            counts["before"] = pack.manifest.get("training", {}).get(PART)
        update_part(arguments.pack, PART, on_the_way(result.state, arguments.share), config=config,
                    record=command.record(result, arguments, module=PART, losses=to_dict(losses), **counts))
    return result


def _run(arguments, configs: PackConfigs, losses, pack: Pack, data: StudioData | None,
         family: StudioData | None, photos: PhotoFaces | None, painted: int) -> loop.RunResult:
    from pie_jax.nn.regressor import Regressor

    config = configs.regressor
    key, init_key = jax.random.split(jax.random.key(arguments.seed))
    weights = initialise(Regressor(config), init_key, jnp.zeros((1, config.resolution, config.resolution, 3)))
    scale = normalisation(np.asarray(data.params[:data.training_rows])) if data else default_scale()
    weights |= {name: jnp.asarray(value) for name, value in scale.items()}
    if arguments.warm:
        pack.require(PART)
        weights = pack.weights[PART]
    frozen = {"morphable": pack.morphable}
    if data is not None or arguments.keep:
        frozen["importance"] = jnp.asarray(face_losses.importance(pack.morphable, weights["output_std"]))
    frozen |= {name: pack.weights[name] for name in ("generator", "landmarks") if name in pack.weights}

    def batch(step):
        found = {}
        if data is not None:
            of_family = 3 * arguments.batch // 4 if family is not None else 0
            found["studio"] = data.batch(arguments.seed, step, arguments.batch - of_family)
        if family is not None:
            drawn = family.batch(arguments.seed, step, of_family)
            found["studio"] = jax.tree.map(lambda a, b: np.concatenate([a, b]), found["studio"], drawn)
        if photos is not None:
            found["photos"] = photos.batch(arguments.seed, step, arguments.batch)
        return found

    extra = {"before": weights} if arguments.warm else {}  # in the checkpoint: the pack's may be another by then
    return loop.run(arguments.run, loop.new_state(key, weights, OPTIMISER, extra=extra),
                    make_step(configs, losses, peak=arguments.rate, painted=painted), frozen=frozen,
                    steps=arguments.steps, minutes=arguments.minutes, restart=arguments.restart, batch_fn=batch,
                    batch_size=arguments.batch * ((data is not None) + (photos is not None)) + painted,
                    evaluate=evaluation(configs, pack, data, held_out_photos(arguments, pack), share=arguments.share),
                    name=PART,
                    description={"config": to_dict(config), "losses": to_dict(losses), "batch": arguments.batch,
                                 "painted": painted, "seed": arguments.seed, "rate": arguments.rate,
                                 "warm": arguments.warm, "studio": data is not None, "family": family is not None,
                                 "photos": arguments.photos} | ({"keep": arguments.keep} if arguments.keep else {}))


def on_the_way(state: TrainState, share: float) -> Weights:
    """`share` of the way from the weights that a run began with to those that it learned."""
    if share == 1.0:
        return state.ema
    return jax.tree.map(lambda before, after: before + share * (after - before), state.extra["before"], state.ema)


def held_out_photos(arguments: argparse.Namespace, pack: Pack) -> PhotoFaces | None:
    """Those of --photos that `training.photographs` held out, where the pack finds their points; None: no such ones."""
    if arguments.photos is None or not holds_out(arguments.photos):
        return None
    photos = with_points(pack, read_photos(arguments.photos, resolution=2 * arguments.resolution, limit=256,
                                           held_out=True))
    return photos if photos.points is not None else None


def evaluation(configs: PackConfigs, pack: Pack, data: StudioData | None, photos: PhotoFaces | None, *,
               share: float) -> Callable[[TrainState], dict[str, Any]] | None:
    """state -> held-out metrics on studio people and photos never trained on; None where there are neither."""
    from pie_jax.pack.inference import regress

    if data is None and photos is None:
        return None
    look = jax.jit(lambda weights, images: regress(configs, {PART: weights}, images.astype(jnp.float32) / 255.0))
    project = jax.jit(lambda model, vectors: face_losses.projected_landmarks(
        model, FaceParams.from_vector(vectors), configs.camera))

    def read(state, images):
        weights = on_the_way(state, share)
        return np.concatenate([np.asarray(look(weights, images[i:i + 32])) for i in range(0, len(images), 32)])

    def off(vectors, true_points):
        """Mean distance of the landmarks, widths of the crop."""
        return np.linalg.norm(np.asarray(project(pack.morphable, vectors)) - true_points, axis=-1).mean(axis=-1)

    def of_studio(state):
        vectors, truth = read(state, tail["images"]), tail["params"]
        degrees = np.degrees(np.abs(vectors - truth)[:, VECTOR_SLICES["rotation"]]).mean(axis=0)
        return explained(vectors, truth, std, importance=weight) | {
            "pitch_error_degrees": float(degrees[0]), "yaw_error_degrees": float(degrees[1]),
            "landmark_error_px_of_128": float(off(vectors, true_points).mean() * configs.camera.crop_size * 128)}

    if data is not None:
        tail = data.tail(256)
        std = normalisation(np.asarray(data.params[:data.training_rows]))["output_std"]
        true_points = np.asarray(project(pack.morphable, tail["params"]))
        weight = face_losses.importance(pack.morphable, std)

    def evaluate(state):
        found = of_studio(state) if data is not None else {}
        if photos is not None:
            found["photo_error_px_of_224"] = float(np.median(off(
                read(state, photos.images), face_losses.portrait_to_crop(photos.points, configs.camera))) * 224)
        return found

    return evaluate


def pack_with_model(arguments: argparse.Namespace) -> Pack:
    """The pack's generator, landmark network and morphable model; with --studio the studio's head where it has none."""
    pack = load_pack(arguments.pack, parts=("generator", "landmarks", "morphable", "face_detector", "face_mesh", PART))
    if pack.morphable is None and arguments.studio:
        from pie_jax.studio.head import build_head

        model = jax.tree.map(jnp.asarray, build_head().morphable)
        update_part(arguments.pack, "morphable", model, record={"command": "pie_jax.studio.head.build_head()"})
        pack = dataclasses.replace(pack, morphable=model)
    pack.require("morphable")
    return pack


def parser() -> Parser:
    result = command.parser_of(PART, module="pie_jax.training.regressor", description=__doc__, steps=4000,
                               batch=32, rate=1e-3)
    add_data_arguments(result, studio="also learn from studio portraits, whose truth is known")
    result.add_argument("--family", default=None, metavar="DIR",
                        help="with --studio: three quarters of a batch are pairs of training.family_data")
    result.add_argument("--photos", default=None, metavar="FOLDER",
                        help="also learn from the aligned photos in a folder")
    result.add_argument("--painted", type=int, default=None, metavar="N",
                        help="images of the pack's generator a step (default: --batch, a quarter of it with --studio)")
    result.add_argument("--warm", action="store_true", help="start from the regressor that the pack has")
    result.add_argument("--share", type=float, default=1.0,
                        help="with --warm: how far the pack's weights go to what was learned")
    add_fields(result, DEFAULTS, FLAGS, help={
        "stage_sizes": "blocks of each stage (ResNet-50: 3,4,6,3)", "bottleneck": "bottleneck blocks (ResNet-50)",
        "width": "channels of the first stage (ResNet-50: 64)", "resolution": "side of the face crop"})
    result.add_argument("--stages", dest="stage_sizes", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    add_fields(result, RegressorLossConfig(), LOSS_FLAGS, help={
        "landmark": "weight of the landmarks of photos and painted portraits",
        "render_rows": "rendered rows of a batch",
        "keep": "with --warm: weight of what the pack's regressor says of studio and painted portraits"})
    return result


def main(argv: list[str] | None = None) -> int:
    return command.run_command(train, parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
