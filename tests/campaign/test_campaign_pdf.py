"""Texts of any script in the report: shaped, drawn with a font of the machine, or said to be replaced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kwela import fonts
from kwela.campaign.report import pdf, pdf_text
from kwela.campaign.report.blocks import Block, Table, Text, Title
from kwela.campaign.report.documents import write_document

JAPANESE, ARABIC = "アマピアノ、深いドラム", "موسيقى (1) مع 🎹"
PROMPTS = (
    JAPANESE,
    ARABIC,
    "a $100 beat by Ba$$in | <b>bold</b> & *stars*",
    "isiZulu: ṱhofho ḓi ṅwe",
    "{nb}",
)
BLOCKS = [
    Title("A report", 1),
    Text("Summary"),
    Table(["File", "Prompt"], [["x", prompt] for prompt in PROMPTS]),
]


def notes(blocks: list[Block], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paragraphs of the PDF of these blocks that begin with "Note:"."""
    seen: list[str] = []
    add = pdf._add_text
    monkeypatch.setattr(pdf, "_add_text", lambda page, text: (seen.append(text.text), add(page, text)))
    assert pdf.pdf_bytes(blocks).startswith(b"%PDF")
    return [text for text in seen if text.startswith("Note:")]


def test_arabic_letters_are_joined_and_a_line_is_put_into_the_order_that_is_seen() -> None:
    shown = pdf_text.PdfText([]).shown(ARABIC)
    assert shown == "ﻣﻮﺳﻴﻘﻰ (1) ﻣﻊ [musical keyboard]"
    assert pdf_text.in_visual_order("abc " + shown[:6]) == "abc " + shown[:6][::-1]
    assert pdf_text.in_visual_order("ﻣﻊ (1)") == "(1) " + "ﻣﻊ"[::-1]
    assert pdf_text.in_visual_order("plain (1)") == "plain (1)"
    # Lam and alef are one sign, a mark does not part two letters, and hamza joins nothing.
    assert pdf_text.PdfText([]).shown("السلام نُور ماء") == "ﺍﻟﺴﻼﻡ ﻧُﻮﺭ ﻣﺎﺀ"


def test_what_can_not_be_drawn_is_replaced_and_remembered() -> None:
    text = pdf_text.PdfText([])
    assert text.shown("isiZulu: ṱhofho ḓi ṅwe, e\u0301, ≥ 5 %") == "isiZulu: ṱhofho ḓi ṅwe, é, ≥ 5 %"
    assert text.shown("🎹👍🏽 🇿🇦 😀") == "[musical keyboard][thumbs up sign] ZA 😀"
    assert text.shown("a\x1b[2J caf\udce9") == "a\\x1b[2J caf\\udce9" and not text.replaced
    assert text.shown("日x हि") == "□x □□" and list(text.replaced) == ["日", "ह", "ि"]


def test_a_report_says_which_characters_it_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "system_fonts", tuple)
    (note,) = notes(BLOCKS, monkeypatch)
    count = len(set(JAPANESE))
    assert re.search(rf"no font that shows {count} characters .*katakana.*Markdown and the HTML", note)
    assert not notes([Title("A report", 1), Text(PROMPTS[3]), Text(ARABIC)], monkeypatch)


def test_a_font_of_the_machine_is_embedded_and_a_broken_one_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from font_of_boxes import font_of_boxes

    font = font_of_boxes(tmp_path / "japanese.ttf", JAPANESE)
    monkeypatch.setattr(fonts, "system_fonts", lambda: (font,))
    assert not notes(BLOCKS, monkeypatch)
    assert b"KwelaTest" in pdf.pdf_bytes(BLOCKS).replace(b"-", b"").replace(b" ", b"")
    whole = font.read_bytes()
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(whole)
    monkeypatch.setattr(fonts, "system_fonts", lambda: (broken,))
    assert fonts.for_text(JAPANESE) == [broken]
    broken.write_bytes(whole[:60])  # between the look and the use
    assert len(notes(BLOCKS, monkeypatch)) == 1


def test_the_other_pages_hold_every_text_as_typed(tmp_path: Path) -> None:
    markdown, page, _ = (
        path.read_bytes().decode(errors="replace") for path in write_document(BLOCKS, tmp_path, "r")
    )
    for text in (JAPANESE, ARABIC, "ṱhofho ḓi ṅwe"):
        assert text in markdown and text in page
    assert r"a $100 beat by Ba$$in \| \<b>bold\</b> & \*stars\*" in markdown
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; *stars*" in page and "<b>" not in page
