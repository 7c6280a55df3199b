"""What to do with a file or folder that no importer reads."""

from collections import Counter
from itertools import islice
from pathlib import Path

from blocknerf.capture.image_files import IMAGE_SUFFIXES, UNSUPPORTED_SUFFIXES
from blocknerf.errors import CaptureError
from blocknerf.files import open_regular
from blocknerf.values import one_case

SUPPORTED = (
    "a folder of images, a video, a transforms.json, a COLMAP model, an export of OpenSfM, ODM or Metashape, a Polycam "
    "or Record3D folder, or a driving log (docs/captures.md lists all)"
)
"""Sources by name, for messages."""
HEAD_BYTES = 1 << 16
"""Bytes of a file that recognition looks at."""
_POINTS = "holds no images; give the images with their poses, and name the points in ply_file_path of transforms.json"
_SPLAT = "a trained Gaussian splat, which holds no images; give the images and poses that it was trained on"
_MESH = "a mesh, which holds no images; give the images and poses that it was made from"
_ARCHIVE = "an archive; unpack it and give the folder"
_KINDS = {
    **dict.fromkeys((".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"), _ARCHIVE),
    ".r3d": "a Record3D recording; unpack it (it is a ZIP archive) and give the folder",
    **dict.fromkeys((".las", ".laz", ".e57", ".pcd", ".xyz", ".pts"), f"a point cloud, which {_POINTS}"),
    **dict.fromkeys((".splat", ".spz", ".sog", ".ksplat"), _SPLAT),
    **dict.fromkeys((".obj", ".glb", ".gltf", ".fbx", ".stl", ".usdz", ".dae"), _MESH),
    **dict.fromkeys(IMAGE_SUFFIXES, "a single image; give the folder of all images"),
    **dict.fromkeys(UNSUPPORTED_SUFFIXES, "an image of an unsupported format; convert all images to JPEG or PNG"),
    ".pdf": f"a PDF document; give {SUPPORTED}",
    ".db": "a database of COLMAP without a model; run 'colmap mapper' and give the folder of its model",
    **dict.fromkeys((".psx", ".psz"), "a Metashape project; export its cameras (File, Export, Export Cameras) as XML"),
    **dict.fromkeys((".rcproj", ".rsproj"), "a RealityScan project; export its registration as a COLMAP model"),
    **dict.fromkeys((".nvm", ".out"), "a VisualSFM or Bundler file; convert it with 'colmap model_converter'"),
}  # fmt: skip
"""Files by suffix, in a user's words, and the next step."""
_MAGIC = {
    b"PK\x03\x04": ".zip", b"7z\xbc\xaf": ".7z", b"Rar!": ".rar", b"\x1f\x8b": ".gz", b"BZh": ".bz2",
    b"\xfd7zXZ": ".xz", b"(\xb5/\xfd": ".zst", b"%PDF": ".pdf", b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png",
    b"SQLite format 3": ".db", b"LASF": ".las", b"glTF": ".glb",
}  # fmt: skip
"""First bytes of some of these files, whatever their suffix."""
_REALITY_CAPTURE = b"#name,x,y,alt"
MAX_LISTED = 10_000
"""Entries of a folder that are looked at."""


def read_head(path: Path) -> bytes:
    """Return the first bytes of a regular file; none if it cannot be read."""
    try:
        with open_regular(path, "file", CaptureError) as (stream, _):
            return stream.read(HEAD_BYTES)
    except (CaptureError, OSError):
        return b""


def explain(path: Path) -> CaptureError:
    """Return the error for a source that no importer reads: what it is, and the next step."""
    return CaptureError(f"{path}: {_folder(path) if path.is_dir() else _file(path)}")


def _file(path: Path) -> str:
    head, suffix = read_head(path), path.suffix.lower()
    if not path.is_file():
        return f"is not a regular file; give {SUPPORTED}"
    if not head:
        return "is empty or cannot be read; give another file"
    if suffix == ".csv":
        return f"is {_table(head)}"
    if head.startswith(b"ply"):
        return f"is {_SPLAT}" if b"f_dc_0" in head else f"is a point cloud or mesh, which {_POINTS}"
    if suffix == ".json" and _is_splat_cameras(head):
        return "holds the cameras of a Gaussian splat training; give the COLMAP model that it was trained on"
    if suffix == ".xml":
        return "is XML, but not Metashape's cameras; export a COLMAP model or a Metashape XML"
    kind = _KINDS.get(suffix) or next((_KINDS[kind] for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    return f"is {kind}" if kind else f"is not a kind of file that is supported; give {SUPPORTED}"


def _folder(path: Path) -> str:
    entries = sorted(islice(path.iterdir(), MAX_LISTED))
    if not entries:
        return f"the folder is empty; give {SUPPORTED}"
    if any(
        (path / name).exists() for name in ("point_cloud/iteration_30000", "point_cloud/iteration_7000", "cfg_args")
    ):
        return f"the folder of {_SPLAT}"
    suffixes = Counter(entry.suffix.lower() for entry in entries if entry.is_file())
    for suffix in suffixes:
        if suffix in _KINDS:
            file = next(entry for entry in entries if entry.suffix.lower() == suffix)
            return f"{one_case(file.name)} is {_KINDS[suffix]}"
    names = ", ".join(one_case(entry.name) for entry in entries[:3]) + (", ..." if len(entries) > 3 else "")
    return f"holds nothing that is supported ({names}); give {SUPPORTED}"


def _table(head: bytes) -> str:
    """Return the kind of a CSV file."""
    if head.lower().startswith(_REALITY_CAPTURE):
        return "RealityCapture's CSV, which leaves its lens model open; export the registration as a COLMAP model"
    return "a table; read it with an importer of your own (--importer module:function, see docs/captures.md)"


def _is_splat_cameras(head: bytes) -> bool:
    return head.lstrip().startswith(b"[") and b'"img_name"' in head and b'"rotation"' in head
