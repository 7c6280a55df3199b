"""Batched cameras with distortion, and the rays through their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from blocknerf.errors import CaptureError

UNDISTORT_ITERATIONS = 8
DISTORTION_GRID = 17
"""Places along each side of a picture at which lenses are tried out."""


class CameraModel(IntEnum):
    """How a ray's angle maps to the image; coefficients are OpenCV's."""

    PINHOLE = 0
    OPENCV = 1
    FISHEYE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RayBundle:
    """Rays in world coordinates; directions have length one, so a distance along them is in world units."""

    origins: Float[Tensor, "*batch 3"]
    directions: Float[Tensor, "*batch 3"]
    pixel_radii: Float[Tensor, "*batch"]
    """Radius of the pixel's cone at distance one (half a pixel's width, as an angle)."""

    @classmethod
    def cat(cls, bundles: Sequence["RayBundle"]) -> "RayBundle":
        """The rays of several bundles as one, in order."""
        return cls(**{field.name: torch.cat([getattr(each, field.name) for each in bundles]) for field in fields(cls)})

    def __len__(self) -> int:
        return self.origins.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> "RayBundle":
        return RayBundle(
            origins=self.origins[index], directions=self.directions[index], pixel_radii=self.pixel_radii[index]
        )

    def requires_grad_copy(self) -> "RayBundle":
        """The same rays, whose origins and directions collect gradients."""
        origins, directions = (part.detach().clone().requires_grad_() for part in (self.origins, self.directions))
        return RayBundle(origins=origins, directions=directions, pixel_radii=self.pixel_radii)

    def detach(self) -> "RayBundle":
        """The same rays, through which no gradient flows."""
        return RayBundle(
            origins=self.origins.detach(), directions=self.directions.detach(), pixel_radii=self.pixel_radii.detach()
        )

    def flatten(self) -> "RayBundle":
        """The same rays with one batch axis."""
        return RayBundle(
            origins=self.origins.reshape(-1, 3),
            directions=self.directions.reshape(-1, 3),
            pixel_radii=self.pixel_radii.reshape(-1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DistortionInfo:
    """What all rays of some cameras have in common; who knows it need not look at the rays, for which a GPU waits."""

    fisheye: bool
    """Whether any lens is one."""
    newton_iterations: int
    """Of Newton's method, after which the distortion of every lens is undone; 0 where none has any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cameras:
    """A batch of cameras with OpenCV axes: x right, y down, z forward; pixel centres at 0.5."""

    camera_to_world: Float[Tensor, "cameras 3 4"]
    intrinsics: Float[Tensor, "cameras 4"]
    """fx, fy, cx, cy in pixels."""
    distortion: Float[Tensor, "cameras 6"]
    """k1, k2, p1, p2, k3, k4; a fisheye uses k1 to k4 and no p."""
    model: Int[Tensor, "cameras"]
    """A `CameraModel` each."""
    width: Int[Tensor, "cameras"]
    height: Int[Tensor, "cameras"]

    @classmethod
    def pinhole(
        cls, camera_to_world: Float[Tensor, "cameras 3 4"], *, focal: float, width: int, height: int
    ) -> "Cameras":
        """Ideal cameras of one focal length (pixels), with the principal point in the middle."""
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
        """The cameras of several batches as one, in order."""
        return cls(**{field.name: torch.cat([getattr(each, field.name) for each in batches]) for field in fields(cls)})

    def __len__(self) -> int:
        return self.camera_to_world.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> "Cameras":
        """The chosen cameras; an integer gives a batch of one.

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
        """Camera centres in the world."""
        return self.camera_to_world[:, :, 3]

    def to(self, device: torch.device | str) -> "Cameras":
        return Cameras(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def scaled(self, factor: float) -> "Cameras":
        """The same views at `factor` times the resolution (0.5 halves width and height, rounding down)."""
        width, height = (
            (size * factor + 1e-6).floor().to(size.dtype).clamp_min(1) for size in (self.width, self.height)
        )
        ratio = torch.stack([width / self.width, height / self.height], -1)
        return replace(self, intrinsics=self.intrinsics * ratio.repeat(1, 2), width=width, height=height)

    def distortion_info(self) -> DistortionInfo:
        """What the lenses need, found by trying each out all over its picture."""
        whole = torch.stack([self.model, self.width, self.height], -1)
        kinds = torch.cat([self.intrinsics, self.distortion, whole], -1).unique(dim=0)
        shares = torch.linspace(0.0, 1.0, DISTORTION_GRID, device=kinds.device, dtype=kinds.dtype)
        places = torch.cartesian_prod(shares, shares) * kinds[:, None, 11:]
        plane = ((places - kinds[:, None, 2:4]) / kinds[:, None, :2]).flatten(0, 1)
        rows = kinds.repeat_interleave(len(shares) ** 2, 0)
        model = rows[:, 10].long()
        return DistortionInfo(
            fisheye=bool((model == CameraModel.FISHEYE).any()),
            newton_iterations=_iterations(plane, rows[:, 4:10], model),
        )

    def rays(
        self, indices: Int[Tensor, "rays"], pixels: Float[Tensor, "rays 2"], lenses: DistortionInfo | None = None
    ) -> RayBundle:
        """Rays through image positions (x, y) of the given cameras; the first pixel's centre is (0.5, 0.5).

        With the cameras' `distortion_info`, nothing waits for a GPU, and indices are trusted to be in range.
        """
        camera = self[indices] if lenses is None else self._index(indices)
        directions = (camera.camera_to_world[:, :, :3] @ camera._camera_directions(pixels, lenses)[:, :, None])[:, :, 0]
        return RayBundle(
            origins=camera.camera_to_world[:, :, 3], directions=directions, pixel_radii=camera._pixel_radii
        )

    def generate_rays(self, index: int = 0) -> RayBundle:
        """Rays through every pixel centre of one camera, as `[height, width]`."""
        height, width = int(self.height[index]), int(self.width[index])
        device, dtype = self.intrinsics.device, self.intrinsics.dtype
        rows = torch.arange(height, device=device, dtype=dtype) + 0.5
        columns = torch.arange(width, device=device, dtype=dtype) + 0.5
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        pixels = torch.stack([x, y], -1).reshape(-1, 2)
        # All are of one camera, which is not gathered for each.
        camera = self[index]
        motion, local = camera.camera_to_world[0], camera._camera_directions(pixels, None)
        return RayBundle(
            origins=motion[:, 3].expand(height, width, 3),
            directions=(local @ motion[:, :3].mT).view(height, width, 3),
            pixel_radii=camera._pixel_radii.expand(height, width),
        )

    def _camera_directions(
        self, pixels: Float[Tensor, "rays 2"], lenses: DistortionInfo | None
    ) -> Float[Tensor, "rays 3"]:
        """Directions in the axes of the cameras: one for each ray, or one for all."""
        count = len(pixels)
        plane = undistort(
            (pixels - self.intrinsics[:, 2:]) / self.intrinsics[:, :2],
            self.distortion.expand(count, 6),
            self.model.expand(count),
            None if lenses is None else lenses.newton_iterations,
        )
        local = torch.cat([plane, torch.ones_like(plane[:, :1])], -1)
        fisheye = (self.model == CameraModel.FISHEYE)[:, None]
        if fisheye.any() if lenses is None else lenses.fisheye:
            angle = plane.norm(dim=-1, keepdim=True)
            bent = torch.cat([plane * torch.sinc(angle / torch.pi), angle.cos()], -1)
            local = torch.where(fisheye, bent, local)
        return torch.nn.functional.normalize(local, dim=-1)

    @property
    def _pixel_radii(self) -> Float[Tensor, "cameras"]:
        """Half the width of a pixel, at distance one."""
        return 0.5 / self.intrinsics[:, :2].mean(-1)

    def project(
        self,
        points: Float[Tensor, "points 3"],
        index: int | Int[Tensor, "points"] = 0,
        lenses: DistortionInfo | None = None,
    ) -> tuple[Float[Tensor, "points 2"], Float[Tensor, "points"], Bool[Tensor, "points"]]:
        """Image positions of world points in a camera, their depth (along the optical axis), and which are in view.

        All points are seen by the one camera, or each by its own. `distortion_info` serve as they do for `rays`.

        Raises:
            CaptureError: the index is out of range.
        """
        camera = self[index] if lenses is None or isinstance(index, int) else self._index(index)
        motion = camera.camera_to_world
        offsets = points - motion[:, :, 3]
        local = offsets @ motion[0, :, :3] if len(motion) == 1 else (offsets[:, None] @ motion[:, :, :3])[:, 0]
        depth = local[:, 2]
        ahead = depth > 1e-6
        plane = local[:, :2] / torch.where(ahead, depth, torch.ones_like(depth))[:, None]
        fisheye = camera.model == CameraModel.FISHEYE
        if fisheye.any() if lenses is None else lenses.fisheye:
            radius = local[:, :2].norm(dim=-1)
            angle = torch.atan2(radius, depth)
            bowed = local[:, :2] * (angle / radius.clamp_min(1e-12))[:, None]
            plane = torch.where(fisheye[:, None], bowed, plane)
            ahead = torch.where(fisheye, angle < torch.pi * 0.95, ahead)
        count = len(points)
        model = camera.model.expand(count)
        coefficients = camera.distortion.expand(count, 6)
        bent = distort(plane, coefficients, model)
        pixels = bent * camera.intrinsics[:, :2] + camera.intrinsics[:, 2:]
        size = torch.stack([camera.width, camera.height], -1)
        inside = ((pixels >= 0) & (pixels < size)).all(-1)
        # Beyond its turning point a lens polynomial folds points from outside the view back into the image.
        back = undistort(bent, coefficients, model, None if lenses is None else lenses.newton_iterations)
        unfolded = (back - plane).abs().amax(-1) < 1e-2 * (1 + plane.abs().amax(-1))
        return pixels, depth, ahead & inside & unfolded


def distort(
    plane: Float[Tensor, "points 2"], coefficients: Float[Tensor, "points 6"], model: Int[Tensor, "points"]
) -> Float[Tensor, "points 2"]:
    """Apply OpenCV's lens distortion to normalized image positions.

    For a fisheye, `plane` is the direction in the image times the angle from the optical axis (radians).
    """
    k1, k2, p1, p2, k3, k4 = coefficients.unbind(-1)
    x, y = plane.unbind(-1)
    squared = x * x + y * y
    radial = 1 + squared * (k1 + squared * (k2 + squared * k3))
    brown = torch.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x),
            y * radial + p1 * (squared + 2 * y * y) + 2 * p2 * x * y,
        ],
        -1,
    )
    fisheye = plane * (1 + squared * (k1 + squared * (k2 + squared * (k3 + squared * k4))))[:, None]
    model = model[:, None]
    bent = torch.where(model == CameraModel.FISHEYE, fisheye, brown)
    return torch.where(model == CameraModel.PINHOLE, plane, bent)


def undistort(
    plane: Float[Tensor, "points 2"],
    coefficients: Float[Tensor, "points 6"],
    model: Int[Tensor, "points"],
    iterations: int | None = None,
) -> Float[Tensor, "points 2"]:
    """Invert `distort` by Newton's method, to float precision wherever the lens does not fold.

    A fixed-point iteration would be simpler, but at the rim of wide lenses it hardly converges. It ends when nothing
    moves any more, or after that many iterations where their number is given.
    """
    if iterations is None and not (model != CameraModel.PINHOLE).any():
        return plane
    estimate = plane
    for _ in range(UNDISTORT_ITERATIONS if iterations is None else iterations):
        step = _newton_step(plane, estimate, coefficients, model)
        estimate = estimate + step
        if iterations is None and _is_settled(step):
            break
    return estimate


def _iterations(
    plane: Float[Tensor, "points 2"], coefficients: Float[Tensor, "points 6"], model: Int[Tensor, "points"]
) -> int:
    """How many iterations undo the distortion at image positions, and one more for those between."""
    if not (model != CameraModel.PINHOLE).any():
        return 0
    estimate = plane
    for count in range(1, UNDISTORT_ITERATIONS):
        step = _newton_step(plane, estimate, coefficients, model)
        estimate = estimate + step
        if _is_settled(step):
            return count + 1
    return UNDISTORT_ITERATIONS


def _newton_step(
    plane: Float[Tensor, "points 2"],
    estimate: Float[Tensor, "points 2"],
    coefficients: Float[Tensor, "points 6"],
    model: Int[Tensor, "points"],
) -> Float[Tensor, "points 2"]:
    xx, xy, yy = _distort_gradient(estimate, coefficients, model)
    x, y = (plane - distort(estimate, coefficients, model)).unbind(-1)
    # Pixels beyond a lens's fold have no ray; the bounds keep theirs finite.
    determinant = (xx * yy - xy * xy).clamp_min(1e-3)
    return (torch.stack([yy * x - xy * y, xx * y - xy * x], -1) / determinant[:, None]).clamp(-0.5, 0.5)


def _is_settled(step: Float[Tensor, "points 2"]) -> bool:
    # Newton squares the error: after a step this small nothing is left that the type can hold.
    return not (step.abs() > 0.1 * torch.finfo(step.dtype).eps ** 0.5).any()


def _distort_gradient(
    plane: Float[Tensor, "points 2"], coefficients: Float[Tensor, "points 6"], model: Int[Tensor, "points"]
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points"], Float[Tensor, "points"]]:
    """The Jacobian of `distort`, which is symmetric: dx/dx, dx/dy = dy/dx, dy/dy."""
    k1, k2, p1, p2, k3, k4 = coefficients.unbind(-1)
    x, y = plane.unbind(-1)
    squared = x * x + y * y
    fisheye, ideal = model == CameraModel.FISHEYE, model == CameraModel.PINHOLE
    last = torch.where(fisheye, k4, torch.zeros_like(k4))
    radial = 1 + squared * (k1 + squared * (k2 + squared * (k3 + squared * last)))
    slope = 2 * (k1 + squared * (2 * k2 + squared * (3 * k3 + squared * 4 * last)))
    p1, p2 = (torch.where(fisheye, torch.zeros_like(p), p) for p in (p1, p2))
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return (
        torch.where(ideal, one, radial + slope * x * x + 2 * p1 * y + 6 * p2 * x),
        torch.where(ideal, zero, slope * x * y + 2 * p1 * x + 2 * p2 * y),
        torch.where(ideal, one, radial + slope * y * y + 6 * p1 * y + 2 * p2 * x),
    )


def look_at(
    eyes: Float[Tensor, "cameras 3"],
    targets: Float[Tensor, "cameras 3"],
    up: tuple[float, float, float] = (0.0, 0.0, 1.0),
) -> Float[Tensor, "cameras 3 4"]:
    """Camera poses (OpenCV axes) that stand at `eyes`, look at `targets`, and keep `up` upward in the image.

    Looking along `up` itself, as a drone straight down, the image's top is at +y (north).
    """
    forward = torch.nn.functional.normalize(targets - eyes, dim=-1)
    right = torch.linalg.cross(forward, eyes.new_tensor(up).expand_as(forward))
    sideways = torch.linalg.cross(forward, eyes.new_tensor((0.0, 1.0, 0.0)).expand_as(forward))
    right = torch.where(right.norm(dim=-1, keepdim=True) > 1e-4, right, sideways)
    right = torch.nn.functional.normalize(right, dim=-1)
    down = torch.linalg.cross(forward, right)
    return torch.cat([torch.stack([right, down, forward], -1), eyes[..., None]], -1)


def frustum_corners(cameras: Cameras, depth: float) -> Float[Tensor, "cameras 4 3"]:
    """The four image corners of each camera, pushed out to `depth` along the optical axis, in the world.

    Corners of a very wide lens, nearly or more than 90 degrees off the axis, stop at 10 times `depth`.
    """
    zero, width, height = torch.zeros_like(cameras.width), cameras.width, cameras.height
    corners = torch.stack(
        [torch.stack(pair, -1) for pair in ((zero, zero), (width, zero), (width, height), (zero, height))], 1
    )
    indices = torch.arange(len(cameras), device=corners.device).repeat_interleave(4)
    rays = cameras.rays(indices, corners.reshape(-1, 2).to(cameras.intrinsics.dtype))
    along = (rays.directions * cameras.camera_to_world[indices, :, 2]).sum(-1)
    reach = depth / along.clamp_min(0.1)
    return (rays.origins + rays.directions * reach[:, None]).view(len(cameras), 4, 3)
