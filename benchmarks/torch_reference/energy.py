"""PIE's energy (arXiv 2009.09485) over the parts of a pack, as written: every portrait is painted in full."""

from __future__ import annotations

import torch

from benchmarks.torch_reference.crop import FaceCrop
from benchmarks.torch_reference.face import Face, with_control
from benchmarks.torch_reference.generator import Generator
from benchmarks.torch_reference.raster import draw
from benchmarks.torch_reference.readers import VGG, Regressor
from benchmarks.torch_reference.rigs import DFR, RigNet
from benchmarks.torch_reference.tensors import tensor

LANDMARK_UNIT = 224.0  # landmark distances are in pixels of a crop of this side


class TorchEnergy:
    """The peer of a `PortraitEnergy` and its `Inputs`, which say what it is made of.

    described, inputs: the energy and the arrays it reads, of `pie_jax.energy`. form: of the generator; "scaled" also
    keeps all images channels_last. ValueError: a variant that is not here (vertex photometry, LPIPS heads).
    """

    def __init__(self, described, inputs, *, form: str = "scaled"):
        configs, weights = described.configs, inputs.weights
        if configs.energy.photometric != "pixel":
            raise ValueError("described: the reference compares pixels, not vertices")
        last = form == "scaled"
        self.described, self.configs = described, configs
        self.factors = {name: float(value) for name, value in inputs.factors.items()}
        self.generator = Generator(configs.generator, weights["generator"]["synthesis"], form=form)
        self.perceptual = self.recognition = self.regressor = self.dfr = self.face = None
        if "perceptual" in weights:
            self.perceptual = VGG(configs.perceptual, weights["perceptual"], channels_last=last)
        if "recognition" in weights:
            self.recognition = VGG(configs.recognition, weights["recognition"], channels_last=last)
            self.recognition_crop = FaceCrop(configs.camera, resolution=configs.recognition.resolution)
        if "regressor" in weights:
            self.regressor = Regressor(configs.regressor, weights["regressor"], channels_last=last)
            self.regressor_crop = FaceCrop(configs.camera, resolution=configs.regressor.resolution)
        if described.from_dfr:
            self.dfr = DFR(configs.dfr, weights["dfr"])
        self.rigs = {c: RigNet(configs.rignet(c), weights[f"rignet_{c}"]) for c in described.controls}
        if inputs.morphable is not None:
            from pie_jax.pack.inference import crop_camera

            self.face = Face(inputs.morphable, crop_camera(configs.camera))
        target = inputs.target
        self.portrait = tensor(target.portrait).permute(0, 3, 1, 2).contiguous()
        self.features = {}
        if target.features is not None:
            self.features = {name: tensor(value).permute(0, 3, 1, 2) for name, value in target.features.items()}
        self.params_vector, self.landmarks, self.descriptor = (
            None if value is None else tensor(value)
            for value in (target.params_vector, target.landmarks, target.descriptor))
        self.face_image = tensor(target.face)

    def __call__(self, latent: torch.Tensor, rows: dict[str, torch.Tensor] | None,
                 choice: torch.Tensor | None = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Energies [B] and the weighted value [B] of every term.

        latent: [B, L, D]. rows: of the pool, "images" [B, M, R, R, 3] uint8, "params_vector" [B, M, 257] and
        "landmarks" [B, M, 66, 2]. choice: the control [B, M] of every sample, or None where M goes control by control.
        """
        parts = self.parts(latent, rows, choice)
        names = {"synthesis": ("l2", "perceptual"), "identity": ("identity",),
                 "edit": ("edit_photometric", "edit_landmark"),
                 "invariance": ("invariance_photometric", "invariance_landmark"),
                 "recognition": ("recognition_w", "recognition_edit")}
        terms = {term: sum(self.factors[part] * parts[part] for part in names[term] if part in parts)
                 for term in self.described.terms}
        return sum(terms.values()), terms

    def parts(self, latent, rows, choice=None) -> dict[str, torch.Tensor]:
        """The same before the weights, by part."""
        described, terms, batch = self.described, self.described.terms, latent.shape[0]
        parts, params_vector, edited, w_hat = {}, None, None, None
        synthesis = None
        if described.needs_edits or "identity" in terms:
            if self.dfr is not None:
                source = self.dfr(latent)
            else:
                synthesis = self._paint(latent)
                source = self._regress(synthesis)
        if described.needs_edits:
            w_hat = self._by_control(rows["params_vector"], choice, lambda control, wanted: self._rig(
                control, latent, source, wanted)).flatten(0, 1)
            if synthesis is None:
                synthesis, edited = self._paint(torch.cat([latent, w_hat])).split([batch, w_hat.shape[0]])
            else:
                edited = self._paint(w_hat)
        synthesis = self._paint(latent) if synthesis is None else synthesis

        if "synthesis" in terms:
            parts["l2"] = (self.portrait - synthesis).square().mean((1, 2, 3))
            if self.features:
                seen = self.perceptual(synthesis)
                parts["perceptual"] = sum((self.features[name] - seen[name]).square().mean((1, 2, 3))
                                          for name in self.features)
        if "identity" in terms or "edit" in terms or "invariance" in terms:
            params_vector, edited_params_vector = self._both(self._regress, synthesis, edited)
        if "identity" in terms:
            moved = torch.stack([self.rigs[c](latent, source, params_vector) for c in described.controls], dim=1)
            parts["identity"] = (latent[:, None] - moved).square().mean((1, 2, 3))
        if "edit" in terms or "invariance" in terms:
            parts |= self._rendered(rows, choice, edited_params_vector)
        if "recognition" in terms:
            of_synthesis, of_edited = self._both(self._describe, synthesis, edited)
            parts["recognition_w"] = (self.descriptor - of_synthesis).square().sum(-1)
            if of_edited is not None:
                parts["recognition_edit"] = (self.descriptor[:, None] - of_edited).square().sum(-1).mean(1)
        return parts

    def _paint(self, w_plus):
        return self.generator(w_plus) * 0.5 + 0.5

    def _regress(self, images):
        return self.regressor(self.regressor_crop(images.clamp(0, 1)))

    def _describe(self, images):
        features = self.recognition(self.recognition_crop(images.clamp(0, 1)))["fc7"]
        return features * torch.rsqrt(features.square().sum(-1, keepdim=True) + 1e-12)

    def _both(self, network, synthesis, edited):
        """`network` on the synthesis [B, N] and on the edited portraits [B, M, N]."""
        batch = synthesis.shape[0]
        if edited is None:
            return network(synthesis), None
        of_synthesis, of_edited = network(torch.cat([synthesis, edited])).split([batch, edited.shape[0]])
        return of_synthesis, of_edited.view(batch, -1, of_edited.shape[-1])

    def _by_control(self, rows, choice, function):
        """`function(control, rows [B, m, ...])` for the samples that belong to each control, in the samples' order."""
        samples, controls = self.configs.energy.samples, self.described.controls
        if choice is None:
            return torch.cat([function(c, rows[:, i * samples:(i + 1) * samples]) for i, c in enumerate(controls)], 1)
        every = torch.stack([function(control, rows) for control in controls])  # [C, B, M, ...]
        index = choice.view(1, *choice.shape, *(1,) * (every.ndim - 3)).expand(1, *every.shape[1:])
        return every.gather(0, index)[0]

    def _rig(self, control, latent, source, wanted):
        count = wanted.shape[1]
        own, params = (x.repeat_interleave(count, dim=0) for x in (latent, source))
        return self.rigs[control](own, params, wanted.flatten(0, 1)).view(-1, count, *latent.shape[1:])

    def _rendered(self, rows, choice, edited_params_vector):
        """The parts of the edit and the invariance term."""
        samples = edited_params_vector.shape[1]
        own = self.params_vector[:, None].expand(-1, samples, -1)
        both = torch.stack([rows["params_vector"], edited_params_vector, own], dim=2)  # [B, M, 3, 257]

        def mixed(control, params_vector):
            v, edited, portrait = params_vector.unbind(2)
            return torch.stack([with_control(v, edited, control), with_control(edited, portrait, control)], dim=2)

        params_vector = self._by_control(both, choice, mixed)  # [B, M, 2, 257]
        side = self.configs.energy.render_resolution
        vertices, colours, landmarks = self.face(params_vector.flatten(0, 2), resolution=side)
        image, coverage = draw(vertices, colours, self.face.triangles, side=side)
        image, coverage, landmarks = (x.view(-1, samples, 2, *x.shape[1:]) for x in (image, coverage, landmarks))
        faces = torch.stack([rows["images"].float() / 255.0, self.face_image[:, None].expand(-1, samples, -1, -1, -1)],
                            dim=2)
        wanted = torch.stack([rows["landmarks"], self.landmarks[:, None].expand(-1, samples, -1, -1)], dim=2)
        covered = coverage.sum((3, 4)).clamp(min=1.0)
        photometric = ((faces - image).square().sum(-1) * coverage).sum((3, 4)) / (3.0 * covered)
        offset = (wanted - landmarks / side) * LANDMARK_UNIT
        landmark = offset.square().sum(-1).mean(-1)
        parts = {}
        for i, term in enumerate(("edit", "invariance")):
            if term in self.described.terms:
                parts[f"{term}_photometric"], parts[f"{term}_landmark"] = (
                    x[:, :, i].mean(1) for x in (photometric, landmark))
        return parts
