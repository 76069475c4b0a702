"""Find fonts for a text: DejaVu Sans, which Matplotlib brings along, and the system's for what it lacks.

DejaVu Sans has Latin (isiZulu and Venda too), Greek, Cyrillic, Arabic, Hebrew and many signs, but no Chinese,
Japanese or Korean and few emoji. Nothing is downloaded.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path

# Of fonts that cover much, by their files' names; they are looked into first.
_LIKELY = re.compile(
    r"noto.*cjk|sourcehan|wqy|droid.*fallback|ipa[gm]|takao|vl-gothic|unifont|arial ?uni|pingfang|hiragino"
    r"|yugoth|msgothic|meiryo|msyh|simsun|malgun|gulim|batang|noto|symbola|freesans",
    re.IGNORECASE,
)
# Whose glyphs are pictures in colour, which neither a plot nor a PDF of ours draws, or only boxes.
_UNFIT = re.compile(r"color|emoji\.tt|seguiemj|lastresort|adobeblank|variable|\[", re.IGNORECASE)
_MOST_FILES = 300  # that are looked into


def dejavu(bold: bool = False) -> Path:
    """Return the file of DejaVu Sans that Matplotlib brings along."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name


def lacking(text: str, file: Path | None = None) -> str:
    """Return the characters of `text`, each once, of which the font in `file` (DejaVu Sans) has no glyph.

    Spaces, and marks that have no picture of their own (joiners, variation selectors), are not counted.
    """
    glyphs = characters(file or dejavu())
    found = dict.fromkeys(text)
    return "".join(sign for sign in found if sign not in glyphs and not _is_invisible(sign))


def for_text(text: str) -> list[Path]:
    """Return the system's fonts that together have what DejaVu Sans lacks of `text`, as far as they go."""
    missing, chosen = set(lacking(text)), []
    if not missing:
        return []
    for file in system_fonts():
        found = missing & characters(file)
        if found:
            chosen.append(file)
            missing -= found
        if not missing:
            break
    return chosen


@functools.cache
def system_fonts() -> tuple[Path, ...]:
    """Return the files of the machine's fonts, those that cover much first; at most 300."""
    from matplotlib import font_manager

    paths = {Path(name) for name in font_manager.findSystemFonts() if not _UNFIT.search(Path(name).name)}
    regular_first = sorted(paths, key=lambda path: ("regular" not in path.name.lower(), path.name))
    return tuple(sorted(regular_first, key=lambda path: not _LIKELY.search(path.name))[:_MOST_FILES])


@functools.lru_cache(maxsize=2 * _MOST_FILES)
def characters(file: Path) -> frozenset[str]:
    """Return the characters that have a glyph in a font's first face; none of a file that can't be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(str(file)).get_charmap()))
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def scripts(signs: Iterable[str]) -> str:
    """Name what characters are, by the first words of their Unicode names: "hiragana, katakana"."""
    import unicodedata

    names = (unicodedata.name(sign, "unnamed").split()[0].split("-")[0].lower() for sign in signs)
    return ", ".join(sorted(set(names)))


def _is_invisible(sign: str) -> bool:
    import unicodedata

    return sign.isspace() or unicodedata.category(sign) in ("Cc", "Cf") or "\ufe00" <= sign <= "\ufe0f"
