"""Lay a document out as PDF: A4 with page numbers; headings stay with what they head, table rows are whole.

fpdf2's `write_html` was tried and not taken: it leaves headings alone at the foot of a page, and gives all
columns of a table one width unless each has been computed as here.

Fonts are DejaVu Sans and, for what it lacks, the system's. What no font has is replaced, and a note on the
first page says so and where the text is whole (`pdf_text.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from kwela import fonts
from kwela.campaign.report.blocks import Block, Picture, Table, Text, Title
from kwela.campaign.report.pdf_text import PdfText, in_visual_order, is_right_to_left
from kwela.errors import UserError

FONT = "DejaVu"  # which has the arrows and inequalities that the report uses
# Millimetres.
MARGIN = 18
HIGHEST_PICTURE = 150
LEAST_BELOW_TITLE = 60  # that must be free on a page from the top of a title on
LEAST_BELOW_TITLES = 75  # the same of a title that another follows
LONGEST_CELL = 400  # characters: a row must fit on a page
WIDEST_COLUMN, NARROWEST_COLUMN = 48, 10  # characters that count
PAGES = "{number of pages}"  # what fpdf2 replaces by it; "{nb}", its own word, may stand in a prompt
TITLE_SIZES = {1: 18, 2: 13}  # points, by level
EMOJI = {"✅": "[met]", "❌": "[missed]", "🟡": "[?]", "⚠️": "[!]", "⏸": "[hold]", "🚨": "[flag]"}


def pdf_bytes(blocks: Sequence[Block]) -> bytes:
    """Return the document as PDF.

    Raises UserError without fpdf2, and whatever fpdf2 raises for a page or a picture that it can't lay out.
    """
    files = fonts.for_text("".join(set("".join(_texts(blocks))) - set("".join(EMOJI))))
    try:
        return _laid_out(blocks, files)
    except (UserError, ValueError):
        raise
    except Exception:  # a font of the system can break fontTools in many ways
        if not files:
            raise
        return _laid_out(blocks, [])


def _laid_out(blocks: Sequence[Block], system_fonts: Sequence[Path]) -> bytes:
    page = _Page(system_fonts)
    shown = [page.replace_unprintable(block) for block in blocks]
    if page.text.replaced:  # below what the document begins with
        first_text = next((at for at, block in enumerate(shown) if isinstance(block, Text)), -1)
        shown.insert(first_text + 1, Text(_note(page.text.replaced)))
    for block, next_block in pairwise([*shown, None]):
        if isinstance(block, Title):
            _add_title(page, block, next_block)
        elif isinstance(block, Text):
            _add_text(page, block)
        elif isinstance(block, Picture):
            _add_picture(page, block)
        elif isinstance(block, Table):
            _add_table(page, block)
    return bytes(page.pdf.output())


def _texts(blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Table):
            yield from (cell for row in (block.head, *block.rows) for cell in row)
        else:
            yield block.caption if isinstance(block, Picture) else block.text


def _note(replaced: Iterable[str]) -> str:
    """Say which characters the document could not show, and where they stand."""
    signs = "".join(replaced)
    return (
        f"Note: this machine has no font that shows {len(signs)} characters of this report "
        f"({fonts.scripts(signs)}); a box stands for each, here and in pictures. The text is whole in the "
        "Markdown and the HTML beside this file. With such a font installed (on Debian and Ubuntu: "
        "fonts-noto-cjk, fonts-noto), kwela campaign report shows them."
    )


class _Page:
    """fpdf2's document with its first page and its fonts, and the texts that it can show."""

    def __init__(self, system_fonts: Sequence[Path]) -> None:
        try:
            from fpdf import FPDF
        except ImportError:
            raise UserError(
                "the PDF needs fpdf2: pip install 'kwela[report]' (the other two pages are written)"
            ) from None

        class NumberedPages(FPDF):
            def footer(self) -> None:
                self.set_y(-12)
                self.set_font(FONT, size=8)
                self.cell(0, 5, f"{self.page_no()} / {PAGES}", align="C")

        self.pdf: Any = NumberedPages(format="A4")
        self.pdf.alias_nb_pages(PAGES)
        self.pdf.set_auto_page_break(True, margin=MARGIN)
        self.pdf.add_font(FONT, "", fonts.dejavu())
        self.pdf.add_font(FONT, "B", fonts.dejavu(bold=True))
        names = [f"system{number}" for number in range(len(system_fonts))]
        for name, file in zip(names, system_fonts, strict=True):
            self.pdf.add_font(name, "", file)
        if names:
            self.pdf.set_fallback_fonts(names, exact_match=False)
        self.pdf.add_page()
        self.text = PdfText(system_fonts)

    def replace_unprintable(self, block: Block) -> Block:
        """Return the block with texts that can be drawn, in logical order."""
        if isinstance(block, Table):
            head, *rows = ([self._cell(cell) for cell in row] for row in (block.head, *block.rows))
            return Table(head, rows)
        if isinstance(block, Picture):
            return Picture(block.file, self._printable(block.caption))
        return replace(block, text=self._printable(block.text))

    def _cell(self, text: str) -> str:
        return _shortened(self._printable(text))

    def _printable(self, text: str) -> str:
        for emoji, word in EMOJI.items():
            text = text.replace(emoji, word)
        return self.text.shown(text)

    def lines(self, text: str, width: float) -> str:
        """Return a text for a cell of `width` mm (0: to the margin).

        One with letters that run from right to left is broken into lines, and each line is put into the order
        in which it is seen.
        """
        if not is_right_to_left(text):
            return text
        broken = self.pdf.multi_cell(width, 5, text, dry_run=True, output="LINES")
        return "\n".join(map(in_visual_order, broken))


