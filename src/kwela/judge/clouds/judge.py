"""Judge a Spectocloud on held-out songs: every figure beside the target drawn again and three baselines.

What the figures mean, and how they can mislead, is in docs/judging/clouds.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from kwela import files, plots
from kwela.corpus.pairs import rows
from kwela.engine import checkpoint
from kwela.errors import UserError
from kwela.judge.clouds import page as cloud_card
from kwela.judge.clouds import windows
from kwela.judge.clouds.baselines import Baselines
from kwela.judge.clouds.metrics import MODEL, CloudOf, Scores, ranked, score
from kwela.judge.clouds.windows import Heard, Sample, Window
from kwela.judge.shared.scorecard import Scorecard
from kwela.spectocloud import render
from kwela.spectocloud.model import build
from kwela.spectocloud.target import Cloud, file_hash

FAMILY = "spectocloud"
CHECKPOINT = Path("checkpoints/spectocloud/best.pt")
MANIFEST = Path("data/manifests/spectocloud_val.jsonl")
TRAINING = Path("data/manifests/spectocloud_train.jsonl")
FEWEST_SONGS = 5  # held out; an interval resampled from fewer says next to nothing
FEWEST_TRAINING = 8  # windows from which baselines are made
QUICK, WHOLE = (3, 40, 300), (8, 200, 2000)  # windows a song, songs, training windows


def judge(
    model: Path | None,
    manifest: Path | None,
    training: Path | None,
    *,
    out: Path,
    quick: bool = False,
    seed: int = 0,
) -> Scorecard:
    """The scorecard of a checkpoint on the songs of `manifest`, written to `out` with its pictures.

    None stands for the path where training leaves it. training: rows from which baselines are made, and against which
    the held-out songs are checked. Raises UserError for paths that can't be read; refuses below FEWEST_SONGS.
    """
    path, held_out, seen = model or CHECKPOINT, manifest or MANIFEST, training or TRAINING
    state = checkpoint.load(path)
    network = checkpoint.rebuild(path, state, FAMILY, build)
    asked, known = rows.read(held_out, FAMILY), rows.read(seen, FAMILY)
    own = rows.data_hash([seen, held_out]) == state["meta"]["data_hash"]
    card = judge_clouds(of_network(network), asked, known, out=out, quick=quick, seed=seed)
    if not own:
        card.warning = (
            "The checkpoint was trained with other manifests than these: whether it has seen the songs held out here "
            f"isn't known. {card.warning}"
        )
    card.extra_json |= {
        "model": str(path),
        "checkpoint_sha256": files.sha256(path),
        "own_manifests": own,
    }
    card.write(out, "clouds")
    return card


def of_network(network: nn.Module) -> CloudOf:
    """What a Spectocloud gives for a window."""

    @torch.inference_mode()
    def cloud_of(window: Window, heard: Heard) -> Cloud:
        given = (torch.from_numpy(array)[None] for array in (heard.log_mel, window.emotion, heard.features))
        positions, colors, properties = network(*given)[:3]
        return Cloud(positions[0].numpy(), torch.cat([colors, properties], -1)[0].numpy())

    return cloud_of


def judge_clouds(
    cloud_of: CloudOf,
    asked: list[rows.Row],
    known: list[rows.Row],
    *,
    out: Path,
    quick: bool = False,
    seed: int = 0,
) -> Scorecard:
    """The scorecard of anything that gives a cloud for a window. asked, known: held-out and training rows, as read."""
    a_song, songs, most = QUICK if quick else WHOLE
    left_out = leaks(asked, known)
    card = Scorecard(cloud_card.TITLE, cloud_card.WARNING, quick, seed, extra_json={"left_out": left_out})
    apart = [row for row in asked if row["audio_path"] not in left_out]
    held_out = windows.listen(windows.choose(apart, a_song, songs), left_out, "Hearing held-out songs")
    card.extra_json |= {"songs": len({sample.window.song for sample in held_out}), "windows": len(held_out)}
    if not held_out and apart:
        raise UserError(
            f"none of the held-out rows could be read, the first: {next(iter(left_out.values()))}"
        )
    if card.extra_json["songs"] < FEWEST_SONGS:
        counted = f"{card.extra_json['songs']} held-out songs that training has not seen"
        return card.refuse(f"{counted}; at least {FEWEST_SONGS} are needed")
    chosen = windows.choose(known, a_song=8, songs=len(known))
    taught = windows.listen(windows.evenly(chosen, most), left_out, "Hearing training songs")
    if len(taught) < FEWEST_TRAINING:
        return card.refuse(
            f"{len(taught)} training windows; at least {FEWEST_TRAINING} are needed for the baselines"
        )
    baselines = Baselines(taught, seed)
    scores = score(cloud_of, held_out, baselines, seed)
    cloud_card.fill(card, scores, out)
    _draw(cloud_of, held_out, baselines, scores, out / "clouds.png")
    return card


def leaks(asked: list[rows.Row], known: list[rows.Row]) -> dict[str, str]:
    """{audio: why} of held-out rows whose song, or whose very audio, training rows hold too."""
    songs = {row["group"].casefold() for row in known}
    by_size: dict[int, set[str]] = {}
    for row in known:
        by_size.setdefault(Path(row["audio_path"]).stat().st_size, set()).add(row["audio_path"])
    found = {}
    for row in asked:
        path = row["audio_path"]
        alike = by_size.get(Path(path).stat().st_size, set())
        if row["group"].casefold() in songs:
            found[path] = f"the song {row['group']} is in the training rows too"
        elif path not in found and any(file_hash(Path(path)) == file_hash(Path(other)) for other in alike):
            found[path] = "the same audio is in the training rows too"
    return found


def _draw(
    cloud_of: CloudOf, held_out: list[Sample], baselines: Baselines, scores: Scores, path: Path
) -> None:
    """The middle window of the best, the median and the worst song: what was wanted, the model's, the nearest's."""
    order, chamfer = ranked(scores), scores.measures["chamfer"]
    picked = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    figure, grid = plots.sheet(3, 3, (12, 12.9))
    figure.set_facecolor(render.BACKGROUND)
    for line, (rank, song) in enumerate(picked.items()):
        mine = np.flatnonzero(scores.songs == song)
        index = int(mine[np.argsort(chamfer[MODEL][mine])[len(mine) // 2]])
        window, heard, wanted = held_out[index]
        drawn = {MODEL: cloud_of(window, heard), "nearest neighbour": baselines.nearest(heard)}
        titles = [
            f"target ({rank} song: {song[:28]})",
            *(f"{name}: {chamfer[name][index]:.2g}" for name in drawn),
        ]
        for axis, title, cloud in zip(
            grid[3 * line : 3 * line + 3], titles, (wanted, *drawn.values()), strict=True
        ):
            axis.imshow(render.image(cloud, 420))
            axis.set_axis_off()
            axis.set_title(title, color="#e8e6df", fontsize=10)
    plots.save(figure, path, 100)
