"""Batched cameras with distortion, and the rays through their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from blocknerf.errors import CaptureError

UNDISTORT_ITERATIONS = 8
"""Maximum Newton iterations; each about doubles the correct digits, so most lenses need fewer."""
DISTORTION_GRID = 17
"""Points along each side of an image at which Newton iterations are counted."""


class CameraModel(IntEnum):
    """Projection models, with OpenCV's distortion coefficients."""

    PINHOLE = 0
    OPENCV = 1
    FISHEYE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RayBundle:
    """Rays in world coordinates with unit directions, so distances along them are in world units."""

    origins: Float[Tensor, "*batch 3"]
    directions: Float[Tensor, "*batch 3"]
    pixel_radii: Float[Tensor, "*batch"]
    """Radius of the pixel's cone at distance one: half the pixel width, as an angle."""

    @classmethod
    def cat(cls, bundles: Sequence["RayBundle"]) -> "RayBundle":
        """Concatenate several bundles."""
        return cls(
            **{field.name: torch.cat([getattr(bundle, field.name) for bundle in bundles]) for field in fields(cls)}
        )

    def __len__(self) -> int:
        return self.origins.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> "RayBundle":
        return RayBundle(
            origins=self.origins[index], directions=self.directions[index], pixel_radii=self.pixel_radii[index]
        )

    def requires_grad_copy(self) -> "RayBundle":
        """Return a copy that collects gradients for origins and directions."""
        origins, directions = (part.detach().clone().requires_grad_() for part in (self.origins, self.directions))
        return RayBundle(origins=origins, directions=directions, pixel_radii=self.pixel_radii)

    def detach(self) -> "RayBundle":
        """Return the rays detached from the autograd graph."""
        return RayBundle(
            origins=self.origins.detach(), directions=self.directions.detach(), pixel_radii=self.pixel_radii.detach()
        )

    def flatten(self) -> "RayBundle":
        """Return the rays with a single batch axis."""
        return RayBundle(
            origins=self.origins.reshape(-1, 3),
            directions=self.directions.reshape(-1, 3),
            pixel_radii=self.pixel_radii.reshape(-1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DistortionInfo:
    """Distortion properties shared by all rays of some cameras; passing them avoids reading values from a GPU."""

    fisheye: bool
    """Whether any camera is a fisheye."""
    newton_iterations: int
    """Newton iterations that undistort every lens; 0 if no lens has distortion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cameras:
    """A batch of cameras with OpenCV axes (x right, y down, z forward) and pixel centers at 0.5."""

    camera_to_world: Float[Tensor, "cameras 3 4"]
    intrinsics: Float[Tensor, "cameras 4"]
    """fx, fy, cx, cy in pixels."""
    distortion: Float[Tensor, "cameras 6"]
    """k1, k2, p1, p2, k3, k4; a fisheye uses k1 to k4 only."""
    model: Int[Tensor, "cameras"]
    """A `CameraModel` per camera."""
    width: Int[Tensor, "cameras"]
    height: Int[Tensor, "cameras"]

    @classmethod
    def pinhole(
        cls, camera_to_world: Float[Tensor, "cameras 3 4"], *, focal: float, width: int, height: int
    ) -> "Cameras":
        """Return pinhole cameras with one focal length (pixels) and the principal point at the image center."""
        count = camera_to_world.shape[0]
        intrinsics = camera_to_world.new_tensor([focal, focal, width / 2, height / 2]).expand(count, 4).contiguous()
        return cls(
            camera_to_world=camera_to_world,
            intrinsics=intrinsics,
            distortion=camera_to_world.new_zeros(count, 6),
            model=torch.zeros(count, dtype=torch.int64, device=camera_to_world.device),
            width=torch.full((count,), width, device=camera_to_world.device),
            height=torch.full((count,), height, device=camera_to_world.device),
        )

    @classmethod
    def cat(cls, batches: Sequence["Cameras"]) -> "Cameras":
        """Concatenate several batches."""
        return cls(
            **{field.name: torch.cat([getattr(batch, field.name) for batch in batches]) for field in fields(cls)}
        )

    def __len__(self) -> int:
        return self.camera_to_world.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> "Cameras":
        """Return the selected cameras; an integer returns a batch of one.

        Raises:
            CaptureError: an index is out of range.
        """
        if isinstance(index, int):
            self._check(index, index)
            index = slice(index, index + 1) if index != -1 else slice(-1, None)
        elif isinstance(index, Tensor) and index.dtype != torch.bool and index.numel():
            low, high = index.aminmax()
            self._check(int(low), int(high))
        return self._index(index)

    def _index(self, index: slice | Tensor) -> "Cameras":
        return Cameras(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def _check(self, low: int, high: int) -> None:
        count = len(self)
        if low < -count or high >= count:
            wrong = low if low < -count else high
            raise CaptureError(
                f"camera index {wrong} is out of range; there are {count} cameras, from 0 to {count - 1}"
            )

    @property
    def centers(self) -> Float[Tensor, "cameras 3"]:
        """Camera centers in world coordinates."""
        return self.camera_to_world[:, :, 3]

    def to(self, device: torch.device | str) -> "Cameras":
        return Cameras(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def scaled(self, factor: float) -> "Cameras":
        """Return the same views at `factor` times the resolution (0.5 halves width and height, rounded down)."""
        width, height = (
            (size * factor + 1e-6).floor().to(size.dtype).clamp_min(1) for size in (self.width, self.height)
        )
        ratio = torch.stack([width / self.width, height / self.height], -1)
        return replace(self, intrinsics=self.intrinsics * ratio.repeat(1, 2), width=width, height=height)

    def distortion_info(self) -> DistortionInfo:
        """Return the `DistortionInfo` of these cameras, from a grid of pixels over the image of each distinct lens."""
        model_and_size = torch.stack([self.model, self.width, self.height], -1)
        lenses = torch.cat([self.intrinsics, self.distortion, model_and_size], -1).unique(dim=0)
        fractions = torch.linspace(0.0, 1.0, DISTORTION_GRID, device=lenses.device, dtype=lenses.dtype)
        pixels = torch.cartesian_prod(fractions, fractions) * lenses[:, None, 11:]
        uv = ((pixels - lenses[:, None, 2:4]) / lenses[:, None, :2]).flatten(0, 1)
        rows = lenses.repeat_interleave(len(fractions) ** 2, 0)
        model = rows[:, 10].long()
        return DistortionInfo(
            fisheye=bool((model == CameraModel.FISHEYE).any()),
            newton_iterations=_count_iterations(uv, rows[:, 4:10], model),
        )

    def rays(
        self, indices: Int[Tensor, "rays"], pixels: Float[Tensor, "rays 2"], info: DistortionInfo | None = None
    ) -> RayBundle:
        """Return rays through pixel positions (x, y) of the given cameras; the first pixel's center is (0.5, 0.5).

        With `info` (the cameras' `distortion_info`), no value is read from a GPU, and indices are not checked.
        """
        camera = self[indices] if info is None else self._index(indices)
        directions = (camera.camera_to_world[:, :, :3] @ camera._camera_directions(pixels, info)[:, :, None])[:, :, 0]
        return RayBundle(origins=camera.camera_to_world[:, :, 3], directions=directions, pixel_radii=camera.pixel_radii)

    def generate_rays(self, index: int = 0) -> RayBundle:
        """Return rays through all pixel centers of one camera, shaped `[height, width]`."""
        height, width = int(self.height[index]), int(self.width[index])
        device, dtype = self.intrinsics.device, self.intrinsics.dtype
        rows = torch.arange(height, device=device, dtype=dtype) + 0.5
        columns = torch.arange(width, device=device, dtype=dtype) + 0.5
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        pixels = torch.stack([x, y], -1).reshape(-1, 2)
        camera = self[index]  # shared by all rays, so it is not gathered per ray
        pose, local = camera.camera_to_world[0], camera._camera_directions(pixels, None)
        return RayBundle(
            origins=pose[:, 3].expand(height, width, 3),
            directions=(local @ pose[:, :3].mT).view(height, width, 3),
            pixel_radii=camera.pixel_radii.expand(height, width),
        )

    def _camera_directions(
        self, pixels: Float[Tensor, "rays 2"], info: DistortionInfo | None
    ) -> Float[Tensor, "rays 3"]:
        """Return unit directions in camera axes; `self` holds one camera per ray, or a single one for all rays."""
        count = len(pixels)
        uv = undistort(
            (pixels - self.intrinsics[:, 2:]) / self.intrinsics[:, :2],
            self.distortion.expand(count, 6),
            self.model.expand(count),
            None if info is None else info.newton_iterations,
        )
        local = torch.cat([uv, torch.ones_like(uv[:, :1])], -1)
        fisheye = (self.model == CameraModel.FISHEYE)[:, None]
        if fisheye.any() if info is None else info.fisheye:
            angle = uv.norm(dim=-1, keepdim=True)
            local_fisheye = torch.cat([uv * torch.sinc(angle / torch.pi), angle.cos()], -1)
            local = torch.where(fisheye, local_fisheye, local)
        return torch.nn.functional.normalize(local, dim=-1)

    @property
    def pixel_radii(self) -> Float[Tensor, "cameras"]:
        """Half the pixel width at distance one."""
        return 0.5 / self.intrinsics[:, :2].mean(-1)

    def project(
        self,
        points: Float[Tensor, "points 3"],
        index: int | Int[Tensor, "points"] = 0,
        info: DistortionInfo | None = None,
    ) -> tuple[Float[Tensor, "points 2"], Float[Tensor, "points"], Bool[Tensor, "points"]]:
        """Return image positions of world points, their depth along the optical axis, and a mask of those in view.

        `index` is one camera for all points, or one camera per point. `info` works as in `rays`.

        Raises:
            CaptureError: the index is out of range.
        """
        camera = self[index] if info is None or isinstance(index, int) else self._index(index)
        poses = camera.camera_to_world
        offsets = points - poses[:, :, 3]
        local = offsets @ poses[0, :, :3] if len(poses) == 1 else (offsets[:, None] @ poses[:, :, :3])[:, 0]
        depth = local[:, 2]
        in_front = depth > 1e-6
        uv = local[:, :2] / torch.where(in_front, depth, torch.ones_like(depth))[:, None]
        fisheye = camera.model == CameraModel.FISHEYE
        if fisheye.any() if info is None else info.fisheye:
            radius = local[:, :2].norm(dim=-1)
            angle = torch.atan2(radius, depth)
            uv_fisheye = local[:, :2] * (angle / radius.clamp_min(1e-12))[:, None]
            uv = torch.where(fisheye[:, None], uv_fisheye, uv)
            in_front = torch.where(fisheye, angle < torch.pi * 0.95, in_front)
        size = torch.stack([camera.width, camera.height], -1)
        if info.newton_iterations == 0 if info else not (camera.model != CameraModel.PINHOLE).any():
            pixels = uv * camera.intrinsics[:, :2] + camera.intrinsics[:, 2:]
            return pixels, depth, in_front & ((pixels >= 0) & (pixels < size)).all(-1)
        count = len(points)
        model = camera.model.expand(count)
        coefficients = camera.distortion.expand(count, 6)
        uv_distorted = distort(uv, coefficients, model)
        pixels = uv_distorted * camera.intrinsics[:, :2] + camera.intrinsics[:, 2:]
        inside = ((pixels >= 0) & (pixels < size)).all(-1)
        # Beyond its turning point, a distortion polynomial folds points from outside the view back into the image.
        recovered = undistort(uv_distorted, coefficients, model, None if info is None else info.newton_iterations)
        unfolded = (recovered - uv).abs().amax(-1) < 1e-2 * (1 + uv.abs().amax(-1))
        return pixels, depth, in_front & inside & unfolded


def distort(
    uv: Float[Tensor, "points 2"], coefficients: Float[Tensor, "points 6"], model: Int[Tensor, "points"]
) -> Float[Tensor, "points 2"]:
    """Apply OpenCV's lens distortion to normalized image positions.

    For a fisheye, `uv` is the direction in the image times the angle from the optical axis (radians).
    """
    k1, k2, p1, p2, k3, k4 = coefficients.unbind(-1)
    x, y = uv.unbind(-1)
    squared = x * x + y * y
    radial = 1 + squared * (k1 + squared * (k2 + squared * k3))
    brown = torch.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x),
            y * radial + p1 * (squared + 2 * y * y) + 2 * p2 * x * y,
        ],
        -1,
    )
    fisheye = uv * (1 + squared * (k1 + squared * (k2 + squared * (k3 + squared * k4))))[:, None]
    model = model[:, None]
    distorted = torch.where(model == CameraModel.FISHEYE, fisheye, brown)
    return torch.where(model == CameraModel.PINHOLE, uv, distorted)


def undistort(
    uv: Float[Tensor, "points 2"],
    coefficients: Float[Tensor, "points 6"],
    model: Int[Tensor, "points"],
    iterations: int | None = None,
) -> Float[Tensor, "points 2"]:
    """Invert `distort` by Newton's method, to float precision wherever the lens does not fold.

    Iterates until convergence, or exactly `iterations` times if given. A fixed-point iteration would be simpler, but
    it hardly converges at the rim of wide lenses.
    """
    if iterations is None and not (model != CameraModel.PINHOLE).any():
        return uv
    estimate = uv
    for _ in range(UNDISTORT_ITERATIONS if iterations is None else iterations):
        step = _newton_step(uv, estimate, coefficients, model)
        estimate = estimate + step
        if iterations is None and _has_converged(step):
            break
    return estimate


def _count_iterations(
    uv: Float[Tensor, "points 2"], coefficients: Float[Tensor, "points 6"], model: Int[Tensor, "points"]
) -> int:
    """Return the iterations until `undistort` converges, plus one for positions in between."""
    if not (model != CameraModel.PINHOLE).any():
        return 0
    estimate = uv
    for count in range(1, UNDISTORT_ITERATIONS):
        step = _newton_step(uv, estimate, coefficients, model)
        estimate = estimate + step
        if _has_converged(step):
            return count + 1
    return UNDISTORT_ITERATIONS


def _newton_step(
    uv: Float[Tensor, "points 2"],
    estimate: Float[Tensor, "points 2"],
    coefficients: Float[Tensor, "points 6"],
    model: Int[Tensor, "points"],
) -> Float[Tensor, "points 2"]:
    xx, xy, yy = _distort_gradient(estimate, coefficients, model)
    x, y = (uv - distort(estimate, coefficients, model)).unbind(-1)
    # Pixels beyond the fold of a lens have no ray; the clamps keep their values finite.
    determinant = (xx * yy - xy * xy).clamp_min(1e-3)
    return (torch.stack([yy * x - xy * y, xx * y - xy * x], -1) / determinant[:, None]).clamp(-0.5, 0.5)


def _has_converged(step: Float[Tensor, "points 2"]) -> bool:
    # Newton's method squares the error: after a step this small, the error is below the precision of the dtype.
    return not (step.abs() > 0.1 * torch.finfo(step.dtype).eps ** 0.5).any()


def _distort_gradient(
    uv: Float[Tensor, "points 2"], coefficients: Float[Tensor, "points 6"], model: Int[Tensor, "points"]
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points"], Float[Tensor, "points"]]:
    """Return the symmetric Jacobian of `distort`: dx/dx, dx/dy = dy/dx, dy/dy."""
    k1, k2, p1, p2, k3, k4 = coefficients.unbind(-1)
    x, y = uv.unbind(-1)
    squared = x * x + y * y
    fisheye, pinhole = model == CameraModel.FISHEYE, model == CameraModel.PINHOLE
    fisheye_k4 = torch.where(fisheye, k4, torch.zeros_like(k4))
    radial = 1 + squared * (k1 + squared * (k2 + squared * (k3 + squared * fisheye_k4)))
    radial_gradient = 2 * (k1 + squared * (2 * k2 + squared * (3 * k3 + squared * 4 * fisheye_k4)))
    p1, p2 = (torch.where(fisheye, torch.zeros_like(p), p) for p in (p1, p2))
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return (
        torch.where(pinhole, one, radial + radial_gradient * x * x + 2 * p1 * y + 6 * p2 * x),
        torch.where(pinhole, zero, radial_gradient * x * y + 2 * p1 * x + 2 * p2 * y),
        torch.where(pinhole, one, radial + radial_gradient * y * y + 6 * p1 * y + 2 * p2 * x),
    )


def look_at(
    eyes: Float[Tensor, "cameras 3"],
    targets: Float[Tensor, "cameras 3"],
    up: tuple[float, float, float] = (0.0, 0.0, 1.0),
) -> Float[Tensor, "cameras 3 4"]:
    """Return camera poses (OpenCV axes) at `eyes` that look at `targets`, with `up` pointing up in the image.

    If a camera looks along `up`, like a drone straight down, the top of the image points to +y (north).
    """
    forward = torch.nn.functional.normalize(targets - eyes, dim=-1)
    right = torch.linalg.cross(forward, eyes.new_tensor(up).expand_as(forward))
    sideways = torch.linalg.cross(forward, eyes.new_tensor((0.0, 1.0, 0.0)).expand_as(forward))
    right = torch.where(right.norm(dim=-1, keepdim=True) > 1e-4, right, sideways)
    right = torch.nn.functional.normalize(right, dim=-1)
    down = torch.linalg.cross(forward, right)
    return torch.cat([torch.stack([right, down, forward], -1), eyes[..., None]], -1)


def frustum_corners(cameras: Cameras, depth: float) -> Float[Tensor, "cameras 4 3"]:
    """Return the four image corners of each camera in world coordinates, at `depth` along the optical axis.

    Corners of very wide lenses, close to or beyond 90 degrees off the axis, stop at 10 times `depth`.
    """
    zero, width, height = torch.zeros_like(cameras.width), cameras.width, cameras.height
    corners = torch.stack(
        [torch.stack(pair, -1) for pair in ((zero, zero), (width, zero), (width, height), (zero, height))], 1
    )
    indices = torch.arange(len(cameras), device=corners.device).repeat_interleave(4)
    rays = cameras.rays(indices, corners.reshape(-1, 2).to(cameras.intrinsics.dtype))
    cosines = (rays.directions * cameras.camera_to_world[indices, :, 2]).sum(-1)
    distances = depth / cosines.clamp_min(0.1)
    return (rays.origins + rays.directions * distances[:, None]).view(len(cameras), 4, 3)
