"""PLY files: round trips, files of other programs, and errors of broken files."""

import os

import numpy as np
import pytest

from blocknerf.capture.points import PointCloud, check_ply, read_ply, write_ply
from blocknerf.errors import CaptureError


def cloud(count: int = 7, colored: bool = True) -> PointCloud:
    rng = np.random.default_rng(2)
    colors = rng.integers(0, 256, (count, 3), dtype=np.uint8) if colored else None
    return PointCloud(positions=rng.normal(0, 30, (count, 3)).astype(np.float32), colors=colors)


@pytest.mark.parametrize("count", [0, 1, 1000])
@pytest.mark.parametrize("colored", [False, True])
def test_round_trip_is_exact(tmp_path, count, colored):
    points = cloud(count, colored)
    write_ply(points, tmp_path / "a.ply")
    result = read_ply(tmp_path / "a.ply")
    assert len(result) == count
    assert np.array_equal(result.positions, points.positions)
    assert (result.colors is None) == (not colored)
    if colored:
        assert np.array_equal(result.colors, points.colors)


def test_ascii_with_doubles_other_properties_and_faces(tmp_path):
    (tmp_path / "a.ply").write_text(
        "ply\nformat ascii 1.0\ncomment made by hand\nelement vertex 2\n"
        "property double x\nproperty double y\nproperty double z\nproperty float nx\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
        "1 2 3 0.5 255 0 7\n-1.5 1e3 0 0 1 2 3\n3 0 1 1\n"
    )
    result = read_ply(tmp_path / "a.ply")
    assert result.positions.tolist() == [[1, 2, 3], [-1.5, 1000, 0]]
    assert result.colors is not None
    assert result.colors.tolist() == [[255, 0, 7], [1, 2, 3]]


@pytest.mark.parametrize(("encoding", "byte_order"), [("binary_little_endian", "<"), ("binary_big_endian", ">")])
def test_binary_with_other_byte_orders_types_and_windows_line_ends(tmp_path, encoding, byte_order):
    rows = np.zeros(
        3, [("red", "u1"), ("green", "u1"), ("blue", "u1"), ("x", f"{byte_order}f8"), ("y", f"{byte_order}f8")]
    )
    rows = np.zeros(3, [*rows.dtype.descr, ("z", f"{byte_order}f8"), ("quality", f"{byte_order}i2")])
    rows["x"], rows["z"], rows["green"], rows["quality"] = [1, 2, 3], -4.25, 9, 77
    header = f"ply\r\nformat {encoding} 1.0\r\nelement vertex 3\r\n"
    header += "".join(f"property uint8 {name}\r\n" for name in ("red", "green", "blue"))
    header += "".join(f"property float64 {axis}\r\n" for axis in "xyz") + "property int16 quality\r\nend_header\r\n"
    (tmp_path / "a.ply").write_bytes(header.encode() + rows.tobytes())
    result = read_ply(tmp_path / "a.ply")
    assert result.positions.tolist() == [[1, 0, -4.25], [2, 0, -4.25], [3, 0, -4.25]]
    assert result.colors is not None
    assert result.colors.tolist() == [[0, 9, 0]] * 3


def test_colors_from_zero_to_one_become_bytes(tmp_path):
    header = "ply\nformat ascii 1.0\nelement vertex 1\n"
    header += "".join(f"property float {name}\n" for name in ("x", "y", "z", "red", "green", "blue"))
    (tmp_path / "a.ply").write_text(header + "end_header\n0 0 0 0 0.5 1\n")
    colors = read_ply(tmp_path / "a.ply").colors
    assert colors is not None
    assert colors.tolist() == [[0, 128, 255]]


HEAD = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
BINARY = HEAD.replace("ascii", "binary_little_endian")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no PLY header"),
        ("\x89PNG and so on", "no PLY header"),
        ("ply\nformat ascii 1.0\nelement vertex 2\n", "no PLY header"),
        ("ply\nformat ascii 1.0\nend_header", "no PLY header"),
        (HEAD + "0 0 0\n", "cut short: 1 of 2 points"),
        (HEAD + "0 0 0\n1 1\n", "a point is not 3 numbers"),
        (HEAD + "0 0 0\n1 one 1\n", "a point is not 3 numbers"),
        (HEAD + "0 0 0\nnan 1 1\n", "1 of 2 positions are not finite"),
        (BINARY + "12345678", "cut short: 0 of 2 points"),
        (HEAD.replace("ascii", "morse"), "format 'morse' is unknown"),
        (HEAD.replace("vertex 2", "vertex two"), "its header is damaged"),
        (HEAD.replace("vertex 2", "vertex"), "its header is damaged"),
        (HEAD.replace("float z", "list uchar int z"), "property 'z' is of kind 'list'"),
        (HEAD.replace("property float z\n", ""), "vertices have no 'z'"),
        (HEAD.replace("float z", "float y"), "property 'y' appears twice"),
        (HEAD.replace("element vertex 2\n", "element face 1\nelement vertex 2\n"), "'face' comes before the vertices"),
        ("ply\nformat ascii 1.0\nend_header\n", "it declares no vertices"),
        (HEAD.replace("vertex 2", "vertex -2"), "an impossible number of 'vertex'"),
        (HEAD.replace("vertex 2", "vertex 99999999999999999999"), "an impossible number of 'vertex'"),
        (HEAD.replace("vertex 2", "vertex " + "9" * 5000), "an impossible number of 'vertex'"),
        (HEAD.replace("vertex 2", "vertex 4000000000000") + "0 0 0\n" * 3, "cut short: 3 of 4000000000000 points"),
        (BINARY.replace("vertex 2", "vertex 4000000000000"), "cut short: 0 of 4000000000000 points"),
        (HEAD.replace("float z", "x" * 9000 + " z"), "property 'z' is of kind 'xxx"),
        (HEAD + "0 0 0\n1e39 1 1\n", "1 of 2 positions are not finite"),
        (HEAD.replace("float x", "double x") + "0 0 0\n1e300 1 1\n", "1 of 2 positions are not finite"),
        (HEAD + "0 0 0\n" + "1" * 3_000_000, "a point is not 3 numbers"),
        (HEAD + " \n\n", "cut short: 0 of 2 points"),
    ],
)
def test_broken_files_raise_a_one_line_message(tmp_path, content, message):
    path = tmp_path / "points3D.ply"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(CaptureError) as caught:
        read_ply(path)
    assert str(caught.value).startswith(f"{path}: not a usable point cloud (")
    assert message in str(caught.value)
    assert str(caught.value).endswith("; write it again as a PLY of vertices")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 200


