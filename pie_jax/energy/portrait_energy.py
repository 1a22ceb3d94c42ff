"""The whole energy of portraits, from a pack: what is prepared once, and the pass that every step makes."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from pie_jax.arrays import Absent, Array, Weights, check_shape
from pie_jax.config import PRECISIONS, EnergyConfig, PrecisionConfig, StageConfig
from pie_jax.energy.terms import edit_term, identity_term, invariance_term, recognition_term, synthesis_term
from pie_jax.errors import PackError
from pie_jax.face3d.morphable import FaceParams, MorphableModel, with_control
from pie_jax.face3d.render import render, render_vertices
from pie_jax.imaging import face_crop, resize_area
from pie_jax.pack import Pack, PackConfigs, Pool
from pie_jax.pack.inference import (
    crop_camera,
    face_embedding,
    find_landmarks,
    params_from_latent,
    perceptual_features,
    precompute,
    regress,
    rig,
    synthesise,
    synthesise_stopping,
)
from pie_jax.pack.parts import needs_of
from pie_jax.pack.sampling import draw
from pie_jax.programs import kept


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What never changes of B portraits while they are embedded; absent parts of a pack leave None."""

    portrait: Array  # [B, H, W, 3] in 0..1 at the generator's resolution
    features: dict[str, Array] | None  # perceptual features by layer
    params_vector: Array | None  # [B, 257] FaceParams
    landmarks: Array | None  # [B, 66, 2] x and y in 0..1 of the face crop
    face: Array | None  # [B, R, R, 3] face crop at the render resolution
    descriptor: Array | None  # [B, N] unit vectors of the recognition network


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """All arrays the energy reads: arguments of the compiled step, never constants in it."""

    weights: dict[str, Weights]
    morphable: MorphableModel | Absent
    pool: Pool | Absent
    target: Target
    factors: dict[str, Array]  # the weights of the parts, as data: other weights need no new compilation


@kept(static_argnames="precision")
def prepare_target(pack: Pack, portraits: Array, *, precision: PrecisionConfig = PRECISIONS["float32"]) -> Target:
    """Look at portraits [B, H, W, 3] in 0..1 (the generator's resolution) once. ValueError: another size.

    precision: the energy's, so that a portrait and an equal synthesis look equal.
    """
    configs, weights = pack.configs, pack.weights
    resolution = configs.generator.resolution
    check_shape("portraits", portraits, (None, resolution, resolution, 3))
    return Target(
        portrait=portraits,
        features=perceptual_features(configs, weights, portraits, precision=precision.of("perceptual"))
        if "perceptual" in weights else None,
        params_vector=regress(configs, weights, portraits) if "regressor" in weights else None,
        landmarks=find_landmarks(configs, weights, portraits) if "landmarks" in weights else None,
        face=face_crop(portraits, configs.camera, resolution=configs.energy.render_resolution),
        descriptor=face_embedding(configs, weights, portraits, precision=precision.of("recognition"))
        if "recognition" in weights else None)


PARTS = {"synthesis": ("l2", "perceptual"), "identity": ("identity",), "edit": ("edit_photometric", "edit_landmark"),
         "invariance": ("invariance_photometric", "invariance_landmark"),
         "recognition": ("recognition_w", "recognition_edit")}


