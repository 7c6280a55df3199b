"""Cameras by round trip, against OpenCV, and at the awkward points."""

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
    """One wide camera (75 degrees across, if it is a pinhole) that stands somewhere and looks somewhere."""
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
    """Pixels by OpenCV, whose pixel centres are whole numbers and ours halves; the principal point hides it."""
    turn, center = cameras.camera_to_world[0, :, :3].numpy(), cameras.camera_to_world[0, :, 3].numpy()
    rotation, translation = cv2.Rodrigues(turn.T)[0], -turn.T @ center
    fx, fy, cx, cy = cameras.intrinsics[0].tolist()
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    k1, k2, p1, p2, k3, k4 = LENSES[lens][1]
    if lens == "fisheye":
        found = cv2.fisheye.projectPoints(points[:, None], rotation, translation, matrix, np.array([k1, k2, k3, k4]))
    else:
        found = cv2.projectPoints(points, rotation, translation, matrix, np.array([k1, k2, p1, p2, k3]))
    return found[0][:, 0]


@lens_names
def test_projection_is_opencvs(lens):
    cameras = camera(lens)
    bundle = cameras.rays(torch.zeros(63, dtype=torch.int64), grid())
    points = bundle.origins + bundle.directions * 4.0
    pixels, _, seen = cameras.project(points)
    assert seen.float().mean() > 0.9
    assert np.abs(pixels.numpy() - opencv_projection(points.numpy(), cameras, lens)).max() < 1e-7


@lens_names
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 2e-3)])
def test_rays_go_through_their_pixels(lens, dtype, tolerance):
    cameras = camera(lens, dtype)
    bundle = cameras.rays(torch.zeros(63, dtype=torch.int64), grid(dtype))
    assert torch.allclose(bundle.directions.norm(dim=-1), torch.ones(63, dtype=dtype))
    pixels, depth, seen = cameras.project(bundle.origins + bundle.directions * 7.0)
    assert seen.all()
    assert (depth > 0).all()
    assert (pixels - grid(dtype)).abs().max() < tolerance


@lens_names
def test_radii_are_half_the_way_from_a_pixel_to_the_next(lens):
    cameras, middle = camera(lens), torch.tensor([[322.0, 238.0]], dtype=torch.float64)
    steps = []
    for step in ([1.0, 0.0], [0.0, 1.0]):
        pixels = torch.cat([middle, middle + torch.tensor([step])])
        bundle = cameras.rays(torch.zeros(2, dtype=torch.int64), pixels)
        steps.append(float((bundle.directions[1] - bundle.directions[0]).norm()))
    assert bundle.pixel_radii.tolist() == pytest.approx([sum(steps) / 4] * 2, rel=1e-3)
    assert torch.equal(cameras.generate_rays(0).pixel_radii, bundle.pixel_radii[:1].expand(480, 640))


