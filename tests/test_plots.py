"""Pictures are drawn from what a run wrote, and from sound of any length."""

import ast
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from font_of_boxes import font_of_boxes
from kwela import fonts, plots
from kwela.errors import UserError


def test_a_loss_curve_needs_a_validation(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(json.dumps({"step": 1, "split": "train", "loss": 2.0}) + "\n")
    with pytest.raises(UserError, match="no validation yet"):
        plots.draw_run_loss(metrics, tmp_path / "curve.png", "loss", "A run", "nats")
    row = {"step": 1, "split": "val", "val_loss": 2.5, "baselines": {"bigram_ce": 2.2}}
    with metrics.open("a") as file:
        file.write(json.dumps(row) + "\n")
    picture = plots.draw_run_loss(metrics, tmp_path / "curve.png", "loss", "A run", "nats")
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("samples", [0, 1, 5_000])
def test_a_spectrogram_is_in_db_below_its_loudest_point_or_below_a_given_level(samples: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 / 16_000 * np.arange(samples))
    _, (first, second) = plots.sheet(1, 2, (4, 2))
    own = plots.draw_spectrogram(first, tone, 16_000).get_array()
    full_scale = plots.draw_spectrogram(second, tone, 16_000, loudest_db=0.0).get_array()
    assert own.shape == full_scale.shape and len(own) == plots.N_FFT // 2 + 1
    if samples > plots.N_FFT:
        row = int(own.max(axis=1).argmax())
        assert own.max() == 0 and row == round(1000 / 8000 * plots.N_FFT / 2)
        assert full_scale.max() == pytest.approx(20 * np.log10(0.5), abs=0.2)
    assert first.get_ylim() == (0, 8)


HOSTILE = [
    "for $5_{ or $6", "$a^{$ \\frac{", "_bass $x$", "a\\$b", "日本 🎹", "موسيقى", "caf\udce9 \x1b[31m\0", "W" * 63_000,
]  # fmt: skip


def test_hostile_text_is_drawn_wherever_it_stands(tmp_path: Path) -> None:
    figure, axes = plots.sheet(2, 4, (12, 6))
    for axis, text in zip(axes, HOSTILE, strict=True):
        axis.plot([1, 2], [1, 2], label=text)
        axis.set(title=text, xlabel=text, ylabel=text)
        axis.annotate(text, (1, 1))
        axis.set_xticks([1, 2], [text, text])
        axis.legend([text], title=text)
    axes[0].set(yscale="log", ylim=(0.01, 100))
    axes[1].yaxis.set_major_formatter("$ {x:g} _{{")
    figure.suptitle(HOSTILE[0])
    plots.add_legend(figure, axes[0])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        plots.save(figure, tmp_path / "picture.png")
    shown = axes[0]
    assert shown.get_title() == shown.get_legend().get_title().get_text() == HOSTILE[0]
    assert [label.get_text() for label in shown.get_xticklabels()] == [HOSTILE[0]] * 2
    assert (
        axes[6].get_title() == "caf\\udce9 \\x1b[31m\\x00" and len(axes[7].get_title()) == plots.LONGEST_LINE
    )
    assert not any("$" in label.get_text() for label in shown.get_yticklabels())


def test_the_same_text_fails_past_the_one_way_to_save(tmp_path: Path) -> None:
    figure, (axis,) = plots.sheet(1, 1, (3, 2))
    axis.set_title(HOSTILE[0])
    with pytest.raises(ValueError, match="Expected"):
        figure.savefig(tmp_path / "picture.png")


def test_a_dollar_is_drawn(tmp_path: Path) -> None:
    """Pixels, not only attributes: "$x$" is wider than x."""
    from PIL import Image

    inks = []
    for text in ("$x$", "x"):
        figure = plots.new_figure((3, 1))
        figure.text(0.1, 0.5, text, fontsize=20)
        with Image.open(plots.save(figure, tmp_path / "picture.png")) as picture:
            columns = np.asarray(picture.convert("L")).min(axis=0) < 128
        inks.append(int(columns.sum()))
    assert inks[0] > 2 * inks[1]


def test_every_figure_is_made_and_saved_in_one_place() -> None:
    root = Path(plots.__file__).parent
    found = []
    for path in root.rglob("*.py"):
        if path.name == "plots.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in getattr(node, "names", [])] if isinstance(node, ast.Import) else []
            )
            module = getattr(node, "module", "") or "" if isinstance(node, ast.ImportFrom) else ""
            if {"matplotlib.figure", "matplotlib.pyplot", "matplotlib.backends"} & {*names, module}:
                found.append(f"{path.relative_to(root)}:{node.lineno}")
            if getattr(node, "attr", "") in ("savefig", "print_figure"):
                found.append(f"{path.relative_to(root)}:{node.lineno}")
    assert not found


def test_a_font_of_the_system_is_taken_for_what_dejavu_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fonts.lacking("isiZulu: ṱhofho ḓi ṅwe, موسيقى, ≥ … \u200d") == ""
    assert fonts.lacking("日本 日 🎹") == "日本🎹"
    japanese, keys = font_of_boxes(tmp_path / "a.ttf", "日本x"), font_of_boxes(tmp_path / "b.ttf", "本🎹")
    (tmp_path / "c.ttf").write_bytes(b"no font")
    monkeypatch.setattr(fonts, "system_fonts", lambda: (tmp_path / "c.ttf", japanese, keys))
    assert fonts.for_text("plain") == [] and fonts.for_text("本") == [japanese]
    assert fonts.for_text("日本 🎹") == [japanese, keys]
    figure, (axis,) = plots.sheet(1, 1, (3, 2))
    axis.set_title("日本 🎹 $x")
    plots.save(figure, tmp_path / "picture.png")
    assert axis.title.get_fontfamily()[1:] == ["Kwela Test a", "Kwela Test b"]


def test_a_picture_that_fails_is_said_and_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    @plots.optional
    def _draw_scores(fault: BaseException | None) -> str:
        if fault:
            raise fault
        return "drawn"

    assert _draw_scores(None) == "drawn" and _draw_scores(ValueError("a\nb")) is None
    assert _draw_scores(MemoryError()) is None
    assert capsys.readouterr().err.splitlines() == [
        "picture left out (draw scores): ValueError: a b",
        "picture left out (draw scores): MemoryError: ",
    ]
    with pytest.raises(KeyboardInterrupt):
        _draw_scores(KeyboardInterrupt())
