"""Pictures and files of clouds: right format, right content, nothing fetched from a network."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kwela.errors import UserError
from kwela.spectocloud import render, target
from kwela.spectocloud.target import Cloud


@pytest.fixture(scope="module")
def cloud(pair: tuple[Path, Path]) -> Cloud:
    return target.compute(*pair, np.array([0.6, 0.3, 0.8]), 0.0, 0.5)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    from small_pairs import TUNE, write_pair

    return write_pair(tmp_path_factory.mktemp("drawn"), "tune", TUNE)


def test_points_are_drawn_where_they_are_and_in_their_colour() -> None:
    attributes = np.zeros((1, 7), np.float32)
    attributes[:, [0, 3, 4]] = 1  # red, opaque, large
    empty = render.image(Cloud(np.zeros((0, 3), np.float32), np.zeros((0, 7), np.float32)), size=200)
    for x, y in ((0.1, 0.5), (0.9, 0.9)):
        drawn = render.image(
            Cloud(np.array([[x, y, 0.5]], np.float32), attributes), size=200, azimuth=0, elevation=0
        )
        bare = render.image(Cloud(np.zeros((0, 3), np.float32), np.zeros((0, 7), np.float32)), 200, 0, 0)
        added = drawn.astype(int) - bare
        row, column = np.unravel_index(added[..., 0].argmax(), (200, 200))
        assert abs(column / 200 - (0.5 + render.ZOOM * (x - 0.5))) < 0.02
        assert abs(row / 200 - (0.46 - render.ZOOM * (y - 0.5))) < 0.02
        assert added[row, column, 0] > 60 > 2 * added[row, column, 1]
    assert empty.shape == (200, 200, 3) and empty.max() < 160


def test_glow_lights_its_surroundings() -> None:
    attributes = np.tile(np.array([[0.2, 0.6, 1, 1, 0.5, 0, 0.5]], np.float32), (1200, 1))
    positions = np.full((1200, 3), 0.5, np.float32)
    glowing = attributes.copy()
    glowing[:, 5] = 1
    assert (
        render.image(Cloud(positions, glowing), 200).sum()
        > 1.1 * render.image(Cloud(positions, attributes), 200).sum()
    )


def test_every_suffix_is_written_and_another_refused(cloud: Cloud, tmp_path: Path) -> None:
    for suffix in (".npy", ".ply", ".png", ".html"):
        render.write(cloud, tmp_path / "new" / f"cloud{suffix}")
        assert (tmp_path / "new" / f"cloud{suffix}").stat().st_size > 1000
    with pytest.raises(UserError, match=r"cloud\.obj"):
        render.write(cloud, tmp_path / "cloud.obj")


def test_npy_reads_back_the_same(cloud: Cloud, tmp_path: Path) -> None:
    render.write(cloud, tmp_path / "cloud.npy")
    back = render.read(tmp_path / "cloud.npy")
    np.testing.assert_array_equal(back.positions, cloud.positions)
    np.testing.assert_array_equal(back.attributes, cloud.attributes)
    target.attributes_path(tmp_path / "cloud.npy").unlink()
    assert (render.read(tmp_path / "cloud.npy").attributes[:, :3] == 1).all()
    (tmp_path / "text.npy").write_text("no numbers")
    with pytest.raises(UserError, match=r"text\.npy"):
        render.read(tmp_path / "text.npy")


def test_ply_holds_every_point(cloud: Cloud, tmp_path: Path) -> None:
    render.save_ply(cloud, tmp_path / "cloud.ply")
    head, body = (tmp_path / "cloud.ply").read_bytes().split(b"end_header\n", 1)
    assert b"element vertex 1200" in head and len(body) == 1200 * (3 * 4 + 4 + 3 * 4)
    first = np.frombuffer(body[:12], "<f4")
    np.testing.assert_array_equal(first, cloud.positions[0])
    assert body[12] == round(float(cloud.attributes[0, 0]) * 255)


def test_html_carries_its_points_and_asks_no_network(cloud: Cloud, tmp_path: Path) -> None:
    render.save_html({"one": cloud, "</script>": cloud}, tmp_path / "cloud.html", title="a <title>")
    page = (tmp_path / "cloud.html").read_text()
    assert not re.search(r"https?://|src=|href=|import |fetch\(", page)
    assert "a &lt;title&gt;" in page and page.count("</script>") == 1
    found = re.search(r"const clouds = (\[.*\]);\n", page)
    assert found
    one, other = json.loads(found.group(1))
    assert one["name"] == "one" and other["name"] == "</script>" and one["points"] == 1200
    values = np.frombuffer(base64.b64decode(one["data"]), "<u2").reshape(1200, 10) / 65535
    np.testing.assert_allclose(values[:, :3], cloud.positions, atol=1e-5)


def test_a_gif_turns(cloud: Cloud, tmp_path: Path) -> None:
    render.save_gif(cloud, tmp_path / "cloud.gif", size=80, frames=6)
    with Image.open(tmp_path / "cloud.gif") as film:
        assert film.n_frames == 6
        first = np.asarray(film.convert("RGB")).astype(int)
        film.seek(2)
        assert np.abs(np.asarray(film.convert("RGB")).astype(int) - first).mean() > 1


def test_a_pair_stands_side_by_side(cloud: Cloud, tmp_path: Path) -> None:
    render.save_pair({"predicted": target.silent_cloud(), "target": cloud}, tmp_path / "pair.png", "a title")
    with Image.open(tmp_path / "pair.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    left, right = np.split(pixels, 2, axis=1)
    assert picture.width > 1.5 * picture.height and (right > 120).sum() > 2 * (left > 120).sum()
