"""The model: shapes and ranges of the contract, points that follow their densities, and the same numbers in
ONNX.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from small_pairs import TUNE, sing
from torch import Tensor

from kwela.music import audio
from kwela.spectocloud import space
from kwela.spectocloud.model import UNIFORM_SHARE, Spectocloud, build, interpolate, inverse_cdf, sample_points

NAMES = ("positions", "colors", "properties")


def shaken(width: int = 8) -> Spectocloud:
    """A model whose every weight counts: as initialised, many are zero."""
    torch.manual_seed(1)
    model = build({"width": width, "depth": 1})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def inputs(batch: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(batch)
    waves = np.stack([sing(TUNE, 2.0)[at : at + audio.SEGMENT] for at in range(0, 1000 * batch, 1000)])
    emotion = torch.zeros(batch, 64)
    emotion[:, :3] = torch.rand(batch, 3)
    return audio.log_mel(waves), emotion, torch.rand(batch, 32)


@torch.no_grad()
def test_shapes_and_ranges_are_the_contracts() -> None:
    positions, colors, properties, density = shaken()(*inputs(3), with_density=True)
    assert (
        positions.shape == (3, 1200, 3) and colors.shape == (3, 1200, 4) and properties.shape == (3, 1200, 3)
    )
    for values in (positions, colors, properties):
        assert values.dtype == torch.float32 and values.min() >= 0 and values.max() <= 1
    assert density.shape == (3, 2, 120, 64)
    torch.testing.assert_close(density.sum((2, 3)), torch.ones(3, 2))


@torch.no_grad()
def test_each_item_of_a_batch_is_seen_alone() -> None:
    model, (mel, emotion, features) = shaken(), inputs(3)
    together = model(mel, emotion, features)[0]
    alone = model(mel[1:2], emotion[1:2], features[1:2])[0]
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-3


@torch.no_grad()
def test_an_emotion_that_is_not_given_is_none_of_those_that_are() -> None:
    model, (mel, emotion, features) = shaken(), inputs(1)
    absent, neutral = model(mel, emotion * torch.nan, features), model(mel, emotion * 0, features)
    assert all(output.isfinite().all() for output in absent)
    assert (absent[1] - neutral[1]).abs().max() > 1e-4


@torch.no_grad()
def test_a_louder_recording_gives_the_same_cloud() -> None:
    model, (mel, emotion, features) = shaken(), inputs(1)
    louder = mel + (mel > -4.5) * 0.2
    moved = (model(mel, emotion, features)[0] - model(louder, emotion, features)[0]).abs()
    assert moved.mean() < 1e-4  # not 0: of what lay at the floor, some came nearer
    softer = mel.clamp_min(-4) - 0.2 * (
        mel > -2
    )  # not the same sound: its faint parts are louder beside the rest
    assert (model(mel, emotion, features)[0] - model(softer, emotion, features)[0]).abs().mean() > 5e-4


def test_points_fall_as_their_density_says() -> None:
    torch.manual_seed(0)
    density = torch.rand(2, space.ROWS, audio.FRAMES) ** 6
    density[0, :60] = 0
    density[1, :, 32:] = 0
    density /= density.sum((1, 2), keepdim=True)
    points = sample_points(density, torch.from_numpy(space.quasi_random(space.POINTS, 2)))
    assert points.shape == (2, space.POINTS, 2) and points.min() >= 0 and points.max() <= 1
    assert (points[0, :, 1] > 0.5).float().mean() > 0.97  # all but the share that lies everywhere
    assert (points[1, :, 0] < 0.52).float().mean() > 0.97
    share = torch.histc(points[0, :, 0], 8, 0, 1) / space.POINTS
    torch.testing.assert_close(share, density[0].sum(0).view(8, 8).sum(1), atol=0.01, rtol=0)


def test_the_inverse_undoes_the_distribution_function() -> None:
    mass = torch.rand(4, 1, 16, dtype=torch.float64) + 0.1
    mass /= mass.sum(-1, keepdim=True)
    u = torch.linspace(0.01, 0.99, 50)
    place = inverse_cdf(mass, u).numpy()
    edges = np.linspace(0, 1, 17)
    for row in range(4):
        spread = (1 - UNIFORM_SHARE) * mass[row, 0].numpy() + UNIFORM_SHARE / 16
        back = np.interp(place[row], edges, np.concatenate([[0], spread.cumsum()]))
        np.testing.assert_allclose(back, u, atol=1e-6)


def test_features_are_read_between_cell_centres() -> None:
    torch.manual_seed(0)
    features, place = torch.rand(2, 3, 6, 5), torch.rand(2, 40, 2)
    expected = torch.nn.functional.grid_sample(
        features, (2 * place - 1)[:, :, None], align_corners=False, padding_mode="border"
    )
    torch.testing.assert_close(interpolate(features, place), expected[..., 0].transpose(1, 2))


def test_every_weight_learns() -> None:
    model = shaken().train()
    mel, emotion, features = inputs(2)
    emotion[0] = torch.nan
    outputs = model(mel, emotion, features, with_density=True)
    target = [torch.rand_like(output) for output in outputs[:3]]
    loss = sum((a - b).square().sum() for a, b in zip(outputs[:3], target, strict=True))
    (loss - outputs[3].log()[:, :, 50:60].sum()).backward()
    asleep = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert asleep == []


def test_onnx_computes_the_same_at_any_batch(tmp_path: Path) -> None:
    model = shaken(16)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        model,
        inputs(2),
        dynamo=True,
        opset_version=20,
        input_names=["spectrogram", "emotion", "midi_features"],
        output_names=list(NAMES),
        dynamic_shapes={name: {0: batch} for name in ("spectrogram", "emotion", "midi_features")},
        verbose=False,
    )
    assert program is not None
    program.save(tmp_path / "cloud.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "cloud.onnx")
    for size in (1, 3):
        given = inputs(size)
        given[1][0, 1] = torch.nan
        feed = {port.name: tensor.numpy() for port, tensor in zip(session.get_inputs(), given, strict=True)}
        with torch.no_grad():
            expected = model(*given)
        for name, right, got in zip(NAMES, expected, session.run(None, feed), strict=True):
            assert got.shape == tuple(right.shape)
            assert np.abs(got - right.numpy()).max() < 1e-4, name


@pytest.mark.parametrize("width", [32, 40])
def test_the_shipped_sizes_have_one_to_three_million_weights(width: int) -> None:
    count = sum(parameter.numel() for parameter in build({"width": width, "depth": 2}).parameters())
    assert 0.7e6 < count < 3e6
