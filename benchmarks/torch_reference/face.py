"""The 3D face: coefficients to vertices and colours (Deep3DFaceRecon's conventions, arXiv 1903.08527)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from benchmarks.torch_reference.tensors import tensor

SLICES = {"identity": slice(0, 80), "expression": slice(80, 144), "texture": slice(144, 224),
          "rotation": slice(224, 227), "illumination": slice(227, 254), "translation": slice(254, 257)}
CONTROL_SLICES = {"pose": SLICES["rotation"], "expression": SLICES["expression"],
                  "illumination": SLICES["illumination"]}
AMBIENT = 0.8  # added to band 0 of the light
FLAT = 1e-6  # sine below which a triangle has no normal
NEAREST = 1e-3  # of the camera's distance: the smallest divisor of the projection


def with_control(params_vector: torch.Tensor, other: torch.Tensor, control: str) -> torch.Tensor:
    """params_vector [..., 257] with the parameters of `control` from `other`."""
    part = CONTROL_SLICES[control]
    return torch.cat([params_vector[..., :part.start], other[..., part], params_vector[..., part.stop:]], dim=-1)


class Face:
    """A morphable model under a camera that looks at the face crop."""

    def __init__(self, model, camera):
        self.camera = camera
        shape = [tensor(model.identity_basis), tensor(model.expression_basis)]
        self.shape_basis = torch.cat(shape, dim=-1).flatten(0, 1).contiguous()  # [3V, 144]
        self.texture_basis = tensor(model.texture_basis).flatten(0, 1)
        self.mean_shape, self.mean_albedo = tensor(model.mean_shape), tensor(model.mean_albedo)
        self.triangles = tensor(model.triangles).long()
        self.landmark_vertices = tensor(model.landmark_vertices).long()

    def __call__(self, params_vector: torch.Tensor, *,
                 resolution: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """params_vector [N, 257] -> vertices [N, V, 3] (x px, y px, depth), colours [N, V, 3], landmarks [N, 66, 2]."""
        count = params_vector.shape[0]
        shape = (params_vector[:, :144] @ self.shape_basis.T).view(count, -1, 3) + self.mean_shape
        albedo = (params_vector[:, SLICES["texture"]] @ self.texture_basis.T).view(count, -1, 3) + self.mean_albedo
        world = shape @ rotation_matrix(params_vector[:, SLICES["rotation"]]).transpose(1, 2)
        world = world + params_vector[:, None, SLICES["translation"]]
        light = params_vector[:, SLICES["illumination"]].view(count, 3, 9)
        light = light + F.pad(torch.tensor([AMBIENT], dtype=light.dtype), (0, 8))
        colours = albedo * (harmonics(self._normals(world)) @ light.transpose(1, 2))
        vertices = self._project(world, resolution)
        return vertices, colours, vertices[:, self.landmark_vertices, :2]

    def _project(self, world, resolution):
        camera = self.camera
        depth = camera.distance - world[..., 2]
        scale = camera.focal / depth.clamp(min=NEAREST * camera.distance)
        x = resolution * (camera.centre_x + scale * world[..., 0])
        y = resolution * (camera.centre_y - scale * world[..., 1])
        return torch.stack([x, y, depth], dim=-1)

    def _normals(self, world):
        a, b, c = (world[:, self.triangles[:, k]] for k in range(3))
        one, two = b - a, c - a
        normals = torch.linalg.cross(one, two)
        solid = normals.square().sum(-1, True) > FLAT**2 * one.square().sum(-1, True) * two.square().sum(-1, True)
        normals = F.normalize(torch.where(solid, normals, 0.0), dim=-1, eps=1e-30)
        total = torch.zeros_like(world)
        for k in range(3):
            total = total.index_add(1, self.triangles[:, k], normals)
        return F.normalize(total, dim=-1, eps=1e-30)


def rotation_matrix(angles: torch.Tensor) -> torch.Tensor:
    """R = Rz Ry Rx [N, 3, 3] of [N, 3] radians (pitch, yaw, roll)."""
    sine, cosine = angles.sin(), angles.cos()
    zero, one = torch.zeros_like(sine[:, 0]), torch.ones_like(sine[:, 0])

    def matrix(*entries):
        return torch.stack(entries, dim=-1).view(-1, 3, 3)

    (sx, sy, sz), (cx, cy, cz) = sine.unbind(-1), cosine.unbind(-1)
    about_x = matrix(one, zero, zero, zero, cx, -sx, zero, sx, cx)
    about_y = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    about_z = matrix(cz, -sz, zero, sz, cz, zero, zero, zero, one)
    return about_z @ about_y @ about_x


def harmonics(normals: torch.Tensor) -> torch.Tensor:
    """The nine spherical harmonics with the cosine lobe, [..., 9], at unit normals [..., 3] (METHOD, section 5)."""
    a = math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8)
    c = 1 / math.sqrt(4 * math.pi), math.sqrt(3) / math.sqrt(4 * math.pi), 3 * math.sqrt(5) / math.sqrt(12 * math.pi)
    x, y, z = normals.unbind(-1)
    return torch.stack([
        torch.full_like(x, a[0] * c[0]), -a[1] * c[1] * y, a[1] * c[1] * z, -a[1] * c[1] * x,
        a[2] * c[2] * x * y, -a[2] * c[2] * y * z, 0.5 * a[2] * c[2] / math.sqrt(3) * (3 * z * z - 1),
        -a[2] * c[2] * x * z, 0.5 * a[2] * c[2] * (x * x - y * y)], dim=-1)
