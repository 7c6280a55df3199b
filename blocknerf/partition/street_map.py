"""Streets from an OpenStreetMap extract, read by osmnx without a network."""

import bz2
import gzip
import importlib.util
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from blocknerf.errors import PlacementError
from blocknerf.files import open_regular
from blocknerf.geo import geodetic_to_enu
from blocknerf.partition.street_network import Line, Street, StreetNetwork, line_length, simplify
from blocknerf.values import first_line

if TYPE_CHECKING:
    from networkx import MultiDiGraph

STREETS = (
    *(road + link for road in ("motorway", "trunk", "primary", "secondary", "tertiary") for link in ("", "_link")),
    *("unclassified", "residential", "living_street", "pedestrian", "road", "service"),
)
"""Values of the tag `highway` that are streets; foot and cycle ways beside them would make every corner two."""
EXCLUDED_SERVICES = ("driveway", "parking", "parking_aisle", "private", "emergency_access", "drive-through")
"""Values of the tag `service` that are no streets."""
JUNCTION_RADIUS = 10.0
"""Nodes of a map whose circles of this radius (m) touch are one junction: two divided roads cross in four nodes."""
MAX_MAP_BYTES = 128 << 20
"""Bytes of a map, unpacked: a hundred square kilometers of a city. Osmnx takes 22 times as much memory to read them,
and one and a half minutes."""

UNPACKERS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    ".bz2": lambda stream: cast(BinaryIO, bz2.BZ2File(stream)),
    ".gz": lambda stream: cast(BinaryIO, gzip.GzipFile(fileobj=stream)),
}


def read_streets(path: Path, geo_origin: tuple[float, float, float]) -> StreetNetwork:
    """The streets of an extract (`.osm` XML, plain or as `.bz2` or `.gz`), in metres east and north of `geo_origin`.

    The nodes of one junction are one place (osmnx: Boeing 2025), and places that are neither an intersection
    nor an end are passed over.

    Raises:
        PlacementError: osmnx is not installed, or the file cannot be read, is too large or holds no street.
    """
    if importlib.util.find_spec("osmnx") is None:
        raise PlacementError("streets: maps need osmnx; install it with: pip install 'osmnx>=2,<3'")
    import osmnx

    graph = _read_graph(path)
    graph.remove_edges_from([edge for *edge, tags in graph.edges(keys=True, data=True) if not _is_street(tags)])
    graph.remove_nodes_from([node for node, degree in dict(graph.degree()).items() if degree == 0])
    if not graph.edges:
        raise PlacementError(f"{path}: holds no streets (ways with a highway tag that cars use); choose another map")
    for node in graph.nodes.values():
        node["x"], node["y"] = geodetic_to_enu(node["x"], node["y"], geo_origin)
    # The same plane as `east_north`, by its name among projections.
    graph.graph["crs"] = f"+proj=ortho +lat_0={geo_origin[0]} +lon_0={geo_origin[1]} +ellps=WGS84"
    return simplify(_network(osmnx.simplify_graph(graph, remove_rings=False)))


def _read_graph(path: Path) -> "MultiDiGraph":
    """Every way of the file as edges of a graph, both ways, in degrees."""
    try:
        with (
            open_regular(path, "street map", PlacementError) as (stream, size),
            tempfile.TemporaryDirectory() as folder,
        ):
            graph = _parsed(path, stream, size, Path(folder))
    except FileNotFoundError:
        raise PlacementError(f"{path}: this street map does not exist; check the path") from None
    for name, node in graph.nodes.items():
        if not (-180.0 <= node["x"] <= 180.0 and -90.0 <= node["y"] <= 90.0):
            place = f"latitude {node['y']}, longitude {node['x']}"
            raise PlacementError(f"{path}: node {name} lies at {place}, which is nowhere on earth; correct the map")
    return graph


