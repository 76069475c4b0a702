"""Write the model card of a fine-tune, in the Markdown of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def render(state: Mapping[str, Any], report: Mapping[str, Any] | None) -> str:
    """Return the card: the base model, the figures and the licences.

    state: of the checkpoint. report: the data set's dataset_report.json. A figure that is missing there is
    "not measured", and without a report the clips are "not known".
    """
    config = state["config"]
    settings, lora = config["model"], config["model"]["tuning"] == "lora"
    tuned_weights = f"A LoRA adapter of rank {settings['rank']}" if lora else "All weights of the decoder"
    rows = "\n".join(f"| {name} | {figure} |" for name, figure in _figures(state, report).items())
    return f"""---
base_model: {settings["base"]}
library_name: {"peft" if lora else "transformers"}
pipeline_tag: text-to-audio
license: cc-by-nc-4.0
tags: [musicgen, {"lora" if lora else "full-tuning"}]
---

# A fine-tune of {settings["base"]}

{tuned_weights}, tuned by kwela on {config["data"]["seconds"]:g}-second crops.

| | |
|---|---|
{rows}

## Licences: not for commercial use

- MusicGen's weights: CC BY-NC 4.0. A model that is tuned from them falls under the same licence.
- MagnaTagATune's clips, where the model was trained on them: CC BY-NC-SA 1.0.

## Limits of these figures

A lower loss does not mean more of a style. `kwela judge authenticity` measures style, with its floor and its
ceiling. `kwela judge damage` measures what was lost by tuning. Clips of MagnaTagATune hold
nothing above 8 kHz.
"""


def _figures(state: Mapping[str, Any], report: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the rows of the card's table. A state or report of an unknown shape gives "not measured"."""
    meta, progress = state["meta"], state["progress"]
    readers: dict[str, Callable[[], str]] = {
        "validation loss (nats a code)": lambda: f"{meta['val']['val_loss']:.4f}",
        "the base model's, on the same crops": lambda: f"{meta['untrained']:.4f}",
        "steps": lambda: f"{progress['step']:,}",
        "clips": lambda: f"{report['kept']:,} ({report['hours']} hours)" if report else "not known",
    }
    figures = {}
    for name, read in readers.items():
        try:
            figures[name] = read()
        except (KeyError, TypeError, ValueError):
            figures[name] = "not measured"
    return figures
