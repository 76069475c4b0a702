"""The demo's report: each model on held-out songs beside its baselines, as JSON and as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BASELINES = {
    "mean_cloud": "mean cloud",
    "emotion_only": "emotion alone",
    "nearest_neighbour": "nearest song's cloud",
}
NGRAMS = {"unigram_ce": "unigram", "bigram_ce": "bigram", "fourgram_ce": "interpolated 4-gram"}


def measure(root: Path) -> dict[str, Any]:
    """Evaluate both demo models on the held-out songs and draw their loss curves into data/demo/results."""
    from kwela import config, families, plots
    from kwela.engine import checkpoint
    from kwela.midi_generator import task as midi_task
    from kwela.midi_generator.config import MidiGeneratorConfig
    from kwela.spectocloud import task as cloud_task
    from kwela.spectocloud.config import SpectocloudConfig

    folder = root / "data" / "demo" / "results"
    report: dict[str, Any] = {}

    cloud_settings = config.load(SpectocloudConfig, preset="demo")
    best = root / "checkpoints" / "spectocloud" / "best.pt"
    network = families.named("spectocloud").rebuild(best, checkpoint.load(best))
    report["spectocloud"] = cloud_task.evaluate(network, cloud_settings)
    plots.draw_run_loss(
        best.parent / "metrics.jsonl", folder / "spectocloud_loss.png", "pos_loss", "Spectocloud", "Chamfer"
    )

    midi_settings = config.load(MidiGeneratorConfig, preset="demo")
    best = root / "checkpoints" / "midi_generator" / "best.pt"
    player = families.named("midi_generator").rebuild(best, checkpoint.load(best))
    report["midi"] = midi_task.evaluate(player, midi_settings)
    plots.draw_run_loss(
        best.parent / "metrics.jsonl", folder / "midi_loss.png", "loss", "MIDI generator", "nats per id"
    )
    return report


def table(report: dict[str, Any]) -> str:
    """Format the report as text, about 100 columns wide."""
    cloud, midi = report["spectocloud"], report["midi"]
    ratio, bigram, fourgram = cloud["ratio"], midi["ratio_to_bigram"], midi["less_than_fourgram"]
    lines = [
        "",
        f"Spectocloud, {len(cloud['songs'])} held-out songs: squared Chamfer distance, lower is better",
        *_bars(
            [("this model", cloud["val_chamfer"]), ("floor: the target drawn again", cloud["floor"])]
            + [(BASELINES[name], value) for name, value in cloud["baselines"].items()],
            "{:.5f}",
        ),
        f"  (model - floor) / (best baseline - floor) = {_interval(ratio)}",
        "",
        f"MIDI generator, {len(midi['songs'])} held-out songs: nats per id, lower is better",
        *_bars(
            [("this model", midi["val_ce"])]
            + [(NGRAMS[name], value) for name, value in midi["baselines"].items()],
            "{:.3f}",
        ),
        f"  model / bigram = {_interval(bigram)}; 4-gram - model = {_interval(fourgram)} nats",
        "",
        "seconds: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in report["seconds"].items()),
        f"files: {len(report['files'])}, listed in demo_report.json; pictures and music in data/demo/results",
        "Emotions are derived by a rule of mode and tempo, not by listeners. 95 % intervals are by song.",
    ]
    return "\n".join(lines)


def _bars(rows: list[tuple[str, float]], number: str) -> list[str]:
    most = max(value for _, value in rows)
    return [f"  {name:32} {number.format(value)}  {'█' * round(40 * value / most)}" for name, value in rows]


def _interval(estimate: dict[str, Any]) -> str:
    low, high = estimate["ci"]
    return f"{estimate['value']:.2f} [{low:.2f}, {high:.2f}]"