@pytest.mark.parametrize("content", [BINARY.replace("vertex 2", "vertex 200000000"), HEAD])
@pytest.mark.parametrize("reader", [read_ply, check_ply])
def test_too_many_points_raise_before_they_are_read(tmp_path, content, reader):
    path = tmp_path / "lidar.ply"
    with path.open("wb") as stream:
        stream.write(content.encode())
        stream.truncate(40 << 30)
    with pytest.raises(CaptureError, match=r"MiB of points, more than the limit of 2,048 MiB; thin them"):
        reader(path)


@pytest.mark.parametrize("reader", [read_ply, check_ply])
def test_a_file_that_is_not_regular_raises_immediately(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe.ply")
    (tmp_path / "endless.ply").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        with pytest.raises(CaptureError, match=rf"{name}\.ply: this point file cannot be read \(it is not a regular"):
            reader(tmp_path / f"{name}.ply")


def test_check_ply_finds_a_truncated_file(tmp_path):
    write_ply(cloud(3), tmp_path / "a.ply")
    check_ply(tmp_path / "a.ply")
    content = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(content[:-1])
    with pytest.raises(CaptureError, match="cut short: 2 of 3 points"):
        check_ply(tmp_path / "a.ply")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CaptureError, match=r"gone\.ply: this point file does not exist; restore it"):
        read_ply(tmp_path / "gone.ply")


def write_colored(path, kind, color):
    """Write one point with a color of this type."""
    properties = [f"property float {axis}" for axis in "xyz"]
    properties += [f"property {kind} {channel}" for channel in ("red", "green", "blue")]
    body = " ".join(["1 2 3", *map(str, color)])
    path.write_text("\n".join(["ply", "format ascii 1.0", "element vertex 1", *properties, "end_header", body, ""]))


@pytest.mark.parametrize(
    ("kind", "color", "expected"),
    [
        ("ushort", (86 * 257, 164 * 257, 65_535), [86, 164, 255]),
        ("ushort", (86, 164, 229), [86, 164, 229]),
        ("uint", (22_102, 0, 257), [86, 0, 1]),
        ("float", (86.0, 164.0, 229.0), [86, 164, 229]),
        ("double", (0.0, 0.5, 1.0), [0, 128, 255]),
        ("float", (22_102.0, 0.0, 65_535.0), [86, 0, 255]),
    ],
)
def test_colors_of_any_range_become_bytes(tmp_path, kind, color, expected):
    properties = [f"property float {axis}" for axis in "xyz"] + [
        f"property {kind} {c}" for c in ("red", "green", "blue")
    ]
    lines = [
        "ply",
        "format ascii 1.0",
        "element vertex 1",
        *properties,
        "end_header",
        "1 2 3 " + " ".join(map(str, color)),
    ]
    (tmp_path / "a.ply").write_text("\n".join(lines) + "\n")
    colors = read_ply(tmp_path / "a.ply").colors
    assert colors is not None
    assert colors.tolist() == [expected]


def test_colors_beyond_sixteen_bits_are_refused(tmp_path):
    write_colored(tmp_path / "a.ply", "uint", (70_000, 0, 0))
    with pytest.raises(CaptureError, match="a color of 70000; give 8 or 16 bits"):
        read_ply(tmp_path / "a.ply")


def test_map_coordinates_are_moved_in_double_precision(tmp_path):
    properties = [f"property double {axis}" for axis in "xyz"]
    body = "513000.125 5402000.25 451.5\n"
    lines = ["ply", "format ascii 1.0", "element vertex 1", *properties, "end_header", body]
    (tmp_path / "a.ply").write_text("\n".join(lines))
    transform = ((1.0, 0.0, 0.0, -513_000.0), (0.0, 1.0, 0.0, -5_402_000.0), (0.0, 0.0, 1.0, -452.0))
    assert read_ply(tmp_path / "a.ply", transform).positions.tolist() == [[0.125, 0.25, -0.5]]
