"""A small font for tests, in place of those that a machine may have."""

from __future__ import annotations

from pathlib import Path


def font_of_boxes(path: Path, characters: str) -> Path:
    """A TrueType font of black boxes for these characters."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 800), (900, 800), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    box, names = pen.glyph(), {ord(sign): f"u{ord(sign):04X}" for sign in characters}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys([".notdef", *names.values()], box))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": f"Kwela Test {path.stem}", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(path)
    return path