@lens_names
def test_undistort_inverts_distort(lens):
    model, coefficients = LENSES[lens]
    plane = torch.rand(500, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 1.6 - 0.8
    terms, models = torch.tensor([coefficients]).double().expand(500, 6), torch.full((500,), int(model))
    assert torch.allclose(undistort(distort(plane, terms, models), terms, models), plane, atol=1e-10)


def test_undistort_is_finite_beyond_the_fold_of_a_lens():
    terms = torch.tensor([[-0.4, 0.0, 0.0, 0.0, 0.0, 0.0]]).expand(3, 6)
    plane = torch.tensor([[0.5, 0.0], [2.0, 1.0], [30.0, -20.0]])
    assert undistort(plane, terms, torch.ones(3, dtype=torch.int64)).isfinite().all()


def test_lenses_mix_in_one_batch():
    batch = {name: camera(name) for name in LENSES}
    mixed = Cameras(
        **{key: torch.cat([getattr(one, key) for one in batch.values()]) for key in Cameras.__dataclass_fields__}
    )
    pixels = torch.tensor([[100.0, 60.0]], dtype=torch.float64)
    together = mixed.rays(torch.arange(4), pixels.expand(4, 2)).directions
    alone = torch.cat([one.rays(torch.tensor([0]), pixels).directions for one in batch.values()])
    assert torch.allclose(together, alone, atol=1e-12)


def test_a_point_far_outside_the_view_is_not_folded_back_into_it():
    """The fox's lens: k2 < 0 turns the polynomial around, at 53 degrees off the axis."""
    cameras = camera("phone")
    turn, center = cameras.camera_to_world[0, :, :3], cameras.camera_to_world[0, :, 3]
    x = torch.linspace(0.0, 4.0, 200, dtype=torch.float64)
    points = torch.stack([x, 0 * x, 1 + 0 * x], -1) @ turn.T + center
    pixels, _, seen = cameras.project(points)
    assert ((pixels > 0) & (pixels < 480)).all(-1)[x > 1.8].any()
    assert not seen[x > 1.0].any()
    assert seen[x < 0.7].all()


def test_points_behind_are_not_seen():
    for lens in LENSES:
        cameras = camera(lens)
        behind = cameras.centers - 2 * cameras.camera_to_world[:, :, 2]
        assert not cameras.project(behind)[2].any()


def test_a_fisheye_sees_sideways():
    cameras = camera("fisheye")
    sideways = cameras.centers + cameras.camera_to_world[:, :, 0] + 0.3 * cameras.camera_to_world[:, :, 2]
    assert cameras.scaled(1.0).project(sideways)[1].item() == pytest.approx(0.3)
    assert camera("pinhole").project(sideways)[0][0, 0] > cameras.project(sideways)[0][0, 0]


def test_a_wide_fisheye_sees_past_its_shoulder_but_not_straight_back():
    wide = dataclasses.replace(
        camera("fisheye"),
        intrinsics=torch.tensor([[100.0, 100.0, 320.0, 240.0]]).double(),
        distortion=torch.zeros(1, 6).double(),
    )
    angles = torch.tensor([80.0, 100.0, 175.0]).double().deg2rad()
    local = torch.stack([angles.sin(), 0 * angles, angles.cos()], -1)
    points = wide.centers + 3.0 * local @ wide.camera_to_world[0, :, :3].T
    pixels, depth, seen = wide.project(points)
    assert seen.tolist() == [True, True, False]
    assert torch.allclose(pixels[:2, 0], 320.0 + 100.0 * angles[:2])
    assert depth[1] < 0.0


def test_the_view_ends_before_the_pixel_after_the_last():
    plain = Cameras.pinhole(torch.eye(3, 4)[None], focal=8.0, width=16, height=8)
    edges = [(0.0, 0.0, True), (15.99, 7.99, True), (16.0, 4.0, False), (4.0, 8.0, False), (-0.01, 4.0, False)]
    points = torch.tensor([[(x - 8.0) / 8.0, (y - 4.0) / 8.0, 1.0] for x, y, _ in edges])
    assert plain.project(points)[2].tolist() == [inside for _, _, inside in edges]


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
def test_scaled_cameras_see_the_same_view(factor):
    cameras = camera("phone")
    small = cameras.scaled(1 / factor)
    assert (small.width.item(), small.height.item()) == (640 // factor, 480 // factor)
    ratio = torch.tensor([small.width.item() / 640, small.height.item() / 480], dtype=torch.float64)
    zero = torch.zeros(63, dtype=torch.int64)
    assert torch.allclose(small.rays(zero, grid() * ratio).directions, cameras.rays(zero, grid()).directions)


def test_image_rays_are_rays_through_pixel_centres():
    cameras = camera("phone").scaled(1 / 40)
    bundle = cameras.generate_rays()
    assert bundle.directions.shape == (12, 16, 3)
    pixels, _, _ = cameras.project((bundle.origins + bundle.directions).reshape(-1, 3))
    assert torch.allclose(pixels.view(12, 16, 2)[5, 3], torch.tensor([3.5, 5.5], dtype=torch.float64))
    assert len(bundle.flatten()) == 192


def test_an_index_out_of_range_is_refused():
    cameras = camera("pinhole")
    wrong = (
        lambda: cameras[1],
        lambda: cameras.rays(torch.tensor([0, 3]), grid()[:2]),
        lambda: cameras.project(grid()[:0].new_zeros(1, 3), 9),
    )
    for attempt in wrong:
        with pytest.raises(CaptureError, match=r"camera index \d is out of range; there are 1 cameras"):
            attempt()
    assert len(cameras[-1]) == 1


def test_look_at_keeps_up_upward_and_copes_with_straight_down():
    eyes, targets = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 5.0]]), torch.tensor([[3.0, 1.0, 5.0], [0.0, 0.0, 0.0]])
    poses = look_at(eyes, targets)
    identity = poses[:, :, :3] @ poses[:, :, :3].transpose(1, 2)
    assert torch.allclose(identity, torch.eye(3).expand(2, 3, 3), atol=1e-6)
    assert torch.allclose(torch.linalg.det(poses[:, :, :3]), torch.ones(2))
    assert torch.allclose(poses[0, :, 1], torch.tensor([0.0, 0.0, -1.0]))
    assert torch.allclose(poses[1, :, 1], torch.tensor([0.0, -1.0, 0.0]))