def part_weights(config: EnergyConfig) -> dict[str, float]:
    """The weight of every part in `PARTS`."""
    w = config
    return {"l2": w.weight_l2, "perceptual": w.weight_perceptual, "identity": w.weight_identity,
            "edit_photometric": w.weight_edit * w.weight_photometric,
            "edit_landmark": w.weight_edit * w.weight_landmark,
            "invariance_photometric": w.weight_invariance * w.weight_photometric,
            "invariance_landmark": w.weight_invariance * w.weight_landmark,
            "recognition_w": w.weight_recognition_w, "recognition_edit": w.weight_recognition_edit}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PortraitEnergy:
    """The energy as a static description: equal descriptions share one compilation. Made by `portrait_energy`."""

    configs: PackConfigs
    terms: tuple[str, ...]
    controls: tuple[str, ...]
    from_dfr: bool  # a rig's source parameters come from DFR(w), else from the regressor on G(w)
    precision: PrecisionConfig = PRECISIONS["float32"]
    coarse: bool = False  # G(w), too, is painted no finer than it is read; see `in_stage`
    missing: tuple[tuple[str, str], ...] = dataclasses.field(default=(), compare=False)  # (what, why)

    def in_stage(self, stage: StageConfig) -> PortraitEnergy:
        """The energy as a stage asks for it; equal where a coarse portrait is the full one."""
        coarse = dataclasses.replace(self, coarse=True)
        small = coarse.portrait_resolution < self.configs.generator.resolution
        return dataclasses.replace(self, coarse=stage.coarse and small)

    @property
    def lazy_terms(self) -> tuple[str, ...]:
        """The terms that `StageConfig.lazy_interval` is about: all that look at more than the synthesis itself."""
        return tuple(term for term in self.terms if term != "synthesis") if "synthesis" in self.terms else ()

    def without_lazy_terms(self) -> PortraitEnergy:
        """E_synthesis alone."""
        return dataclasses.replace(self, terms=("synthesis",))

    @property
    def needs_edits(self) -> bool:
        """Whether any term looks at G(w_hat)."""
        return bool(self.controls) and not {"edit", "invariance", "recognition"}.isdisjoint(self.terms)

    @property
    def edit_resolution(self) -> int:
        """The lowest output of the generator that still feeds all that look at an edited portrait.

        They read the face crop at their own resolution: finer layers would be computed for nothing. Only StyleGAN2
        with skip outputs has lower ones.
        """
        return self._lowest(*self._face_readers(recognition="recognition" in self.terms))

    @property
    def portrait_resolution(self) -> int:
        """The output of the generator that G(w) is painted to: the full one, or the lowest that is read if `coarse`."""
        if not self.coarse:
            return self.configs.generator.resolution
        perceptual = self.configs.perceptual
        of_all = [perceptual.resolution] if perceptual is not None else []
        # recognition or not: with lazy terms and without them G(w) is one image
        return self._lowest(*of_all, *self._face_readers(recognition=True))

    def _face_readers(self, *, recognition: bool) -> list[float]:
        """How many pixels of a portrait's side those that read its face need."""
        configs = self.configs
        readers = [configs.regressor, configs.recognition if recognition else None]
        return [reader.resolution / configs.camera.crop_size for reader in readers if reader is not None]

    def _lowest(self, *sides: float) -> int:
        """The lowest output with `edit_detail` times the largest of `sides` (px); without sides the full one."""
        generator, detail = self.configs.generator, self.configs.energy.edit_detail
        if not sides or detail is None or (generator.architecture, generator.synthesis) != ("stylegan2", "skip"):
            return generator.resolution
        return next((r for r in generator.block_resolutions if r >= detail * max(sides)), generator.resolution)

    def __call__(self, inputs: Inputs, latent: Array, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """latent [B, L, D], keys [B] -> energies [B] and the weighted value [B] of every term, whose sum they are."""
        parts = self.parts(inputs, latent, keys)
        terms: dict[str, Array] = {
            term: sum(inputs.factors[name] * parts[name] for name in PARTS[term] if name in parts)
            for term in self.terms}
        total: Array = sum(terms.values())
        return total, terms

    def parts(self, inputs: Inputs, latent: Array, keys: Array) -> dict[str, jax.Array]:
        """latent [B, L, D], keys [B] -> the value [B] of every part in `PARTS` that there is, before its weight."""
        configs, weights, target, terms = self.configs, inputs.weights, inputs.target, self.terms
        synthesis, source = self._source(weights, latent)
        rows: Pool | Absent = None
        edited = choice = params_vector = edited_params_vector = None
        if self.needs_edits:
            rows, choice = self._draw(inputs.pool, keys)
            w_hat = self._rig_to(rows.params_vector, choice, weights, latent, source)
            synthesis, edited = self._paint(weights, latent, w_hat, synthesis)
        elif synthesis is None:
            synthesis = self._portrait(weights, latent)
        if self._needs_source:
            params_vector, edited_params_vector = self._look("regressor", regress, weights, synthesis, edited)

        parts = {}
        if "synthesis" in terms:
            parts |= self._synthesis_parts(target, weights, synthesis)
        if "identity" in terms:
            own = FaceParams.from_vector(params_vector)
            rigged = [rig(configs, weights, latent, source, own, control=control) for control in self.controls]
            parts["identity"] = identity_term(latent, jnp.stack(rigged, axis=1))
        if "edit" in terms or "invariance" in terms:
            parts |= self._rendered_parts(inputs, rows, choice, edited_params_vector)
        if "recognition" in terms:
            parts |= self._recognition_parts(target, weights, synthesis, edited)
        return parts

    def _synthesis_parts(self, target: Target, weights: Weights, synthesis: Array) -> dict[str, jax.Array]:
        """The pixel part of E_synthesis, and the perceptual part where the pack has that network."""
        portrait = resize_area(target.portrait, self.portrait_resolution)
        if target.features is None:
            return {"l2": synthesis_term(portrait, synthesis, {}, {})[0]}
        features = perceptual_features(self.configs, weights, synthesis, precision=self.precision.of("perceptual"))
        l2, perceptual = synthesis_term(portrait, synthesis, target.features, features)
        return {"l2": l2, "perceptual": perceptual}

    def _recognition_parts(self, target: Target, weights: Weights, synthesis: Array,
                           edited: Array | None) -> dict[str, jax.Array]:
        """E_recognition of the synthesis, and of the edited portraits where there are any."""
        of_synthesis, of_edited = self._look("recognition", face_embedding, weights, synthesis, edited)
        if of_edited is None:
            return {"recognition_w": recognition_term(target.descriptor, of_synthesis, of_synthesis[:, None])[0]}
        synthesis_part, edited_part = recognition_term(target.descriptor, of_synthesis, of_edited)
        return {"recognition_w": synthesis_part, "recognition_edit": edited_part}

    @property
    def _needs_source(self) -> bool:
        return self.needs_edits or "identity" in self.terms

    # One pass, so that each network stands once in the traced program and works on all its images together.
    def _synthesise(self, weights: Weights, w_plus: Array, *, resolution: int) -> jax.Array:
        return synthesise(self.configs.generator, weights["generator"], w_plus, resolution=resolution,
                          precision=self.precision.of("generator"))

    def _portrait(self, weights: Weights, latent: Array) -> jax.Array:
        """G(w) [B, r, r, 3] of latent [B, L, D], r = `portrait_resolution`."""
        return self._synthesise(weights, latent, resolution=self.portrait_resolution)

    def _source(self, weights: Weights, latent: Array) -> tuple[Array | None, FaceParams | Absent]:
        """The parameters of w that a rig starts from, and G(w) where finding them needed it."""
        if not self._needs_source:
            return None, None
        if self.from_dfr:
            return None, FaceParams.from_vector(params_from_latent(self.configs, weights, latent))
        synthesis = self._portrait(weights, latent)
        return synthesis, FaceParams.from_vector(self._look("regressor", regress, weights, synthesis)[0])

    def _draw(self, pool: Pool, keys: Array) -> tuple[Pool, Array | None]:
        """Rows of the pool [B, M, ...] for each portrait's key, and which control [B, M] each one is for.

        With control_sampling "all" M = C * S, control by control, and the second is None.
        """
        config, controls = self.configs.energy, len(self.controls)
        if config.control_sampling == "all":
            return jax.vmap(lambda key: draw(key, pool, samples=controls * config.samples))(keys), None

        def one(key):
            row_key, control_key = jax.random.split(key)
            choice = jax.random.randint(control_key, (config.samples,), 0, controls)
            return draw(row_key, pool, samples=config.samples), choice

        return jax.vmap(one)(keys)

    def _by_control(self, choice: Array | None, function, *arrays):
        """`function(control, *arrays)` on the samples [B, M, ...] that belong to each control, put together again."""
        return (self._control_after_control(function, arrays) if choice is None
                else self._chosen_control(choice, function, arrays))

    def _control_after_control(self, function, arrays):
        """M = C * S samples, the first S of the first control."""
        samples = self.configs.energy.samples
        return jnp.concatenate([
            function(control, *(array[:, i * samples:(i + 1) * samples] for array in arrays))
            for i, control in enumerate(self.controls)], axis=1)

    def _chosen_control(self, choice: Array, function, arrays):
        """M = S samples, each of the control in `choice` [B, M]; every control is computed, for rigs are small."""
        every = jnp.stack([function(control, *arrays) for control in self.controls])  # [C, B, M, ...]
        index = choice.reshape(1, *choice.shape, *(1,) * (every.ndim - 3))
        return jnp.take_along_axis(every, jnp.broadcast_to(index, (1, *every.shape[1:])), axis=0)[0]

    def _rig_to(self, params_vector_v: Array, choice: Array | None, weights: Weights, latent: Array,
                source: FaceParams) -> jax.Array:
        """w_hat [B, M, L, D] = RigNet(w, theta_v^control)."""
        def each(control, params_vector):
            count = params_vector.shape[1]
            own, params = (jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), a) for a in (latent, source))
            target = FaceParams.from_vector(params_vector.reshape(-1, params_vector.shape[-1]))
            w_hat = rig(self.configs, weights, own, params, target, control=control)
            return w_hat.reshape(params_vector.shape[0], count, *latent.shape[1:])

        return self._by_control(choice, each, params_vector_v)

    def _paint(self, weights: Weights, latent: Array, w_hat: Array, synthesis: Array | None) -> tuple[Array, Array]:
        """G(w) [B, H, W, 3] and G(w_hat) [B * M, h, w, 3], in one call where none has been made."""
        flat = w_hat.reshape(-1, *latent.shape[1:])
        resolution = self.edit_resolution
        if synthesis is not None:
            return synthesis, self._synthesise(weights, flat, resolution=resolution)
        every = jnp.concatenate([latent, flat])
        if resolution < self.portrait_resolution == self.configs.generator.resolution:
            return synthesise_stopping(self.configs.generator, weights["generator"], every, resolution=resolution,
                                       stopping=flat.shape[0], precision=self.precision.of("generator"))
        both = self._portrait(weights, every)
        return both[:latent.shape[0]], both[latent.shape[0]:]

    def _look(self, part: str, network, weights: Weights, synthesis: Array,
              edited: Array | None = None) -> tuple[Array, Array | None]:
        """`network` [N], the pack's `part`, on G(w) and on the edited portraits: [B, N], [B, M, N]."""
        batch, network = synthesis.shape[0], partial(network, precision=self.precision.of(part))
        if edited is None:
            return network(self.configs, weights, synthesis), None
        both = network(self.configs, weights, synthesis, edited)
        return both[:batch], both[batch:].reshape(batch, -1, both.shape[-1])

    def _rendered_parts(self, inputs: Inputs, rows: Pool, choice: Array | None,
                        edited_params_vector: Array) -> dict[str, jax.Array]:
        """The parts of the edit and the invariance term, from one call of the renderer."""
        target, config = inputs.target, self.configs.energy

        def mixed(control, params_vector_v, edited_params_vector):
            v, edited = FaceParams.from_vector(params_vector_v), FaceParams.from_vector(edited_params_vector)
            own = jax.tree.map(lambda x: jnp.repeat(x[:, None], params_vector_v.shape[1], axis=1),
                               FaceParams.from_vector(target.params_vector))
            wanted = {"edit": with_control(v, edited, control), "invariance": with_control(edited, own, control)}
            return jnp.stack([wanted[term].to_vector() for term in wanted if term in self.terms], axis=2)

        params_vector = self._by_control(choice, mixed, rows.params_vector, edited_params_vector)  # [B, M, 1 or 2, 257]
        renderer = render_vertices if config.photometric == "vertex" else render
        rendering = renderer(inputs.morphable, FaceParams.from_vector(params_vector), crop_camera(self.configs.camera),
                             resolution=config.render_resolution)
        renderings = [jax.tree.map(lambda x, i=i: x[:, :, i], rendering) for i in range(params_vector.shape[2])]
        parts = {}
        if "edit" in self.terms:
            faces = rows.images.astype(params_vector.dtype) / 255.0
            parts["edit_photometric"], parts["edit_landmark"] = edit_term(faces, rows.landmarks, renderings[0])
        if "invariance" in self.terms:
            parts["invariance_photometric"], parts["invariance_landmark"] = invariance_term(
                target.face, target.landmarks, renderings[-1])
        return parts


