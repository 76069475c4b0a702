"""Clouds as pictures and files: PNG, a rotating GIF, a page with an offline viewer, and PLY.

Points are drawn as soft discs of light on a dark ground. Light adds up, so places with many points are
bright. x (time) runs to the right, y (pitch) up, z (tension) towards the viewer.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kwela import files, plots
from kwela.errors import UserError
from kwela.spectocloud.target import Cloud, attributes_path, read_cloud

BACKGROUND = (0.024, 0.027, 0.045)
AXES = {"time": (1, 0, 0), "pitch": (0, 1, 0), "tension": (0, 0, 1)}
AZIMUTH, ELEVATION = -0.5, 0.3  # radians: a little from the left and from above
ZOOM = 0.6  # cube edges to the picture's width
DISTANCE = 3.2  # from the cube's centre to the eye, in cube edges


def read(path: Path) -> Cloud:
    """Return the cloud in `x.npy`; its points are white without an `x.attributes.npy`. Raises UserError."""
    positions, attributes = read_cloud(Path(path))
    if attributes is None:
        attributes = np.tile(np.array([1, 1, 1, 0.8, 0.5, 0, 0.5], np.float32), (len(positions), 1))
    return Cloud(positions, attributes)


def write(cloud: Cloud, path: Path) -> None:
    """Write a cloud in the format of the suffix: .npy (and .attributes.npy), .ply, .png, .gif or .html.

    Raises UserError for another suffix.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise UserError(f"{path}: a cloud is written as {', '.join(WRITERS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[path.suffix](cloud, path)


def image(
    cloud: Cloud, size: int = 720, azimuth: float = AZIMUTH, elevation: float = ELEVATION
) -> np.ndarray:
    """Return the cloud seen from (azimuth, elevation) in radians, as (size, size, 3) uint8."""
    canvas = Image.new("RGB", (2 * size, 2 * size), tuple(round(255 * value) for value in BACKGROUND))
    _draw_frame(ImageDraw.Draw(canvas), 2 * size, azimuth, elevation)
    light = np.asarray(canvas.resize((size, size), Image.Resampling.LANCZOS), dtype=np.float64) / 255
    at, nearness = _project(cloud.positions, size, azimuth, elevation)
    colour, alpha = cloud.attributes[:, :3], cloud.attributes[:, 3:4]
    disc, glow = cloud.attributes[:, 4], cloud.attributes[:, 5]
    _splat(light, at, size * 0.0024 * (0.4 + disc) * nearness, 0.9 * colour * alpha)
    lit = glow > 0.05
    _splat(light, at[lit], size * 0.016 * nearness[lit], (colour * alpha * 0.035 * glow[:, None])[lit])
    return (255 * _expose(light)).round().astype(np.uint8)


def save_png(cloud: Cloud, path: Path, size: int = 720) -> None:
    """Save one picture."""
    Image.fromarray(image(cloud, size)).save(path)


def save_pair(clouds: Mapping[str, Cloud], path: Path, title: str = "", size: int = 640) -> None:
    """Save clouds side by side, each under its name, seen from the same place."""
    width = 5 * len(clouds)
    figure = plots.new_figure((width, 5.6), BACKGROUND)
    for column, (name, cloud) in enumerate(clouds.items()):
        axes = figure.add_axes((column / len(clouds), 0, 1 / len(clouds), 5 / 5.6))
        axes.imshow(image(cloud, size), interpolation="none")
        axes.set_axis_off()
        axes.set_title(name, color="#e8e6df", fontsize=14, pad=4)
    figure.text(0.5, 0.015, title, color="#8d93a8", fontsize=10, ha="center")
    plots.save(figure, path, dpi=size // 5)


def save_gif(cloud: Cloud, path: Path, size: int = 360, frames: int = 48) -> None:
    """Save one turn about the pitch axis, which takes 4 seconds."""
    turns = AZIMUTH + np.linspace(0, 2 * np.pi, frames, endpoint=False)
    first, *rest = (Image.fromarray(image(cloud, size, azimuth=turn)) for turn in turns)
    first.save(path, save_all=True, append_images=rest, duration=4000 // frames, loop=0)


def save_ply(cloud: Cloud, path: Path) -> None:
    """Save a binary little-endian PLY file.

    Its properties are x y z and size glow depth as float, and red green blue alpha as uchar.
    """
    fields = [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("red", "u1"),
        ("green", "u1"),
        ("blue", "u1"),
        ("alpha", "u1"),
    ]
    fields += [("size", "<f4"), ("glow", "<f4"), ("depth", "<f4")]
    table = np.empty(len(cloud.positions), fields)
    columns = np.hstack([cloud.positions, np.round(cloud.attributes[:, :4] * 255), cloud.attributes[:, 4:]])
    for (name, _), column in zip(fields, columns.T, strict=True):
        table[name] = column
    kinds = {"<f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    header += [f"property {kinds[kind]} {name}" for name, kind in fields]
    files.write(path, "\n".join([*header, "end_header", ""]).encode() + table.tobytes(), durable=False)


def save_html(clouds: Mapping[str, Cloud], path: Path, title: str = "kwela cloud") -> None:
    """Save a self-contained page on which the clouds are turned together by dragging."""
    data = []
    for name, cloud in clouds.items():
        numbers = np.hstack([cloud.positions, cloud.attributes])
        words = np.round(numbers * 65535).astype("<u2")  # 16 bits a number
        data.append({"name": name, "points": len(words), "data": base64.b64encode(words.tobytes()).decode()})
    page = (Path(__file__).parent / "viewer.html").read_text(encoding="utf-8")
    page = page.replace("{{title}}", html.escape(title)).replace(
        "{{clouds}}", json.dumps(data).replace("<", "\\u003c")
    )
    files.write(path, page, durable=False)


def _expose(light: np.ndarray) -> np.ndarray:
    """Map light to [0, 1] with a soft shoulder that keeps the hue; only the brightest places turn white."""
    peak = np.maximum(light.max(-1, keepdims=True), 1e-6)
    shown = 1 - np.exp(-1.1 * peak)
    white = 0.45 * np.clip((peak - 1.2) / 6, 0, 1)
    return shown * (light / peak * (1 - white) + white)


def _project(
    points: np.ndarray, size: int, azimuth: float, elevation: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel positions (n, 2: column, row) and magnification (n,), which is 1 at the cube's centre."""
    x, y, z = (np.asarray(points, dtype=np.float64) - 0.5).T
    x, z = x * np.cos(azimuth) + z * np.sin(azimuth), z * np.cos(azimuth) - x * np.sin(azimuth)
    y, z = y * np.cos(elevation) - z * np.sin(elevation), z * np.cos(elevation) + y * np.sin(elevation)
    nearness = DISTANCE / (DISTANCE - z)
    return np.stack([0.5 + ZOOM * x * nearness, 0.46 - ZOOM * y * nearness], 1) * size, nearness


def _draw_frame(draw: ImageDraw.ImageDraw, size: int, azimuth: float, elevation: float) -> None:
    """Draw the cube's twelve edges; the three axes are brighter and have their names at the far ends."""

    def pixel(corner: tuple[float, ...]) -> tuple[float, float]:
        (column, row), *_ = _project(np.array([corner]), size, azimuth, elevation)[0]
        return float(column), float(row)

    corners = [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    for start in corners:
        for axis in range(3):
            if start[axis] == 0:
                end = tuple(1 if k == axis else value for k, value in enumerate(start))
                draw.line(
                    [pixel(start), pixel(end)], fill=(58, 63, 84) if not any(start) else (26, 29, 42), width=2
                )
    for name, end in AXES.items():
        column, row = pixel(tuple(1.06 * value for value in end))
        draw.text((column, row), name, fill=(120, 126, 148), anchor="mm", font_size=size / 46)


def _splat(light: np.ndarray, at: np.ndarray, radius: np.ndarray, colour: np.ndarray) -> None:
    """Add a Gaussian disc of standard deviation `radius` pixels at each point to `light` (size, size, 3)."""
    if not len(at):
        return
    reach = int(np.ceil(2.5 * radius.max()))
    around = np.stack(np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1)), -1).reshape(
        -1, 2
    )
    pixels = np.floor(at).astype(int)[:, None] + around  # (n, k, 2)
    squared = np.square(pixels + 0.5 - at[:, None]).sum(-1)
    weight = np.exp(-squared / (2 * np.square(radius)[:, None]))
    inside = ((pixels >= 0) & (pixels < len(light))).all(-1) & (weight > 0.02)
    flat = pixels[..., 1][inside] * len(light) + pixels[..., 0][inside]
    point = np.nonzero(inside)[0]
    for channel in range(3):
        added = np.bincount(flat, weight[inside] * colour[point, channel], minlength=len(light) ** 2)
        light[..., channel] += added.reshape(light.shape[:2])


def _save_npy(cloud: Cloud, path: Path) -> None:
    np.save(attributes_path(path), cloud.attributes)
    np.save(path, cloud.positions)


WRITERS: dict[str, Callable[[Cloud, Path], None]] = {
    ".npy": _save_npy,
    ".ply": save_ply,
    ".png": save_png,
    ".gif": save_gif,
    ".html": lambda cloud, path: save_html({path.stem: cloud}, path),
}
