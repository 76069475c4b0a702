"""Judge a Spectocloud on held-out songs, every figure beside the target drawn again and three baselines.

docs/judging/clouds.md explains what the figures mean, and how they can mislead.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from kwela import families, files, plots
from kwela.corpus.pairs import rows
from kwela.engine import checkpoint
from kwela.errors import UserError
from kwela.judge.clouds import page, windows
from kwela.judge.clouds.baselines import Baselines
from kwela.judge.clouds.metrics import MODEL, CloudPredictor, CloudScores, rank_songs, score_windows
from kwela.judge.clouds.windows import Window, WindowInputs, WindowWithTarget
from kwela.judge.shared.scorecard import Scorecard
from kwela.spectocloud import render
from kwela.spectocloud.config import SpectocloudData
from kwela.spectocloud.target import Cloud, file_hash

CHECKPOINT = Path("checkpoints/spectocloud/best.pt")
MANIFEST = Path("data/manifests/spectocloud_val.jsonl")
TRAINING = Path("data/manifests/spectocloud_train.jsonl")
MIN_SONGS = 5  # held out; an interval resampled from fewer says next to nothing
MIN_TRAINING_WINDOWS = 8  # from which baselines are made
QUICK, FULL = (3, 40, 300), (8, 200, 2000)  # windows a song, songs, training windows
TRAINING_WINDOWS_PER_SONG = 8


def judge(
    model: Path | None,
    manifest: Path | None,
    training: Path | None,
    *,
    out: Path,
    quick: bool = False,
    seed: int = 0,
) -> Scorecard:
    """Return the scorecard of a checkpoint on the songs of `manifest`, written to `out` with its pictures.

    None stands for the path where training leaves it. training: rows from which baselines are made, and
    against which the held-out songs are checked. Raises UserError for paths that can't be read; refuses below
    MIN_SONGS.
    """
    model, manifest, training = model or CHECKPOINT, manifest or MANIFEST, training or TRAINING
    state = checkpoint.load(model)
    network = families.named("spectocloud").rebuild(model, state)
    held_out_rows, training_rows = (
        rows.read(path, SpectocloudData.row_keys) for path in (manifest, training)
    )
    own_manifests = rows.data_hash([training, manifest]) == state["meta"]["data_hash"]
    predict = network_predictor(network)
    card = judge_clouds(predict, held_out_rows, training_rows, out=out, quick=quick, seed=seed)
    if not own_manifests:
        card.warning = (
            "The checkpoint was trained with other manifests than these: whether it has seen the songs held "
            f"out here isn't known. {card.warning}"
        )
    card.extra_json |= {
        "model": str(model),
        "checkpoint_sha256": files.sha256(model),
        "own_manifests": own_manifests,
    }
    card.write(out, "clouds")
    return card


def network_predictor(network: nn.Module) -> CloudPredictor:
    """Return a function that predicts a window's cloud with a Spectocloud."""

    @torch.inference_mode()
    def predict(window: Window, inputs: WindowInputs) -> Cloud:
        arrays = (inputs.log_mel, window.emotion, inputs.features)
        positions, colors, properties = network(*(torch.from_numpy(array)[None] for array in arrays))[:3]
        return Cloud(positions[0].numpy(), torch.cat([colors, properties], -1)[0].numpy())

    return predict


def judge_clouds(
    predict: CloudPredictor,
    held_out_rows: list[rows.Row],
    training_rows: list[rows.Row],
    *,
    out: Path,
    quick: bool = False,
    seed: int = 0,
) -> Scorecard:
    """Return the scorecard of anything that predicts a cloud for a window.

    held_out_rows, training_rows: as `rows.read` returns them.
    """
    windows_per_song, songs, training_windows = QUICK if quick else FULL
    left_out = find_leaks(held_out_rows, training_rows)
    card = Scorecard(page.TITLE, page.WARNING, quick, seed, extra_json={"left_out": left_out})
    unseen_rows = [row for row in held_out_rows if row["audio_path"] not in left_out]
    chosen = windows.choose_windows(unseen_rows, windows_per_song, songs)
    held_out = windows.read_windows(chosen, left_out, "Hearing held-out songs")
    song_count = len({example.window.song for example in held_out})
    card.extra_json |= {"songs": song_count, "windows": len(held_out)}
    if not held_out and unseen_rows:
        raise UserError(
            f"none of the held-out rows could be read, the first: {next(iter(left_out.values()))}"
        )
    if song_count < MIN_SONGS:
        counted = f"{song_count} held-out songs that training has not seen"
        return card.refuse(f"{counted}; at least {MIN_SONGS} are needed")
    chosen = windows.choose_windows(training_rows, TRAINING_WINDOWS_PER_SONG, songs=len(training_rows))
    chosen = windows.evenly_spaced(chosen, training_windows)
    learnt = windows.read_windows(chosen, left_out, "Hearing training songs")
    if len(learnt) < MIN_TRAINING_WINDOWS:
        counted = f"{len(learnt)} training windows"
        return card.refuse(f"{counted}; at least {MIN_TRAINING_WINDOWS} are needed for the baselines")
    baselines = Baselines(learnt, seed)
    scores = score_windows(predict, held_out, baselines, seed)
    page.add_sections(card, scores, out)
    _draw_examples(predict, held_out, baselines, scores, out / "clouds.png")
    return card


def find_leaks(held_out_rows: list[rows.Row], training_rows: list[rows.Row]) -> dict[str, str]:
    """Return {audio: reason} of held-out rows that share a song or an audio file with the training rows."""
    songs = {row["group"].casefold() for row in training_rows}
    by_size: dict[int, set[str]] = {}
    for row in training_rows:
        by_size.setdefault(Path(row["audio_path"]).stat().st_size, set()).add(row["audio_path"])
    leaks = {}
    for row in held_out_rows:
        path = row["audio_path"]
        same_size = by_size.get(Path(path).stat().st_size, set())
        if row["group"].casefold() in songs:
            leaks[path] = f"the song {row['group']} is in the training rows too"
        elif path not in leaks and any(
            file_hash(Path(path)) == file_hash(Path(other)) for other in same_size
        ):
            leaks[path] = "the same audio is in the training rows too"
    return leaks


def _draw_examples(
    predict: CloudPredictor,
    held_out: list[WindowWithTarget],
    baselines: Baselines,
    scores: CloudScores,
    path: Path,
) -> None:
    """Draw the best, the median and the worst song's middle window: target, model, nearest neighbour."""
    songs, chamfer = rank_songs(scores), scores.measures["chamfer"]
    ranks = {"best": songs[0], "median": songs[len(songs) // 2], "worst": songs[-1]}
    figure, axes = plots.sheet(3, 3, (12, 12.9))
    figure.set_facecolor(render.BACKGROUND)
    for line, (rank, song) in enumerate(ranks.items()):
        of_song = np.flatnonzero(scores.songs == song)
        index = int(of_song[np.argsort(chamfer[MODEL][of_song])[len(of_song) // 2]])
        window, inputs, target = held_out[index]
        predicted = {MODEL: predict(window, inputs), "nearest neighbour": baselines.nearest_cloud(inputs)}
        clouds = {f"target ({rank} song: {song[:28]})": target} | {
            f"{name}: {chamfer[name][index]:.2g}": cloud for name, cloud in predicted.items()
        }
        for axis, (title, cloud) in zip(axes[3 * line : 3 * line + 3], clouds.items(), strict=True):
            axis.imshow(render.image(cloud, 420))
            axis.set_axis_off()
            axis.set_title(title, color="#e8e6df", fontsize=10)
    plots.save(figure, path, 100)
