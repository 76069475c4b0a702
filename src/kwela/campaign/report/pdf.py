"""Lay a document out as PDF: A4 with page numbers; headings stay with what they head, table rows are whole.

fpdf2's `write_html` was tried and not taken: it leaves headings alone at the foot of a page, and gives all
columns of a table one width unless each has been computed as here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from kwela.campaign.report.blocks import Block, Picture, Table, Text, Title
from kwela.errors import UserError

FONT = "DejaVu"  # which has the arrows and inequalities that the report uses
# Millimetres.
MARGIN = 18
HIGHEST_PICTURE = 150
LEAST_BELOW_TITLE = 60  # that must be free on a page from the top of a title on
LEAST_BELOW_TITLES = 75  # the same of a title that another follows
LONGEST_CELL = 400  # characters: a row must fit on a page
WIDEST_COLUMN, NARROWEST_COLUMN = 48, 10  # characters that count
TITLE_SIZES = {1: 18, 2: 13}  # points, by level
EMOJI = {"✅": "[met]", "❌": "[missed]", "🟡": "[?]", "⚠️": "[!]", "⏸": "[hold]", "🚨": "[flag]"}


def pdf_bytes(blocks: Sequence[Block]) -> bytes:
    """Return the document as PDF.

    Raises UserError without fpdf2, and ValueError, as fpdf2 does, for a page that it can't lay out.
    """
    pdf = _empty_page()
    for block, next_block in pairwise([*blocks, None]):
        if isinstance(block, Title):
            _add_title(pdf, block, next_block)
        elif isinstance(block, Text):
            _add_text(pdf, block)
        elif isinstance(block, Picture):
            _add_picture(pdf, block)
        elif isinstance(block, Table):
            _add_table(pdf, block)
    return bytes(pdf.output())


def _empty_page() -> Any:
    """Return fpdf2's document with its first page and its fonts."""
    try:
        from fpdf import FPDF
    except ImportError:
        raise UserError(
            "the PDF needs fpdf2: pip install 'kwela[report]' (the other two pages are written)"
        ) from None
    import matplotlib

    class NumberedPages(FPDF):
        def footer(self) -> None:
            self.set_y(-12)
            self.set_font(FONT, size=8)
            self.cell(0, 5, f"{self.page_no()} / {{nb}}", align="C")

    pdf: Any = NumberedPages(format="A4")
    pdf.set_auto_page_break(True, margin=MARGIN)
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pdf.add_font(FONT, "", fonts / "DejaVuSans.ttf")
    pdf.add_font(FONT, "B", fonts / "DejaVuSans-Bold.ttf")
    pdf.add_page()
    return pdf


def _add_title(pdf: Any, title: Title, next_block: Block | None) -> None:
    pdf.ln(0 if title.level == 1 else 4)
    needed = LEAST_BELOW_TITLES if isinstance(next_block, Title) else LEAST_BELOW_TITLE
    if pdf.get_y() > pdf.h - needed:
        pdf.add_page()
    pdf.set_font(FONT, "B", TITLE_SIZES.get(title.level, 11))
    pdf.multi_cell(0, 8, _printable(title.text), new_x="LMARGIN", new_y="NEXT")


def _add_text(pdf: Any, text: Text) -> None:
    pdf.set_font(FONT, size=9.5)
    pdf.multi_cell(0, 5, _printable(text.text), align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(1.5)


def _add_picture(pdf: Any, picture: Picture) -> None:
    from PIL import Image

    with Image.open(picture.file) as image:
        width, height = image.size
    pdf.image(str(picture.file), w=min(pdf.epw, HIGHEST_PICTURE * width / height))
    pdf.set_font(FONT, size=8)
    pdf.multi_cell(0, 5, _printable(picture.caption), new_x="LMARGIN", new_y="NEXT")


def _add_table(pdf: Any, table: Table) -> None:
    from fpdf import FontFace

    pdf.set_font(FONT, size=8)
    with pdf.table(
        col_widths=_column_widths(table),
        headings_style=FontFace(emphasis="BOLD", fill_color=(240, 242, 245)),
        borders_layout="HORIZONTAL_LINES",
        line_height=5,
        text_align="LEFT",
    ) as rows:
        for cells in [table.head, *table.rows]:
            row = rows.row()
            for cell in cells:
                row.cell(_shortened(_printable(cell)))
    pdf.ln(2)


def _column_widths(table: Table) -> tuple[float, ...]:
    """Return relative widths by the longest cell of each column, within a least and a most."""
    columns = zip(table.head, *table.rows, strict=True)
    longest = [max(map(len, column)) for column in columns]
    return tuple(float(min(WIDEST_COLUMN, max(NARROWEST_COLUMN, length))) for length in longest)


def _shortened(cell: str) -> str:
    cell = " ".join(cell.split())
    return cell if len(cell) <= LONGEST_CELL else f"{cell[: LONGEST_CELL - 2]} …"


def _printable(text: str) -> str:
    """Return the text without the characters that the font lacks."""
    for emoji, word in EMOJI.items():
        text = text.replace(emoji, word)
    return "".join(char for char in text if ord(char) < 0x10000)
