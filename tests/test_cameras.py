"""Cameras: round trips, comparison with OpenCV, and edge cases."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from blocknerf.cameras import UNDISTORT_ITERATIONS, CameraModel, Cameras, distort, frustum_corners, look_at, undistort
from blocknerf.errors import CaptureError

LENSES = {
    "pinhole": (CameraModel.PINHOLE, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "phone": (CameraModel.OPENCV, (0.058, -0.081, -0.00098, 0.00016, 0.0, 0.0)),
    "action": (CameraModel.OPENCV, (-0.26, 0.075, 0.0005, -0.0003, -0.01, 0.0)),
    "fisheye": (CameraModel.FISHEYE, (-0.03, 0.006, 0.0, 0.0, -0.004, 0.0006)),
}
lens_names = pytest.mark.parametrize("lens", LENSES)


def camera(lens: str, dtype: torch.dtype = torch.float64) -> Cameras:
    """Return one wide-angle camera (75 degrees for a pinhole) at an arbitrary pose."""
    model, coefficients = LENSES[lens]
    focal = 280.0 if model == CameraModel.FISHEYE else 420.0
    pose = look_at(torch.tensor([[3.0, -2.0, 1.5]], dtype=dtype), torch.tensor([[0.5, 1.0, 1.0]], dtype=dtype))
    return Cameras(
        camera_to_world=pose,
        intrinsics=torch.tensor([[focal, 0.98 * focal, 322.0, 238.0]], dtype=dtype),
        distortion=torch.tensor([coefficients], dtype=dtype),
        model=torch.tensor([int(model)]),
        width=torch.tensor([640]),
        height=torch.tensor([480]),
    )


def grid(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    x, y = torch.meshgrid(torch.linspace(0.5, 639.5, 9), torch.linspace(0.5, 479.5, 7), indexing="xy")
    return torch.stack([x, y], -1).reshape(-1, 2).to(dtype)


def opencv_projection(points: np.ndarray, cameras: Cameras, lens: str) -> np.ndarray:
    """Project with OpenCV; its pixel centers are at integers, ours at 0.5, which the principal point absorbs."""
    matrix, center = cameras.camera_to_world[0, :, :3].numpy(), cameras.camera_to_world[0, :, 3].numpy()
    rotation, translation = cv2.Rodrigues(matrix.T)[0], -matrix.T @ center
    fx, fy, cx, cy = cameras.intrinsics[0].tolist()
    intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    k1, k2, p1, p2, k3, k4 = LENSES[lens][1]
    if lens == "fisheye":
        coefficients = np.array([k1, k2, k3, k4])
        pixels, _ = cv2.fisheye.projectPoints(points[:, None], rotation, translation, intrinsics, coefficients)
    else:
        pixels, _ = cv2.projectPoints(points, rotation, translation, intrinsics, np.array([k1, k2, p1, p2, k3]))
    return pixels[:, 0]


@lens_names
def test_projection_matches_opencv(lens):
    cameras = camera(lens)
    bundle = cameras.rays(torch.zeros(63, dtype=torch.int64), grid())
    points = bundle.origins + bundle.directions * 4.0
    pixels, _, in_view = cameras.project(points)
    assert in_view.float().mean() > 0.9
    assert np.abs(pixels.numpy() - opencv_projection(points.numpy(), cameras, lens)).max() < 1e-7


@lens_names
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 2e-3)])
def test_rays_go_through_their_pixels(lens, dtype, tolerance):
    cameras = camera(lens, dtype)
    bundle = cameras.rays(torch.zeros(63, dtype=torch.int64), grid(dtype))
    assert torch.allclose(bundle.directions.norm(dim=-1), torch.ones(63, dtype=dtype))
    pixels, depth, in_view = cameras.project(bundle.origins + bundle.directions * 7.0)
    assert in_view.all()
    assert (depth > 0).all()
    assert (pixels - grid(dtype)).abs().max() < tolerance


@lens_names
def test_radii_are_half_the_distance_between_pixels(lens):
    cameras, center = camera(lens), torch.tensor([[322.0, 238.0]], dtype=torch.float64)
    steps = []
    for step in ([1.0, 0.0], [0.0, 1.0]):
        pixels = torch.cat([center, center + torch.tensor([step])])
        bundle = cameras.rays(torch.zeros(2, dtype=torch.int64), pixels)
        steps.append(float((bundle.directions[1] - bundle.directions[0]).norm()))
    assert bundle.pixel_radii.tolist() == pytest.approx([sum(steps) / 4] * 2, rel=1e-3)
    assert torch.equal(cameras.generate_rays(0).pixel_radii, bundle.pixel_radii[:1].expand(480, 640))


@lens_names
def test_undistort_inverts_distort(lens):
    model, coefficients = LENSES[lens]
    uv = torch.rand(500, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 1.6 - 0.8
    coefficients, models = torch.tensor([coefficients]).double().expand(500, 6), torch.full((500,), int(model))
    assert torch.allclose(undistort(distort(uv, coefficients, models), coefficients, models), uv, atol=1e-10)


def test_undistort_is_finite_beyond_the_fold_of_a_lens():
    coefficients = torch.tensor([[-0.4, 0.0, 0.0, 0.0, 0.0, 0.0]]).expand(3, 6)
    uv = torch.tensor([[0.5, 0.0], [2.0, 1.0], [30.0, -20.0]])
    assert undistort(uv, coefficients, torch.ones(3, dtype=torch.int64)).isfinite().all()


def test_a_batch_can_mix_lenses():
    cameras = [camera(name) for name in LENSES]
    mixed = Cameras(**{key: torch.cat([getattr(c, key) for c in cameras]) for key in Cameras.__dataclass_fields__})
    pixels = torch.tensor([[100.0, 60.0]], dtype=torch.float64)
    batched = mixed.rays(torch.arange(4), pixels.expand(4, 2)).directions
    separate = torch.cat([c.rays(torch.tensor([0]), pixels).directions for c in cameras])
    assert torch.allclose(batched, separate, atol=1e-12)


def test_a_point_far_outside_the_view_is_not_folded_back_into_it():
    """The lens of the fox capture: with k2 < 0, the polynomial folds at 53 degrees off the axis."""
    cameras = camera("phone")
    rotation, center = cameras.camera_to_world[0, :, :3], cameras.camera_to_world[0, :, 3]
    x = torch.linspace(0.0, 4.0, 200, dtype=torch.float64)
    points = torch.stack([x, 0 * x, 1 + 0 * x], -1) @ rotation.T + center
    pixels, _, in_view = cameras.project(points)
    assert ((pixels > 0) & (pixels < 480)).all(-1)[x > 1.8].any()
    assert not in_view[x > 1.0].any()
    assert in_view[x < 0.7].all()


def test_points_behind_the_camera_are_not_in_view():
    for lens in LENSES:
        cameras = camera(lens)
        behind = cameras.centers - 2 * cameras.camera_to_world[:, :, 2]
        assert not cameras.project(behind)[2].any()


def test_a_fisheye_projects_points_to_the_side():
    cameras = camera("fisheye")
    sideways = cameras.centers + cameras.camera_to_world[:, :, 0] + 0.3 * cameras.camera_to_world[:, :, 2]
    assert cameras.scaled(1.0).project(sideways)[1].item() == pytest.approx(0.3)
    assert camera("pinhole").project(sideways)[0][0, 0] > cameras.project(sideways)[0][0, 0]


def test_a_wide_fisheye_sees_beyond_90_degrees_but_not_backward():
    wide = dataclasses.replace(
        camera("fisheye"),
        intrinsics=torch.tensor([[100.0, 100.0, 320.0, 240.0]]).double(),
        distortion=torch.zeros(1, 6).double(),
    )
    angles = torch.tensor([80.0, 100.0, 175.0]).double().deg2rad()
    local = torch.stack([angles.sin(), 0 * angles, angles.cos()], -1)
    points = wide.centers + 3.0 * local @ wide.camera_to_world[0, :, :3].T
    pixels, depth, in_view = wide.project(points)
    assert in_view.tolist() == [True, True, False]
    assert torch.allclose(pixels[:2, 0], 320.0 + 100.0 * angles[:2])
    assert depth[1] < 0.0


def test_the_view_ends_at_the_image_border():
    cameras = Cameras.pinhole(torch.eye(3, 4)[None], focal=8.0, width=16, height=8)
    edges = [(0.0, 0.0, True), (15.99, 7.99, True), (16.0, 4.0, False), (4.0, 8.0, False), (-0.01, 4.0, False)]
    points = torch.tensor([[(x - 8.0) / 8.0, (y - 4.0) / 8.0, 1.0] for x, y, _ in edges])
    assert cameras.project(points)[2].tolist() == [inside for _, _, inside in edges]


@lens_names
def test_gradients_to_poses_are_finite_on_the_axis(lens):
    cameras = camera(lens)
    pose = cameras.camera_to_world.clone().requires_grad_()
    moved = Cameras(**{key: getattr(cameras, key) for key in Cameras.__dataclass_fields__} | {"camera_to_world": pose})
    bundle = moved.rays(torch.tensor([0]), cameras.intrinsics[:, 2:])
    (bundle.directions.sum() + bundle.origins.sum()).backward()
    assert pose.grad is not None
    assert pose.grad.isfinite().all()


@pytest.mark.parametrize("factor", [2, 3, 4, 7])
def test_scaled_cameras_have_the_same_view(factor):
    cameras = camera("phone")
    small = cameras.scaled(1 / factor)
    assert (small.width.item(), small.height.item()) == (640 // factor, 480 // factor)
    ratio = torch.tensor([small.width.item() / 640, small.height.item() / 480], dtype=torch.float64)
    zero = torch.zeros(63, dtype=torch.int64)
    assert torch.allclose(small.rays(zero, grid() * ratio).directions, cameras.rays(zero, grid()).directions)


def test_image_rays_go_through_pixel_centers():
    cameras = camera("phone").scaled(1 / 40)
    bundle = cameras.generate_rays()
    assert bundle.directions.shape == (12, 16, 3)
    pixels, _, _ = cameras.project((bundle.origins + bundle.directions).reshape(-1, 3))
    assert torch.allclose(pixels.view(12, 16, 2)[5, 3], torch.tensor([3.5, 5.5], dtype=torch.float64))
    assert len(bundle.flatten()) == 192


def test_an_index_out_of_range_is_rejected():
    cameras = camera("pinhole")
    calls = (
        lambda: cameras[1],
        lambda: cameras.rays(torch.tensor([0, 3]), grid()[:2]),
        lambda: cameras.project(grid()[:0].new_zeros(1, 3), 9),
    )
    for call in calls:
        with pytest.raises(CaptureError, match=r"camera index \d is out of range; there are 1 cameras"):
            call()
    assert len(cameras[-1]) == 1


def test_look_at_keeps_up_and_handles_straight_down():
    eyes, targets = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 5.0]]), torch.tensor([[3.0, 1.0, 5.0], [0.0, 0.0, 0.0]])
    poses = look_at(eyes, targets)
    products = poses[:, :, :3] @ poses[:, :, :3].transpose(1, 2)
    assert torch.allclose(products, torch.eye(3).expand(2, 3, 3), atol=1e-6)
    assert torch.allclose(torch.linalg.det(poses[:, :, :3]), torch.ones(2))
    assert torch.allclose(poses[0, :, 1], torch.tensor([0.0, 0.0, -1.0]))
    assert torch.allclose(poses[1, :, 1], torch.tensor([0.0, -1.0, 0.0]))


def test_frustum_corners_project_to_the_image_corners():
    cameras = camera("pinhole")
    corners = frustum_corners(cameras, 3.0)[0]
    pixels, depth, _ = cameras.project(corners)
    assert torch.allclose(depth, torch.full((4,), 3.0, dtype=torch.float64))
    expected = torch.tensor([[0.0, 0.0], [640.0, 0.0], [640.0, 480.0], [0.0, 480.0]], dtype=torch.float64)
    assert torch.allclose(pixels, expected)
    assert frustum_corners(camera("fisheye"), 1.0).isfinite().all()


def test_frustum_corners_of_a_very_wide_lens_are_at_a_bounded_distance():
    wide = dataclasses.replace(camera("fisheye"), intrinsics=torch.tensor([[200.0, 200.0, 320.0, 240.0]]).double())
    distances = (frustum_corners(wide, 2.0)[0] - wide.centers).norm(dim=-1)
    assert torch.allclose(distances, torch.full((4,), 20.0).double())


def test_every_point_can_have_its_own_camera():
    lenses = list(LENSES)
    cameras = Cameras.cat([camera(lens) for lens in lenses])
    cameras.intrinsics[:] *= torch.linspace(0.8, 1.2, len(lenses), dtype=torch.float64)[:, None]
    generator = torch.Generator().manual_seed(2)
    points = torch.tensor([0.5, 1.0, 1.0]).double() + torch.randn(40, 3, generator=generator).double()
    index = torch.arange(40) % len(lenses)
    batched = cameras.project(points, index)
    for i in range(40):
        single = cameras.project(points[i : i + 1], int(index[i]))
        for values, value in zip(batched, single, strict=True):
            torch.testing.assert_close(values[i], value[0])
    assert 5 < int(batched[2].sum()) < 40


@lens_names
def test_distortion_info_does_not_change_rays_and_projections(lens):
    both = Cameras.cat([camera(lens, torch.float32), camera("pinhole", torch.float32)])
    indices = torch.arange(2).repeat_interleave(63)
    pixels = grid(torch.float32).repeat(2, 1)
    info = both.distortion_info()
    expected, rays = both.rays(indices, pixels), both.rays(indices, pixels, info)
    assert torch.allclose(expected.directions, rays.directions, atol=2e-7)
    points = expected.origins + 4.0 * expected.directions
    for first, second in zip(both.project(points, indices), both.project(points, indices, info), strict=True):
        assert torch.allclose(first.float(), second.float(), atol=1e-3)


@lens_names
def test_newton_iterations_suffice_all_over_the_image(lens):
    cameras = camera(lens)
    pixels = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uv = (pixels * torch.tensor([640.0, 480.0]) - cameras.intrinsics[:, 2:]) / cameras.intrinsics[:, :2]
    lenses = cameras.distortion.expand(4000, 6), cameras.model.expand(4000)
    undistorted = undistort(uv, *lenses, cameras.distortion_info().newton_iterations)
    assert (distort(undistorted, *lenses) - uv).abs().max() < 1e-14


def test_distortion_info_of_different_lenses():
    pinhole, phone, fisheye = (camera(lens).distortion_info() for lens in ("pinhole", "phone", "fisheye"))
    assert (pinhole.fisheye, pinhole.newton_iterations) == (False, 0)
    assert not phone.fisheye
    assert 2 <= phone.newton_iterations <= UNDISTORT_ITERATIONS
    assert fisheye.fisheye


def test_rays_with_distortion_info_read_no_values():
    """Reading a value back from a GPU would synchronize; on the meta device it raises."""
    cameras = camera("fisheye", torch.float32)
    info, on_meta = cameras.distortion_info(), cameras.to("meta")
    indices = torch.zeros(63, dtype=torch.int64, device="meta")
    rays = on_meta.rays(indices, grid(torch.float32).to("meta"), info)
    on_meta.project(rays.origins + rays.directions, indices, info)
    with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
        on_meta.rays(indices, grid(torch.float32).to("meta"))
