"""The streets of the town as an OpenStreetMap extract, and its geographic origin."""

from xml.etree import ElementTree

from blocknerf.geo import enu_to_geodetic
from blocknerf.town.streets import STREETS

GEO_ORIGIN = (47.5, 9.5, 400.0)
"""Latitude, longitude (degrees) and altitude (m) of the town's origin; arbitrary."""


def to_degrees(x: float, y: float) -> tuple[float, float]:
    """Return latitude and longitude of a point of the town (m), rounded to a tenth of a millimeter."""
    latitude, longitude = enu_to_geodetic(x, y, GEO_ORIGIN)
    return round(latitude, 9), round(longitude, 9)


def osm_xml() -> str:
    """Return OpenStreetMap XML with one way per street; crossing streets share a node."""
    root = ElementTree.Element("osm", version="0.6", generator="blocknerf sample")
    points = sorted({point for street in STREETS for point in street.points})
    low, high = to_degrees(*map(min, zip(*points, strict=True))), to_degrees(*map(max, zip(*points, strict=True)))
    bounds = {"minlat": low[0], "minlon": low[1], "maxlat": high[0], "maxlon": high[1]}
    ElementTree.SubElement(root, "bounds", {key: f"{value:.9f}" for key, value in bounds.items()})
    for number, point in enumerate(points, 1):
        latitude, longitude = to_degrees(*point)
        attributes = {"id": str(number), "version": "1", "lat": f"{latitude:.9f}", "lon": f"{longitude:.9f}"}
        ElementTree.SubElement(root, "node", attributes)
    for number, street in enumerate(STREETS, 101):
        way = ElementTree.SubElement(root, "way", id=str(number), version="1")
        for point in street.points:
            ElementTree.SubElement(way, "nd", ref=str(points.index(point) + 1))
        ElementTree.SubElement(way, "tag", k="highway", v=street.highway)
        ElementTree.SubElement(way, "tag", k="name", v=street.name)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
