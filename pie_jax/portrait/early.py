"""The programs of an embedding, made in threads beside what a command does before it: reading and fitting photos."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax import energy as energies
from pie_jax import optimise
from pie_jax.config import CONTROLS, PRECISIONS, EmbedConfig
from pie_jax.face3d.morphable import PARAMETERS, FaceParams
from pie_jax.pack import Pack
from pie_jax.photo.composite import edited_photo, packed_portrait
from pie_jax.photo.fitted import stand_in
from pie_jax.photo.layers import sources
from pie_jax.portrait.axes import axes_for
from pie_jax.portrait.calibration import apply_rig
from pie_jax.portrait.comparison import compared
from pie_jax.portrait.edits import render_batch
from pie_jax.portrait.photo_edits import PhotoEditor
from pie_jax.portrait.reading import read_portraits
from pie_jax.portrait.synthesis import synthesise
from pie_jax.programs import beside, noted_for


def make_programs_early(pack: Pack, config: EmbedConfig, *, batch: int) -> None:
    """Begin to make what `embed_portraits` takes longest to compile, for these settings on one device; returns at once.

    batch: portraits in one program, see `micro_batch_of`.

    Results do not depend on it: a program that is missing is made when it is needed, one that is not needed costs time.
    """
    beside(partial(_make, pack, config.on(jax.devices()[0].platform), batch))


def _make(pack: Pack, config: EmbedConfig, batch: int) -> None:
    generator, precision = pack.configs.generator, PRECISIONS[config.precision]
    resolution, code = generator.resolution, (batch, generator.num_layers, generator.w_dim)
    portraits = jax.ShapeDtypeStruct((batch, resolution, resolution, 3), jnp.float32)
    latent = jax.ShapeDtypeStruct(code, jnp.float32)
    energies.prepare_target.ahead(pack, portraits, precision=precision)
    target = jax.eval_shape(partial(energies.prepare_target, precision=precision), pack, portraits)
    inputs = jax.eval_shape(partial(energies.energy_inputs, config=config.energy), pack, target)
    keys = jax.eval_shape(optimise.portrait_keys, jax.ShapeDtypeStruct((batch,), jnp.uint32))
    axes = axes_for(pack, config)
    energy = energies.portrait_energy(pack, config=config.energy, precision=precision)
    for stage in config.stages:
        if stage.steps:
            state = jax.eval_shape(partial(optimise.start_stage, stage=stage), latent, keys)
            optimise.make_steps_early(state, inputs, energy=energy.in_stage(stage), stage=stage, axes=axes)
    synthesise.ahead(pack, latent)
    seen = dataclasses.replace(target, features=None, face=None)
    compared.ahead(seen, seen)


def make_edits_early(pack: Pack) -> None:
    """Begin to make what edits of one portrait by the generator take. What the pack cannot do is left out."""
    beside(partial(_make_edits, pack))


def make_photo_edits_early(pack: Pack, *, size: int) -> None:
    """Begin to make what edits of a photo's own pixels take, its portrait of `size` px a side."""
    beside(partial(_edit_photo, pack, size))


def _edit_photo(pack: Pack, size: int) -> None:
    """Edit a stand-in for a photo as the edit command edits a whole one."""
    photo = stand_in(pack, size)
    turned = dataclasses.replace(photo.params, rotation=np.asarray(photo.params.rotation) + np.float32(0.1))
    with noted_for("edit"):
        layers = PhotoEditor(pack, photo).layers(turned)  # what does not change is not painted
        packed_portrait(layers)
        sources(layers)
        edited_photo(photo.portrait, photo, layers)


def _make_edits(pack: Pack) -> None:
    generator = pack.configs.generator
    code = jax.ShapeDtypeStruct((1, generator.num_layers, generator.w_dim), jnp.float32)
    params = jax.eval_shape(FaceParams.from_vector, jax.ShapeDtypeStruct((1, PARAMETERS), jnp.float32))
    synthesise.ahead(pack, code)
    if "regressor" in pack.weights:
        portrait = jax.ShapeDtypeStruct((1, generator.resolution, generator.resolution, 3), jnp.float32)
        read_portraits.ahead(pack, portrait)
    for control in CONTROLS:
        if f"rignet_{control}" in pack.weights:
            apply_rig.ahead(pack, code, params, params, control=control)
    if pack.morphable is not None:
        render_batch.ahead(pack, params, resolution=generator.resolution)