def _unavailable(pack: Pack, config: EnergyConfig) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Terms and controls that the pack can do, and (what, why) for the others."""
    has = set(pack.weights) | {name for name in ("morphable", "pool") if getattr(pack, name) is not None}
    missing, controls = [], []
    for control in config.controls:
        if f"rignet_{control}" in has:
            controls.append(control)
        else:
            missing.append((control, f"the pack has no rignet_{control}"))
    terms = []
    for term in config.terms:
        absent = [part for part in needs_of(term) if part not in has]
        if absent:
            missing.append((term, f"the pack has no {absent[0]}"))
        elif term in ("identity", "edit", "invariance") and not controls:
            missing.append((term, "the pack has no rig for any control asked for"))
        else:
            terms.append(term)
    if "synthesis" in terms and "perceptual" not in has:
        missing.append(("perceptual", "the pack has no perceptual network"))
    if "recognition" in terms and controls and not {"regressor", "pool"} <= has:
        missing.append(("recognition_edit", "the pack has no regressor or no pool"))
        controls = controls if {"identity", "edit", "invariance"} & set(terms) else []
    return terms, controls, missing


def portrait_energy(pack: Pack, *, config: EnergyConfig | None = None,
                    precision: PrecisionConfig = PRECISIONS["float32"]) -> PortraitEnergy:
    """The energy that `config` (default: the pack's own) describes, as far as the pack has the parts for it.

    What had to be left out is in `.missing`. PackError: no generator, or nothing left.
    """
    config = pack.configs.energy if config is None else config
    pack.require("generator")
    terms, controls, missing = _unavailable(pack, config)
    if not terms:
        what, why = missing[0]
        raise PackError(f"{pack.name}: no term of the energy is available ({what}: {why}); "
                        "train or convert that part first")
    if pack.pool is not None and pack.pool.images.shape[-2] != config.render_resolution:
        raise PackError(f"{pack.name}: its pool has images of {pack.pool.images.shape[-2]} px, the energy renders at "
                        f"{config.render_resolution}; make the pool again: python -m pie_jax.tuning.pool --pack DIR")
    plain = {f.name: f.default for f in dataclasses.fields(EnergyConfig) if f.name.startswith("weight_")}
    configs = dataclasses.replace(pack.configs, energy=dataclasses.replace(config, **plain))  # weights are data
    return PortraitEnergy(configs=configs, terms=tuple(terms), controls=tuple(controls), precision=precision,
                          from_dfr=config.rig_source == "dfr" and "dfr" in pack.weights, missing=tuple(missing))


def energy_inputs(pack: Pack, target: Target, *, config: EnergyConfig | None = None) -> Inputs:
    """All arrays that `portrait_energy(pack, config=config)` reads, for the portraits of `target`."""
    config = pack.configs.energy if config is None else config
    factors = {name: jnp.asarray(weight, target.portrait.dtype) for name, weight in part_weights(config).items()}
    weights = precompute({name: tree for name, tree in pack.weights.items() if name != "landmarks"},
                         configs=pack.configs)
    return Inputs(weights=weights, morphable=pack.morphable, pool=pack.pool, target=target, factors=factors)
