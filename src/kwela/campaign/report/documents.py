"""One document, three forms: Markdown, self-contained HTML, PDF."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kwela import files
from kwela.errors import KwelaError, UserError

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2024; }
h1 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #d5d9de; padding-bottom: .3rem }
table { border-collapse: collapse; width: 100%; font-size: .9rem } td, th { text-align: left; vertical-align: top;
padding: .35rem .6rem; border-bottom: 1px solid #e4e7ea } th { background: #f3f5f7 } img { max-width: 100% }
td.met { color: #14713d } td.missed { color: #b3261e } figcaption { color: #667; font-size: .85rem }
@media (prefers-color-scheme: dark) { body { background: #14171a; color: #e4e7ea } th { background: #20252a }
td, th { border-color: #2c3238 } h2 { border-color: #2c3238 } td.met { color: #5bd08b } td.missed { color: #ff8a80 }
img { background: #fff } }
"""
TALLEST = 150  # millimetres of a picture on paper
LONGEST = 400  # characters of a table's cell on paper: a row must fit on a page
EMOJI = {"✅": "[met]", "❌": "[missed]", "🟡": "[?]", "⚠️": "[!]", "⏸": "[hold]", "🚨": "[flag]"}


@dataclass(frozen=True)
class Title:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Table:
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    file: Path
    caption: str


Block = Title | Text | Table | Picture


def write(blocks: Sequence[Block], folder: Path, name: str) -> list[Path]:
    """`name`.md, .html and .pdf in `folder`; pictures are linked from the first, inside the other two.

    Raises UserError without fpdf2, KwelaError where it fails, after the first two are written.
    """
    made = [folder / f"{name}.{kind}" for kind in ("md", "html", "pdf")]
    files.write(made[0], "\n".join(markdown(blocks, folder)) + "\n")
    title = next((block.text for block in blocks if isinstance(block, Title)), name)
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
    files.write(made[1], f"{head}<style>{STYLE}</style>\n" + "\n".join(map(_html, blocks)) + "\n</html>\n")
    try:
        paper = _pdf(blocks)
    except ValueError as error:  # what fpdf2 raises of a page that it can't lay out
        raise KwelaError(f"{made[2]}: not written: {error} (the other two pages are)") from error
    files.write(made[2], paper)
    return made


def markdown(blocks: Sequence[Block], folder: Path) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Title):
            yield f"{'#' * block.level} {block.text}\n"
        elif isinstance(block, Text):
            yield f"{block.text}\n"
        elif isinstance(block, Picture):
            yield f"![{block.caption}]({os.path.relpath(block.file, folder)})\n"
        else:
            rows = [block.head, ["---"] * len(block.head), *block.rows]
            cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
            yield "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


def _html(block: Block) -> str:
    if isinstance(block, Title):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Text):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Picture):
        data = base64.b64encode(block.file.read_bytes()).decode()
        caption = html.escape(block.caption)
        image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in block.head)
    kinds = {"met": " class=met", "missed": " class=missed"}
    rows = (
        "".join(f"<td{kinds.get(cell, '')}>{html.escape(cell)}</td>" for cell in row) for row in block.rows
    )
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _pdf(blocks: Sequence[Block]) -> bytes:
    try:
        from fpdf import FPDF, FontFace
    except ImportError:
        raise UserError(
            "the PDF needs fpdf2: pip install 'kwela[report]' (the other two pages are written)"
        ) from None
    import matplotlib
    from PIL import Image

    fonts = (
        Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    )  # DejaVu, which has the arrows and inequalities

    class Paper(FPDF):
        def footer(self) -> None:
            self.set_y(-12)
            self.set_font("DejaVu", size=8)
            self.cell(0, 5, f"{self.page_no()} / {{nb}}", align="C")

    pdf: Any = Paper(format="A4")
    pdf.set_auto_page_break(True, margin=18)
    for style, name in (("", "DejaVuSans"), ("B", "DejaVuSans-Bold")):
        pdf.add_font("DejaVu", style, fonts / f"{name}.ttf")
    pdf.add_page()
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if isinstance(block, Title):
            pdf.ln(0 if block.level == 1 else 4)
            least = 75 if isinstance(following, Title) else 60
            if pdf.get_y() > pdf.h - least:  # a heading stays with what it heads
                pdf.add_page()
            pdf.set_font("DejaVu", "B", {1: 18, 2: 13}.get(block.level, 11))
            pdf.multi_cell(0, 8, _plain(block.text), new_x="LMARGIN", new_y="NEXT")
        elif isinstance(block, Text):
            pdf.set_font("DejaVu", size=9.5)
            pdf.multi_cell(0, 5, _plain(block.text), align="L", new_x="LMARGIN", new_y="NEXT")
            pdf.ln(1.5)
        elif isinstance(block, Picture):
            with Image.open(block.file) as picture:
                width, height = picture.size
            pdf.image(str(block.file), w=min(pdf.epw, TALLEST * width / height))
            pdf.set_font("DejaVu", size=8)
            pdf.multi_cell(0, 5, _plain(block.caption), new_x="LMARGIN", new_y="NEXT")
        else:
            pdf.set_font("DejaVu", size=8)
            widths = _widths(block)
            heading = FontFace(emphasis="BOLD", fill_color=(240, 242, 245))
            with pdf.table(
                col_widths=widths,
                headings_style=heading,
                borders_layout="HORIZONTAL_LINES",
                line_height=5,
                text_align="LEFT",
            ) as table:
                for row in [block.head, *block.rows]:
                    cells = table.row()
                    for cell in row:
                        cells.cell(_clipped(_plain(cell)))
            pdf.ln(2)
    return bytes(pdf.output())


def _widths(table: Table) -> tuple[float, ...]:
    """Column widths by their longest cell, so that none starves."""
    longest = [max(len(row[k]) for row in [table.head, *table.rows]) for k in range(len(table.head))]
    return tuple(float(min(48, max(10, length))) for length in longest)


def _clipped(cell: str) -> str:
    cell = " ".join(cell.split())
    return cell if len(cell) <= LONGEST else f"{cell[: LONGEST - 2]} …"


def _plain(text: str) -> str:
    for emoji, word in EMOJI.items():
        text = text.replace(emoji, word)
    return "".join(char for char in text if ord(char) < 0x10000)
