"""Prepare texts for a PDF, whose fonts draw one glyph a character from left to right and know no more.

- Arabic letters are joined: each is replaced by the form that it has in its place (Unicode's presentation
  forms). Lines with Arabic or Hebrew are put into the order in which they are seen.
- A character that no font of the machine has is replaced by a box, an emoji by its name in brackets. So are
  letters of scripts that need more shaping than this, as those of India do. `PdfText` remembers what was
  replaced, so that the document says it.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from kwela import fonts, terminal

BOX = "□"
_JOINERS = re.compile("[\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_ARABIC_LETTER = re.compile(
    "[\u0620-\u064a\u066e-\u06d3\u06d5\u06ee-\u06ef\u06fa-\u06ff\u0750-\u077f\u08a0-\u08c9]"
)
# Syriac, Thaana and N'Ko; India's scripts and Sinhala; Tibetan and Burmese; Khmer and Mongolian.
_NEEDS_SHAPING = re.compile("[\u0700-\u07ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\ua840-\uabff]")
_LAM = "\u0644"
_MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")


class PdfText:
    """The texts of one document. system_fonts: the files that are used beside DejaVu Sans."""

    def __init__(self, system_fonts: Sequence[Path]) -> None:
        self._glyphs = fonts.characters(fonts.dejavu()) | frozenset("{}")
        for file in system_fonts:
            self._glyphs |= fonts.characters(file)
        self.replaced: dict[str, None] = {}  # characters for which a box stands

    def shown(self, text: str) -> str:
        """Return `text` in logical order, Arabic letters joined, with characters that can be drawn."""
        text = unicodedata.normalize("NFC", _JOINERS.sub("", terminal.printable(text)))
        return "".join(map(self._drawable, join_arabic(text, self._glyphs)))

    def _drawable(self, sign: str) -> str:
        unjoined = _ARABIC_LETTER.match(sign) is not None and sign not in _forms()
        if sign.isspace() or (sign in self._glyphs and not unjoined and not _NEEDS_SHAPING.match(sign)):
            return sign
        if unicodedata.category(sign) == "So" and (name := unicodedata.name(sign, "")):
            if name.startswith("REGIONAL INDICATOR"):
                return name[-1]
            return f"[{name.lower()}]"
        if unicodedata.category(sign) == "Sk" and ord(sign) >= 0x1F3FB:  # the colour of an emoji's skin
            return ""
        self.replaced[sign] = None
        return BOX


def in_visual_order(line: str) -> str:
    """Return one line of text in the order in which it is seen, its first character leftmost."""
    if not _RIGHT_TO_LEFT.search(line):
        return line
    from fpdf.bidi import BidiParagraph

    return "".join(
        sign.character.translate(_MIRRORED) if sign.embedding_level % 2 else sign.character
        for sign in BidiParagraph(line).get_reordered_characters()
    )


def is_right_to_left(text: str) -> bool:
    """Return whether some letters of `text` run from right to left."""
    return _RIGHT_TO_LEFT.search(text) is not None


def join_arabic(text: str, glyphs: frozenset[str]) -> str:
    """Return `text` with Arabic letters in the forms that they take beside their neighbours.

    glyphs: the characters that can be drawn; another form is not taken. Marks above and below letters do not
    separate them. Lam and alef become one sign, as Unicode's ligatures have them.
    """
    if not _ARABIC_LETTER.search(text):
        return text
    letters = [(at, sign) for at, sign in enumerate(text) if unicodedata.category(sign) != "Mn"]
    out = list(text)
    for number, (at, sign) in enumerate(letters):
        before = letters[number - 1][1] if number else ""
        after = letters[number + 1][1] if number + 1 < len(letters) else ""
        if before == _LAM and _LAM + sign in _forms():
            out[at] = ""  # part of the ligature
            continue
        key = sign
        if sign == _LAM and _LAM + after in _forms():
            key, after = _LAM + after, ""
        forms = _forms().get(key, {})
        joins_before, joins_after = _joins_on(before), bool(after) and "final" in _forms().get(after, {})
        names = {(True, True): "medial", (True, False): "final", (False, True): "initial"}
        for name in (names.get((joins_before, joins_after)), "final" if joins_before else None, "isolated"):
            if name in forms and forms[name] in glyphs:
                out[at] = forms[name]
                break
    return "".join(out)


def _joins_on(sign: str) -> bool:
    """Return whether a letter joins the one after it: it has a form for the beginning of a word."""
    return "initial" in _forms().get(sign, {}) or sign == "\u0640"


@functools.cache
def _forms() -> dict[str, dict[str, str]]:
    """Return the presentation forms: letter, or lam and alef -> {"isolated" ...: the form}."""
    forms: dict[str, dict[str, str]] = {}
    for code in (*range(0xFB50, 0xFBB2), *range(0xFBD3, 0xFC00), *range(0xFE80, 0xFEFD)):
        kind, *letters = unicodedata.decomposition(chr(code)).split() or [""]
        word = "".join(chr(int(letter, 16)) for letter in letters)
        if len(word) == 1 or (len(word) == 2 and word[0] == _LAM and code >= 0xFEF5):
            forms.setdefault(word, {})[kind.strip("<>")] = chr(code)
    return forms