def _add_title(page: _Page, title: Title, next_block: Block | None) -> None:
    pdf = page.pdf
    pdf.ln(0 if title.level == 1 else 4)
    needed = LEAST_BELOW_TITLES if isinstance(next_block, Title) else LEAST_BELOW_TITLE
    if pdf.get_y() > pdf.h - needed:
        pdf.add_page()
    pdf.set_font(FONT, "B", TITLE_SIZES.get(title.level, 11))
    pdf.multi_cell(0, 8, page.lines(title.text, 0), new_x="LMARGIN", new_y="NEXT")


def _add_text(page: _Page, text: Text) -> None:
    pdf = page.pdf
    pdf.set_font(FONT, size=9.5)
    pdf.multi_cell(0, 5, page.lines(text.text, 0), align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(1.5)


def _add_picture(page: _Page, picture: Picture) -> None:
    from PIL import Image

    pdf = page.pdf
    with Image.open(picture.file) as image:
        width, height = image.size
    pdf.image(str(picture.file), w=min(pdf.epw, HIGHEST_PICTURE * width / height))
    pdf.set_font(FONT, size=8)
    pdf.multi_cell(0, 5, page.lines(picture.caption, 0), new_x="LMARGIN", new_y="NEXT")


def _add_table(page: _Page, table: Table) -> None:
    from fpdf import FontFace

    pdf = page.pdf
    pdf.set_font(FONT, size=8)
    widths = _column_widths(table)
    with pdf.table(
        col_widths=widths,
        headings_style=FontFace(emphasis="BOLD", fill_color=(240, 242, 245)),
        borders_layout="HORIZONTAL_LINES",
        line_height=5,
        text_align="LEFT",
    ) as rows:
        for cells in [table.head, *table.rows]:
            row = rows.row()
            for cell, width in zip(cells, widths, strict=True):
                row.cell(page.lines(cell, pdf.epw * width / sum(widths)))
    pdf.ln(2)


def _column_widths(table: Table) -> tuple[float, ...]:
    """Return relative widths by the longest cell of each column, within a least and a most."""
    columns = zip(table.head, *table.rows, strict=True)
    longest = [max(map(len, column)) for column in columns]
    return tuple(float(min(WIDEST_COLUMN, max(NARROWEST_COLUMN, length))) for length in longest)


def _shortened(cell: str) -> str:
    cell = " ".join(cell.split())
    return cell if len(cell) <= LONGEST_CELL else f"{cell[: LONGEST_CELL - 2]} …"