def _parsed(path: Path, stream: BinaryIO, size: int, folder: Path) -> "MultiDiGraph":
    """What osmnx makes of a map, which is unpacked into the folder first; whatever fails is one line.

    Raises:
        PlacementError: it is too large, or cannot be read.
    """
    import osmnx

    try:
        plain = _plain(path, stream, size, folder)
        with warnings.catch_warnings():
            # Of files that osmnx itself wrote, which it then reads all the same, and of places that are no numbers.
            warnings.simplefilter("ignore")
            return osmnx.graph_from_xml(plain, bidirectional=True, simplify=False, retain_all=True)
    except PlacementError:
        raise
    except Exception as error:  # Files that are no extract make osmnx and decompressors raise errors of any kind.
        if "missing nodes" in str(error):
            remedy = "its ways refer to nodes that it does not hold or place; cut it from the map with complete ways"
            raise PlacementError(f"{path}: {remedy}") from None
        reason = f"({first_line(error)}); give .osm XML, plain or as .bz2 or .gz"
        raise PlacementError(f"{path}: is not a readable OpenStreetMap extract {reason}") from None


def _plain(path: Path, stream: BinaryIO, size: int, folder: Path) -> Path:
    """The map as a file that is not packed, and that is no larger than is read.

    Raises:
        PlacementError: it is larger.
    """
    unpack = UNPACKERS.get(path.suffix)
    if unpack is None:
        _check_length(path, size)
        return path
    plain, length = folder / "map.osm", 0
    with unpack(stream) as packed, plain.open("wb") as unpacked:
        while piece := packed.read(1 << 20):
            length += len(piece)
            _check_length(path, length)
            unpacked.write(piece)
    return plain


def _check_length(path: Path, length: int) -> None:
    if length > MAX_MAP_BYTES:
        most = f"it is larger than the {MAX_MAP_BYTES >> 20} MiB (unpacked) that are read"
        raise PlacementError(f"{path}: {most}; cut the part around the capture out of it")


def _is_street(tags: dict[str, Any]) -> bool:
    private = tags.get("access") in ("private", "no") or tags.get("service") in EXCLUDED_SERVICES
    return tags.get("highway") in STREETS and tags.get("area") != "yes" and not private


def _network(graph: "MultiDiGraph") -> StreetNetwork:
    """A simplified graph as a network, with each junction one place."""
    import osmnx

    # Without its edges: it would drop a long way that leaves a junction and comes back to it.
    merged = osmnx.consolidate_intersections(graph, tolerance=JUNCTION_RADIUS, dead_ends=True, reconnect_edges=False)
    positions = np.array([[node["x"], node["y"]] for node in merged.nodes.values()], np.float64)
    place_of = {
        node: place
        for place, members in enumerate(dict(merged.nodes(data="osmid_original")).values())
        for node in (members if isinstance(members, list) else [members])
    }
    streets = []
    for first, last, way in _ways(graph):
        ends = (place_of[first], place_of[last])
        line = np.concatenate([positions[ends[0]][None], way, positions[ends[1]][None]])
        # What stays within a junction is part of it.
        if ends[0] != ends[1] or line_length(way) > 4 * JUNCTION_RADIUS:
            streets.append(Street(ends=ends, line=_without_repeats(line)))
    return StreetNetwork(nodes=positions, streets=tuple(streets))


def _ways(graph: "MultiDiGraph") -> list[tuple[int, int, Line]]:
    """Each street once, though the graph has an edge for either direction."""
    ways: dict[tuple[Any, ...], tuple[int, int, Line]] = {}
    for first, last, tags in graph.edges(data=True):
        shape = tags["geometry"].coords if "geometry" in tags else [_position(graph, node) for node in (first, last)]
        line = np.array(shape, np.float64)
        forward = [tuple(vertex) for vertex in line.tolist()]
        ways.setdefault(min(tuple(forward), tuple(forward[::-1])), (first, last, line))
    return list(ways.values())


def _position(graph: "MultiDiGraph", node: int) -> tuple[float, float]:
    return graph.nodes[node]["x"], graph.nodes[node]["y"]


def _without_repeats(line: Line) -> Line:
    moves = np.abs(np.diff(line, axis=0)).max(-1) > 1e-6
    return line[np.concatenate([[True], moves])]
