"""Fuzz targets for user input files: captures, camera paths, blocks, points and maps."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import ExifTags, Image

from blocknerf.cameras import look_at
from blocknerf.capture.points import PointCloud, read_ply, write_ply
from blocknerf.city.manifest import City
from blocknerf.images import write_image
from blocknerf.importers.recognition import load_source
from blocknerf.partitioning.blocks_file import read_blocks
from blocknerf.partitioning.street_map import read_streets
from blocknerf.sfm.exif import read_record
from blocknerf.town.osm_writer import GEO_ORIGIN, osm_xml
from blocknerf.trajectory.trajectory import Trajectory
from blocknerf.trajectory.trajectory_file import read_trajectory, write_camera_path, write_trajectory
from tests.fuzzing.mutations import encoded, mutated_bytes, mutated_words
from tests.fuzzing.targets import HEIGHT, WIDTH, Target, json_target, use_capture, use_city
from tests.importers import sources

COLMAP_WORDS = ("#", "1", "-1", "nan", "inf", "1e999", "9" * 400, "PINHOLE", "OPENCV", "../x", "\n")
COLORS = ("red", "green", "blue")
PLY_WORDS = ("list", "double", "int", "ascii", "binary_big_endian", "vertex", "end_header", "x", "element vertex 9\n")
XML_WORDS = ("<!-- a", "&a;", "&#0;", "<tag k='highway' v='primary'/>", "<node id='1'/>", "<way>", "motorway")
XML_ENCODINGS = ("klingon", "utf-16", "utf-7", "rot13", "", "hex")
XML_DECLARATIONS = (
    *(f'<?xml version="1.0" encoding="{name}"?>\n'.encode() for name in XML_ENCODINGS),
    b'<?xml version="9.0"?>\n',
    b'<!DOCTYPE osm [<!ENTITY a "' + b"x" * 1000 + b'"><!ENTITY b "' + b"&a;" * 1000 + b'">]>\n',
    b'<!DOCTYPE osm [<!ENTITY a SYSTEM "file:///etc/hostname">]>\n',
    b"\xef\xbb\xbf", b"\xff\xfe", b"BZh9", b"\x1f\x8b\x08\x00",
)  # fmt: skip


def transforms_nerfstudio(folder: Path) -> Target:
    intrinsics = {"fl_x": 10.0, "fl_y": 11.0, "cx": 6.5, "cy": 4.0, "w": WIDTH, "h": HEIGHT, "k1": 0.01}
    return _transforms(
        folder, {**intrinsics, "camera_model": "OPENCV", "applied_transform": [[1, 0, 0, 0]], "source": "x"}
    )


def transforms_instant_ngp(folder: Path) -> Target:
    return _transforms(folder, {"camera_angle_x": 1.1, "aabb_scale": 4, "scale": 1.0, "offset": [0.5, 0.5, 0.5]})


def _transforms(folder: Path, intrinsics: dict[str, Any]) -> Target:
    frames: list[dict[str, Any]] = []
    for i in range(3):
        write_image(folder / "capture" / "images" / f"{i}.png", np.full((HEIGHT, WIDTH, 3), 60 * i, np.uint8))
        pose = [[1.0, 0.0, 0.0, float(i)], [0.0, 0.0, -1.0, 2.0], [0.0, 1.0, 0.0, 1.5], [0.0, 0.0, 0.0, 1.0]]
        frames.append({"file_path": f"images/{i}.png", "transform_matrix": pose})
    write_image(folder / "capture" / "mask.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
    write_ply(PointCloud(positions=np.eye(3, dtype=np.float32)), folder / "capture" / "points.ply")
    frames[0] |= {"sequence_id": "a", "camera_id": 2, "timestamp": 1317042145.9, "gps": [49.0, 8.4, 120]}
    frames[1] |= {"mask_path": "mask.png", "exposure_time": 0.001, "iso": 100, "grayscale": True, "sharpness": 30.0}
    metadata = {"unit": "meter", "gps_origin_lat_lon_alt": [49.0, 8.4, 116], "ply_file_path": "points.ply"}
    path = folder / "capture" / "transforms.json"
    path.write_text(json.dumps({**intrinsics, **metadata, "frames": frames}))
    return json_target(path, lambda: use_capture(load_source(path), folder))


def colmap_binary(folder: Path) -> Target:
    return _colmap(folder, "images.bin")


def colmap_points(folder: Path) -> Target:
    return _colmap(folder, "points3D.bin")


def colmap_cameras(folder: Path) -> Target:
    return _colmap(folder, "cameras.txt")


def colmap_text(folder: Path) -> Target:
    return _colmap(folder, "images.txt")


def _colmap(folder: Path, name: str) -> Target:
    """Return the target of one part of a COLMAP model."""
    sources.write_images(folder / "images")
    sources.write_colmap(folder / "sparse" / "0", text=name.endswith(".txt"))
    path = folder / "sparse" / "0" / name
    contents = mutated_bytes(path.read_bytes())
    if name.endswith(".txt"):
        contents |= mutated_words(path.read_text(), COLMAP_WORDS).flatmap(encoded)
    return Target(path=path, read=lambda: _use_source(path, folder), contents=contents)


def opensfm(folder: Path) -> Target:
    sources.write_images(folder / "images")
    sources.write_opensfm(folder / "opensfm")
    path = folder / "opensfm" / "reconstruction.json"
    return json_target(path, lambda: _use_source(path, folder))


def metashape(folder: Path) -> Target:
    sources.write_images(folder / "images")
    sources.write_metashape(folder / "export" / "cameras.xml")
    path = folder / "export" / "cameras.xml"
    contents = mutated_words(path.read_text(), XML_WORDS).flatmap(encoded) | mutated_bytes(path.read_bytes())
    return Target(path=path, read=lambda: _use_source(path, folder), contents=contents)


def polycam(folder: Path) -> Target:
    sources.write_polycam(folder / "scan", corrected=True)
    path = folder / "scan" / "keyframes" / "corrected_cameras" / "101.json"
    return replace(json_target(path, lambda: _use_source(folder / "scan", folder)), source=folder / "scan")


def record3d(folder: Path) -> Target:
    sources.write_record3d(folder / "scan")
    path = folder / "scan" / "metadata.json"
    return json_target(path, lambda: _use_source(folder / "scan", folder))


def _use_source(path: Path, folder: Path) -> None:
    use_capture(load_source(path, work=folder / "work"), folder)


def trajectory_json(folder: Path) -> Target:
    path = folder / "video" / "trajectory.json"
    write_trajectory(_video(), path)
    return json_target(path, lambda: _use_trajectory(read_trajectory(path), folder))


def camera_path_nerfstudio(folder: Path) -> Target:
    path = folder / "video" / "camera_path.json"
    write_camera_path(_video(), path)
    return json_target(path, lambda: _use_trajectory(read_trajectory(path), folder))


def _video() -> Trajectory:
    eyes = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.5, 1.25], [2.0, 1.0, 1.5]])
    poses = look_at(eyes, torch.tensor([[5.0, 9.0, 0.0]]).expand(3, 3))
    return Trajectory(camera_to_world=poses, focals=torch.tensor([80.0, 90.0, 100.0]), width=96, height=54, fps=12.0)


def _use_trajectory(video: Trajectory, folder: Path) -> None:
    assert video.cameras.camera_to_world.isfinite().all()
    assert np.isfinite([video.length, video.seconds]).all()
    copy = folder / "copy" / "trajectory.json"
    write_trajectory(video, copy)
    assert torch.equal(read_trajectory(copy).camera_to_world, video.camera_to_world)


def blocks_plain(folder: Path) -> Target:
    entries = [{"name": "plaza", "origin": [1, 2, 3], "radius": 4}, {"origin": [5.5, 6]}]
    return _blocks(folder, {"blocks": entries})


def blocks_geojson(folder: Path) -> Target:
    ring = [[9.5, 47.5], [9.501, 47.5], [9.501, 47.501], [9.5, 47.5]]
    point = {"type": "Point", "coordinates": [9.5, 47.5, 400]}
    features = [
        {"type": "Feature", "geometry": point, "properties": {"name": "a", "radius": 5}},
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": None},
    ]
    crs = {"type": "name", "properties": {"name": "local"}}
    return _blocks(folder, {"type": "FeatureCollection", "crs": crs, "features": features})


def _blocks(folder: Path, document: dict[str, Any]) -> Target:
    path = folder / "input" / "blocks.json"
    path.parent.mkdir()
    path.write_text(json.dumps(document))

    def read() -> None:
        use_city(City(blocks=tuple(read_blocks(path, radius=7.0, height=1.5, geo_origin=GEO_ORIGIN))), folder)

    return json_target(path, read)


def points_binary(folder: Path) -> Target:
    path = folder / "points.ply"
    write_ply(PointCloud(positions=np.eye(3, dtype=np.float32), colors=np.eye(3, dtype=np.uint8)), path)
    content = path.read_bytes()
    end = content.index(b"end_header\n")
    header = mutated_words(content[:end].decode(), PLY_WORDS).flatmap(encoded).map(lambda text: text + content[end:])
    return Target(path=path, read=lambda: _use_points(path), contents=header | mutated_bytes(content))


def points_ascii(folder: Path) -> Target:
    path = folder / "points.ply"
    lines = ["ply", "format ascii 1.0", "comment a", "element vertex 3"]
    lines += [f"property float {axis}" for axis in "xyz"] + [f"property uchar {name}" for name in COLORS]
    lines += ["element face 0", "property list uchar int vertex_indices", "end_header"]
    path.write_text("\n".join([*lines, "0 0 1 255 0 0", "0 1.5 0 0 9 0", "1e1 -2 0 3 2 1", ""]))
    words = mutated_words(path.read_text(), PLY_WORDS).flatmap(encoded)
    return Target(path=path, read=lambda: _use_points(path), contents=words | mutated_bytes(path.read_bytes()))


def photo_exif(folder: Path) -> Target:
    path = folder / "photo.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    entries = {"ExposureTime": 0.01, "ISOSpeedRatings": 100, "DateTimeOriginal": "2026:01:02 03:04:05"}
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base[key]: value for key, value in entries.items()})
    position = {"GPSLatitudeRef": "N", "GPSLatitude": (49.0, 1.0, 2.0), "GPSLongitudeRef": "E", "GPSAltitude": 120.0}
    position["GPSLongitude"] = (8.0, 3.0, 4.0)
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({ExifTags.GPS[key]: value for key, value in position.items()})
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(path, exif=exif)
    return Target(path=path, read=lambda: _use_record(path), contents=mutated_bytes(path.read_bytes()))


def _use_record(path: Path) -> None:
    record = read_record(path)
    numbers = (record.focal, record.exposure, record.timestamp, record.gps_error, *(record.gps or ()))
    assert np.isfinite([number for number in numbers if number is not None]).all()
    assert all(number > 0 for number in (record.focal, record.exposure, record.gps_error) if number is not None)
    assert record.up in {(0, -1, 0), (0, 1, 0), (-1, 0, 0), (1, 0, 0)}


def _use_points(path: Path) -> None:
    cloud = read_ply(path)
    assert np.isfinite(cloud.positions).all()
    assert cloud.colors is None or len(cloud.colors) == len(cloud)


def street_map_osm(folder: Path) -> Target:
    path = folder / "town.osm"
    path.write_text(osm_xml())
    xml = mutated_words(osm_xml(), XML_WORDS).flatmap(encoded)
    with_declaration = st.sampled_from(XML_DECLARATIONS).map(lambda line: line + osm_xml().partition("\n")[2].encode())
    return Target(
        path=path,
        read=lambda: _use_streets(path),
        contents=st.one_of(xml, xml, with_declaration, mutated_bytes(path.read_bytes())),
    )


def _use_streets(path: Path) -> None:
    network = read_streets(path, GEO_ORIGIN)
    assert np.isfinite(network.nodes).all()
    assert all(np.isfinite(street.line).all() for street in network.streets)


INPUTS = (
    transforms_nerfstudio,
    transforms_instant_ngp,
    colmap_binary,
    colmap_points,
    colmap_cameras,
    colmap_text,
    opensfm,
    metashape,
    polycam,
    record3d,
    trajectory_json,
    camera_path_nerfstudio,
    blocks_plain,
    blocks_geojson,
    points_binary,
    points_ascii,
    photo_exif,
    street_map_osm,
)