def test_frusta_corners_project_to_the_images_corners():
    cameras = camera("pinhole")
    corners = frustum_corners(cameras, 3.0)[0]
    pixels, depth, _ = cameras.project(corners)
    assert torch.allclose(depth, torch.full((4,), 3.0, dtype=torch.float64))
    expected = torch.tensor([[0.0, 0.0], [640.0, 0.0], [640.0, 480.0], [0.0, 480.0]], dtype=torch.float64)
    assert torch.allclose(pixels, expected)
    assert frustum_corners(camera("fisheye"), 1.0).isfinite().all()


def test_frusta_corners_of_a_lens_that_sees_backward_stop_ahead_of_infinity():
    wide = dataclasses.replace(camera("fisheye"), intrinsics=torch.tensor([[200.0, 200.0, 320.0, 240.0]]).double())
    distances = (frustum_corners(wide, 2.0)[0] - wide.centers).norm(dim=-1)
    assert torch.allclose(distances, torch.full((4,), 20.0).double())


def test_points_seen_each_by_a_camera_of_its_own():
    lenses = list(LENSES)
    cameras = Cameras.cat([camera(lens) for lens in lenses])
    cameras.intrinsics[:] *= torch.linspace(0.8, 1.2, len(lenses), dtype=torch.float64)[:, None]
    generator = torch.Generator().manual_seed(2)
    points = torch.tensor([0.5, 1.0, 1.0]).double() + torch.randn(40, 3, generator=generator).double()
    index = torch.arange(40) % len(lenses)
    together = cameras.project(points, index)
    for i in range(40):
        alone = cameras.project(points[i : i + 1], int(index[i]))
        for many, one in zip(together, alone, strict=True):
            torch.testing.assert_close(many[i], one[0])
    assert 5 < int(together[2].sum()) < 40


@lens_names
def test_known_lenses_give_the_same_rays_and_projections(lens):
    both = Cameras.cat([camera(lens, torch.float32), camera("pinhole", torch.float32)])
    indices = torch.arange(2).repeat_interleave(63)
    pixels = grid(torch.float32).repeat(2, 1)
    plain, known = both.rays(indices, pixels), both.rays(indices, pixels, both.distortion_info())
    assert torch.allclose(plain.directions, known.directions, atol=2e-7)
    points = plain.origins + 4.0 * plain.directions
    for one, other in zip(
        both.project(points, indices), both.project(points, indices, both.distortion_info()), strict=True
    ):
        assert torch.allclose(one.float(), other.float(), atol=1e-3)


@lens_names
def test_iterations_of_known_lenses_are_enough_all_over_the_picture(lens):
    cameras = camera(lens)
    pixels = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plane = (pixels * torch.tensor([640.0, 480.0]) - cameras.intrinsics[:, 2:]) / cameras.intrinsics[:, :2]
    lenses = cameras.distortion.expand(4000, 6), cameras.model.expand(4000)
    found = undistort(plane, *lenses, cameras.distortion_info().newton_iterations)
    assert (distort(found, *lenses) - plane).abs().max() < 1e-14


def test_lenses_are_known_by_their_cameras():
    ideal, phone, fisheye = (camera(lens).distortion_info() for lens in ("pinhole", "phone", "fisheye"))
    assert (ideal.fisheye, ideal.newton_iterations) == (False, 0)
    assert not phone.fisheye
    assert 2 <= phone.newton_iterations <= UNDISTORT_ITERATIONS
    assert fisheye.fisheye


def test_rays_of_known_lenses_look_at_no_value():
    """What a GPU holds would have to be waited for; on no device at all there is nothing to look at."""
    cameras = camera("fisheye", torch.float32)
    lenses, away = cameras.distortion_info(), cameras.to("meta")
    indices = torch.zeros(63, dtype=torch.int64, device="meta")
    rays = away.rays(indices, grid(torch.float32).to("meta"), lenses)
    away.project(rays.origins + rays.directions, indices, lenses)
    with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
        away.rays(indices, grid(torch.float32).to("meta"))
