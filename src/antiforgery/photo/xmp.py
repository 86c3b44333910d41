"""XMP packets: what must change when a photo is written anew, and the mark of our outputs.

The mark is one statement in our own namespace. All kinds that are written here can carry XMP, so
one mark serves them all, and the person's other statements stay. Follows ISO 16684-1.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from antiforgery.photo.previews import holds_picture

_MARK = "urn:antiforgery:output:1"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_ADOBE, _GOOGLE = "http://ns.adobe.com/", "http://ns.google.com/photos/1.0/"
_XMP, _TIFF, _EXIF = f"{_ADOBE}xap/1.0/", f"{_ADOBE}tiff/1.0/", f"{_ADOBE}exif/1.0/"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_PREVIEW = "the XMP preview"
_PREVIEWS = {
    f"{_ADOBE}xap/1.0/g/img/": _PREVIEW,
    f"{_GOOGLE}image/": _PREVIEW,
    f"{_ADOBE}hdr-gain-map/1.0/": "the HDR gain map",
    "http://ns.apple.com/HDRGainMap/1.0/": "the HDR gain map",
    "http://ns.apple.com/pixeldatainfo/1.0/": "the HDR gain map",
    f"{_GOOGLE}camera/": "the motion photo's or gain map's description",
    f"{_GOOGLE}container/": "the motion photo's or gain map's description",
    f"{_GOOGLE}container/item/": "the motion photo's or gain map's description",
    f"{_GOOGLE}depthmap/": "the depth map",
    f"{_ADOBE}xmp/note/": "the pointer to extended XMP",
}
_EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"></rdf:RDF></x:xmpmeta>'
_MAX_DEPTH = 100
"""Real packets have about ten levels; the writer of the standard library recurses."""

_Node = minidom.Element | minidom.Attr


def settle(packet: bytes, size: tuple[int, int]) -> tuple[bytes, tuple[str, ...]]:
    """XMP for an upright picture of this size that shows no other picture.

    Args:
        packet: the packet as the file holds it.
        size: width and height of the upright picture.

    Returns:
        The new packet, and what was taken out of it, in words.

    Raises:
        ValueError: the packet is damaged, so nobody can tell what it shows.
    """
    document = _parse(packet)
    dropped = dict.fromkeys(_drop_previews(document))
    _set_facts(document, size)
    settled = _bytes(document)
    if holds_picture(settled):
        raise ValueError("a picture in an unknown place")
    return settled, tuple(dropped)


def mark(packet: bytes | None) -> bytes:
    """The packet, or a new one, with the mark of our outputs.

    Raises:
        ValueError: the packet is damaged.
    """
    if packet is not None and is_marked(packet):
        return packet
    document = _parse(packet or _EMPTY.encode())
    roots = document.getElementsByTagNameNS(_RDF, "RDF")
    if not roots:
        return mark(None)
    statement = document.createElementNS(_RDF, "rdf:Description")
    statement.setAttribute("xmlns:rdf", _RDF)
    statement.setAttribute("rdf:about", "")
    statement.setAttribute("xmlns:antiforgery", _MARK)
    statement.setAttribute("antiforgery:changed", "True")
    roots[0].appendChild(statement)
    return _bytes(document)


def simulation(description: str) -> bytes:
    """A packet that says in the IPTC's term that a trained algorithm made part of the picture."""
    document = _parse(_EMPTY.encode())
    statement = document.createElementNS(_RDF, "rdf:Description")
    for name, value in (
        ("xmlns:rdf", _RDF),
        ("rdf:about", ""),
        ("xmlns:Iptc4xmpExt", _IPTC),
        ("Iptc4xmpExt:DigitalSourceType", _COMPOSITE),
        ("xmlns:photoshop", f"{_ADOBE}photoshop/1.0/"),
        ("photoshop:Headline", description),
    ):
        statement.setAttribute(name, value)
    document.getElementsByTagNameNS(_RDF, "RDF")[0].appendChild(statement)
    return _bytes(document)


def is_marked(packet: bytes) -> bool:
    """Whether the packet carries the mark of our outputs."""
    return _MARK.encode() in packet


def _parse(packet: bytes) -> minidom.Document:
    text = packet.strip(b"\0 \t\r\n").removeprefix(b"\xef\xbb\xbf")
    if b"<!DOCTYPE" in text or b"\0" in text:
        raise ValueError("a document type, which XMP forbids, or an encoding that could hide one")
    try:
        document = minidom.parseString(text)  # noqa: S318 - entities need a document type
    except (ExpatError, LookupError, UnicodeError) as error:
        raise ValueError("not XML") from error
    level: list[minidom.Node] = [document]
    for _ in range(_MAX_DEPTH):
        level = [child for node in level for child in node.childNodes]
        if not level:
            return document
    raise ValueError("elements nested too deep")


def _bytes(document: minidom.Document) -> bytes:
    return "".join(node.toxml() for node in document.childNodes).encode()


def _drop_previews(document: minidom.Document) -> Iterator[str]:
    for element in list(document.getElementsByTagName("*")):
        for attribute in list((element.attributes or {}).values()):
            if word := _word(attribute, attribute.value):
                element.removeAttributeNode(attribute)
                yield word
        own = "".join(node.data for node in element.childNodes if node.nodeType == node.TEXT_NODE)
        word = _word(element, own)
        if word and element.parentNode:
            element.parentNode.removeChild(element)
            yield word


def _word(node: _Node, text: str) -> str | None:
    if node.namespaceURI == _XMP and node.localName == "Thumbnails":
        return _PREVIEW
    if holds_picture(text.encode()):
        return _PREVIEW
    return _PREVIEWS.get(node.namespaceURI or "")


def _set_facts(document: minidom.Document, size: tuple[int, int]) -> None:
    facts = {
        (_TIFF, "Orientation"): "1",
        (_TIFF, "ImageWidth"): str(size[0]),
        (_TIFF, "ImageLength"): str(size[1]),
        (_EXIF, "PixelXDimension"): str(size[0]),
        (_EXIF, "PixelYDimension"): str(size[1]),
    }
    for (namespace, name), value in facts.items():
        for element in document.getElementsByTagName("*"):
            if attribute := element.getAttributeNodeNS(namespace, name):
                attribute.value = value
        for element in document.getElementsByTagNameNS(namespace, name):
            for child in list(element.childNodes):
                element.removeChild(child)
            element.appendChild(document.createTextNode(value))
