"""Write one document in three forms: Markdown, self-contained HTML, and PDF."""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from kwela import files, terminal
from kwela.campaign.report.blocks import Block, Picture, Table, Text, Title
from kwela.campaign.report.pdf import pdf_bytes
from kwela.errors import KwelaError, UserError

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
color: #1c2024 }
h1 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #d5d9de; padding-bottom: .3rem }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
td, th { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #e4e7ea }
th { background: #f3f5f7 } img { max-width: 100% }
td.met { color: #14713d } td.missed { color: #b3261e } figcaption { color: #667; font-size: .85rem }
@media (prefers-color-scheme: dark) { body { background: #14171a; color: #e4e7ea } th { background: #20252a }
td, th { border-color: #2c3238 } h2 { border-color: #2c3238 } td.met { color: #5bd08b }
td.missed { color: #ff8a80 } img { background: #fff } }
"""
CELL_CLASSES = {"met": " class=met", "missed": " class=missed"}


def write_document(blocks: Sequence[Block], folder: Path, name: str) -> list[Path]:
    """Write `name`.md, .html and .pdf in `folder`, and return their paths.

    Pictures are linked from the first and contained in the other two. Raises UserError without fpdf2,
    KwelaError where it fails, after the first two are written.
    """
    paths = [folder / f"{name}.{ending}" for ending in ("md", "html", "pdf")]
    files.write(paths[0], markdown_text(blocks, folder))
    files.write(paths[1], _html_text(blocks, name))
    try:
        content = pdf_bytes(blocks)
    except UserError:
        raise
    except Exception as error:  # of any kind: fonts and pictures are read by other libraries
        raise KwelaError(f"{paths[2]}: not written: {error} (the other two pages are)") from error
    files.write(paths[2], content)
    return paths


def markdown_text(blocks: Sequence[Block], folder: Path) -> str:
    """Return the document as Markdown for a file in `folder`, to which the links of pictures are relative."""
    return "\n".join(_markdown_blocks(blocks, folder)) + "\n"


def _markdown_blocks(blocks: Sequence[Block], folder: Path) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Title):
            yield f"{'#' * block.level} {_as_typed(block.text)}\n"
        elif isinstance(block, Text):
            yield f"{_as_typed(block.text)}\n"
        elif isinstance(block, Picture):
            yield f"![{_as_typed(block.caption)}]({os.path.relpath(block.file, folder)})\n"
        elif isinstance(block, Table):
            rows = [block.head, ["---"] * len(block.head), *block.rows]
            cells = [[_as_typed(" ".join(cell.split())).replace("|", "\\|") for cell in row] for row in rows]
            yield "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


def _as_typed(text: str) -> str:
    """Return `text` for Markdown, in which HTML and stars of a prompt mean themselves."""
    return re.sub(r"<(?=[A-Za-z/!?])|\*", r"\\\g<0>", terminal.printable(text))


def _html_text(blocks: Sequence[Block], name: str) -> str:
    title = next((block.text for block in blocks if isinstance(block, Title)), name)
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
    return f"{head}<style>{STYLE}</style>\n" + "\n".join(map(_html_block, blocks)) + "\n</html>\n"


def _html_block(block: Block) -> str:
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
    rows = (
        "".join(f"<td{CELL_CLASSES.get(cell, '')}>{html.escape(cell)}</td>" for cell in row)
        for row in block.rows
    )
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
