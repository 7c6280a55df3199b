"""Streets from an OpenStreetMap extract, read offline with osmnx."""

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
from blocknerf.partitioning.street_network import Line, Street, StreetNetwork, line_length, simplify
from blocknerf.values import first_line

if TYPE_CHECKING:
    from networkx import MultiDiGraph

ROOT_BYTES = 4096
"""Bytes of a map in which its root element is looked for."""
STREETS = (
    *(road + link for road in ("motorway", "trunk", "primary", "secondary", "tertiary") for link in ("", "_link")),
    *("unclassified", "residential", "living_street", "pedestrian", "road", "service"),
)
"""Values of the tag `highway` that are streets; parallel footways and cycleways would duplicate every corner."""
EXCLUDED_SERVICES = ("driveway", "parking", "parking_aisle", "private", "emergency_access", "drive-through")
"""Values of the tag `service` that are not streets."""
JUNCTION_RADIUS = 10.0
"""Nodes with overlapping circles of this radius (m) are one junction: two divided roads cross in four nodes."""
MAX_MAP_BYTES = 128 << 20
"""Maximum size of an uncompressed map: 100 square kilometers of a city. Osmnx needs 22 times as much memory to read
it, and 90 s."""

DECOMPRESSORS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    ".bz2": lambda stream: cast(BinaryIO, bz2.BZ2File(stream)),
    ".gz": lambda stream: cast(BinaryIO, gzip.GzipFile(fileobj=stream)),
}


def read_streets(path: Path, geo_origin: tuple[float, float, float]) -> StreetNetwork:
    """Read the streets of an extract (`.osm` XML, plain, `.bz2` or `.gz`), in meters east and north of `geo_origin`.

    The nodes of one junction are merged (osmnx: Boeing 2025), and nodes that are neither an intersection nor an end
    are removed.

    Raises:
        PlacementError: osmnx is not installed, or the file is unreadable, too large or without streets.
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
    # The same plane as `geodetic_to_enu`, by its name among projections.
    graph.graph["crs"] = f"+proj=ortho +lat_0={geo_origin[0]} +lon_0={geo_origin[1]} +ellps=WGS84"
    return simplify(_network(osmnx.simplify_graph(graph, remove_rings=False)))


def _read_graph(path: Path) -> "MultiDiGraph":
    """Return every way of the file as edges of a graph, in both directions, in degrees."""
    try:
        with (
            open_regular(path, "street map", PlacementError) as (stream, size),
            tempfile.TemporaryDirectory() as folder,
        ):
            graph = _parse(path, stream, size, Path(folder))
    except FileNotFoundError:
        raise PlacementError(f"{path}: this street map does not exist; check the path") from None
    for name, node in graph.nodes.items():
        if not (-180.0 <= node["x"] <= 180.0 and -90.0 <= node["y"] <= 90.0):
            location = f"latitude {node['y']}, longitude {node['x']}"
            raise PlacementError(f"{path}: node {name} is at {location}, which is not on earth; correct the map")
    return graph


def _parse(path: Path, stream: BinaryIO, size: int, folder: Path) -> "MultiDiGraph":
    """Parse a map with osmnx after decompressing it into the folder; every failure becomes a one-line error.

    Raises:
        PlacementError: the map is too large or unreadable.
    """
    import osmnx

    try:
        xml_path = _decompress(path, stream, size, folder)
        with warnings.catch_warnings():
            # osmnx warns about files it wrote itself but reads them, and about coordinates that are not numbers.
            warnings.simplefilter("ignore")
            return osmnx.graph_from_xml(xml_path, bidirectional=True, simplify=False, retain_all=True)
    except PlacementError:
        raise
    except Exception as error:  # Invalid files make osmnx and decompressors raise errors of any kind.
        if "missing nodes" in str(error):
            hint = "its ways refer to missing nodes; cut it from the map with complete ways"
            raise PlacementError(f"{path}: {hint}") from None
        if "No data elements" in str(error) and _is_osm(xml_path):
            raise PlacementError(f"{path}: holds no streets; cut it from the map with ways and their nodes") from None
        reason = f"({first_line(error)}); give .osm XML, plain or as .bz2 or .gz"
        raise PlacementError(f"{path}: is not a readable OpenStreetMap extract {reason}") from None


def _is_osm(xml_path: Path) -> bool:
    """Return whether an XML file has the root element of OpenStreetMap."""
    with xml_path.open("rb") as stream:
        return b"<osm" in stream.read(ROOT_BYTES)


def _decompress(path: Path, stream: BinaryIO, size: int, folder: Path) -> Path:
    """Return the path of the uncompressed map, checked against the maximum size.

    Raises:
        PlacementError: the map is too large.
    """
    decompress = DECOMPRESSORS.get(path.suffix)
    if decompress is None:
        _check_length(path, size)
        return path
    xml_path, length = folder / "map.osm", 0
    with decompress(stream) as compressed, xml_path.open("wb") as xml:
        while chunk := compressed.read(1 << 20):
            length += len(chunk)
            _check_length(path, length)
            xml.write(chunk)
    return xml_path


def _check_length(path: Path, length: int) -> None:
    if length > MAX_MAP_BYTES:
        reason = f"it is larger than the maximum of {MAX_MAP_BYTES >> 20} MiB (uncompressed)"
        raise PlacementError(f"{path}: {reason}; cut out the part around the capture")


def _is_street(tags: dict[str, Any]) -> bool:
    private = tags.get("access") in ("private", "no") or tags.get("service") in EXCLUDED_SERVICES
    return tags.get("highway") in STREETS and tags.get("area") != "yes" and not private


def _network(graph: "MultiDiGraph") -> StreetNetwork:
    """Return a simplified graph as a network with each junction merged to one node."""
    import osmnx

    # Without reconnecting edges: that would drop a long way that leaves a junction and returns to it.
    merged = osmnx.consolidate_intersections(graph, tolerance=JUNCTION_RADIUS, dead_ends=True, reconnect_edges=False)
    positions = np.array([[node["x"], node["y"]] for node in merged.nodes.values()], np.float64)
    node_of = {
        node: index
        for index, members in enumerate(dict(merged.nodes(data="osmid_original")).values())
        for node in (members if isinstance(members, list) else [members])
    }
    streets = []
    for first, last, interior in _unique_streets(graph):
        ends = (node_of[first], node_of[last])
        line = np.concatenate([positions[ends[0]][None], interior, positions[ends[1]][None]])
        # A short way within a junction is part of it.
        if ends[0] != ends[1] or line_length(interior) > 4 * JUNCTION_RADIUS:
            streets.append(Street(ends=ends, line=_drop_repeats(line)))
    return StreetNetwork(nodes=positions, streets=tuple(streets))


def _unique_streets(graph: "MultiDiGraph") -> list[tuple[int, int, Line]]:
    """Return each street once; the graph has an edge per direction."""
    ways: dict[tuple[Any, ...], tuple[int, int, Line]] = {}
    for first, last, tags in graph.edges(data=True):
        coords = tags["geometry"].coords if "geometry" in tags else [_position(graph, node) for node in (first, last)]
        line = np.array(coords, np.float64)
        forward = [tuple(vertex) for vertex in line.tolist()]
        ways.setdefault(min(tuple(forward), tuple(forward[::-1])), (first, last, line))
    return list(ways.values())


def _position(graph: "MultiDiGraph", node: int) -> tuple[float, float]:
    return graph.nodes[node]["x"], graph.nodes[node]["y"]


def _drop_repeats(line: Line) -> Line:
    moves = np.abs(np.diff(line, axis=0)).max(-1) > 1e-6
    return line[np.concatenate([[True], moves])]
