"""What a fine-tune leaves for others: best_model.pt, and a folder for transformers or peft.

- best_model.pt is a checkpoint without the optimiser: weights (the adapter alone, with LoRA), settings, and the hash of
  the base that they fit. It opens with torch's `weights_only`.
- The folder is peft's for an adapter (it goes on transformers' whole MusicGen), transformers' own after full tuning:
  safetensors, and a model card with its licences.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kwela import files
from kwela.engine import checkpoint
from kwela.errors import UserError
from kwela.musicgen import base, model
from kwela.musicgen.config import MusicgenModelSettings

BEST_MODEL = "best_model.pt"


def strip(best: Path) -> Path:
    """Write best_model.pt beside the checkpoint `best`, and return its path."""
    state = checkpoint.load(best)
    out = best.with_name(BEST_MODEL)
    checkpoint.save(state | {"optimizer": {}, "scaler": {}, "extra": {}}, out)
    return out


def restore(path: Path, tiny: Path) -> tuple[model.MusicLm, Path, dict[str, Any]]:
    """The tuned model of a checkpoint (best_model.pt, best.pt, ...), its base's folder, and the checkpoint's state.

    Raises UserError: not a MusicGen checkpoint, its base can't be had, or the base there is another one.
    """
    state = checkpoint.load(path)
    settings = state["config"].get("model") or {}
    if state["family"] != "musicgen" or not isinstance(settings.get("base"), str):
        raise UserError(f"{path}: a checkpoint of {state['family']}, not of musicgen")
    folder = base.find(settings["base"], tiny)
    own = base.fingerprint(folder)
    if state["tokenizer_hash"] != own:
        raise UserError(
            f"{path}: tuned from another model than the {settings['base']} that is here: bring that one back"
        )
    tuned = checkpoint.rebuild(
        path, state, "musicgen", MusicgenModelSettings, lambda settings: model.build(settings, tiny), own
    )
    return tuned, folder, state


def export(path: Path, out: Path, tiny: Path, report: Mapping[str, Any] | None = None) -> Path:
    """Write the folder of the checkpoint `path` into `out`, whole or not at all, and return it.

    report: the data set's dataset_report.json, for the card.
    """
    tuned, folder, state = restore(path, tiny)
    settings = state["config"]["model"]
    with files.draft(out) as draft:
        draft.mkdir()
        if settings["tuning"] == "lora":
            _adapter(tuned, settings, base.fingerprint(folder), draft)
        else:
            whole = base.load(folder)
            whole.decoder.load_state_dict(tuned.decoder.state_dict())
            if hasattr(whole, "enc_to_dec_proj"):
                whole.enc_to_dec_proj.load_state_dict(tuned.enc_to_dec_proj.state_dict())
            whole.save_pretrained(draft)
            base.tokenizer(folder).save_pretrained(draft)
        (draft / "README.md").write_text(card(state, report), encoding="utf-8")
    return out


def _adapter(tuned: model.MusicLm, settings: Mapping[str, Any], fingerprint: str, out: Path) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    weights = get_peft_model_state_dict(tuned)
    save_file({f"base_model.model.{name}": value.contiguous() for name, value in weights.items()},
              out / "adapter_model.safetensors", {"format": "pt", "base": fingerprint})  # fmt: skip
    config = model.lora_config(settings)
    config.base_model_name_or_path, config.inference_mode = settings["base"], True
    config.save_pretrained(str(out))


def load_folder(folder: Path, tiny: Path) -> tuple[model.MusicLm, Path]:
    """The model of an exported folder (an adapter), or of transformers' own; and the folder of its base."""
    described = folder / "adapter_config.json"
    if not described.is_file():
        found = base.find(str(folder), tiny)
        return model.build({"base": str(found), "tuning": "full"}, tiny), found
    from safetensors import safe_open

    try:
        config = json.loads(described.read_text(encoding="utf-8"))
        settings = MusicgenModelSettings(
            base=config["base_model_name_or_path"], rank=config["r"], alpha=config["lora_alpha"], dropout=0.0
        ).model_dump()
        odd = [key for key in ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern") if config.get(key)]
        if odd:
            raise ValueError(f"{odd[0]} is not what kwela makes")
        with safe_open(folder / "adapter_model.safetensors", "pt") as file:
            weights = {_in_place(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            tuned_from = (file.metadata() or {}).get("base")
    except Exception as error:
        why = " ".join(str(error).split())
        raise UserError(f"{folder}: not readable as an adapter: {type(error).__name__}: {why}") from None
    found = base.find(settings["base"], tiny)
    if tuned_from not in (None, base.fingerprint(found)):
        raise UserError(f"{folder}: tuned from another model than the {settings['base']} that is here")
    tuned = model.build(settings, tiny)
    try:
        tuned.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"{folder}: its weights don't fit {settings['base']}: {str(error).splitlines()[-1]}"
        ) from None
    return tuned.eval(), found


def _in_place(name: str) -> str:
    """A name in peft's file -> in the model, where adapters are named."""
    name = name.removeprefix("base_model.model.")
    return name.replace(".lora_A.weight", ".lora_A.default.weight").replace(
        ".lora_B.weight", ".lora_B.default.weight"
    )


def card(state: Mapping[str, Any], report: Mapping[str, Any] | None) -> str:
    """The model card, in the hub's Markdown: what it is, on what, how well, and under which licences."""
    config, meta = state["config"], state["meta"]
    settings, val, progress = config["model"], meta["val"], state["progress"]
    lora = settings["tuning"] == "lora"
    figures: list[tuple[str, Callable[[], Any]]] = [
        ("validation loss (nats a code)", lambda: f"{val['val_loss']:.4f}"),
        ("the base model's, on the same crops", lambda: f"{meta['untrained']:.4f}"),
        ("steps", lambda: f"{progress['step']:,}"),
        ("clips", lambda: f"{report['kept']:,} ({report['hours']} hours)" if report else None),
    ]
    rows = []
    for name, figure in figures:
        try:
            rows.append(f"| {name} | {figure() or 'not known'} |")
        except (KeyError, TypeError, ValueError):
            rows.append(f"| {name} | not measured |")
    return f"""---
base_model: {settings["base"]}
library_name: {"peft" if lora else "transformers"}
pipeline_tag: text-to-audio
license: cc-by-nc-4.0
tags: [musicgen, {"lora" if lora else "full-tuning"}]
---

# A fine-tune of {settings["base"]}

{"A LoRA adapter of rank " + str(settings["rank"]) if lora else "All weights of the decoder"}, tuned by kwela on \
{config["data"]["seconds"]:g}-second crops.

| | |
|---|---|
{chr(10).join(rows)}

## Licences: not for commercial use

- MusicGen's weights: CC BY-NC 4.0. What is tuned from them falls under it.
- MagnaTagATune's clips, where it was trained on them: CC BY-NC-SA 1.0.

## What it can't say

A lower loss is not more of a style. `kwela judge authenticity` measures that, with its floor and its ceiling, and
`kwela judge damage` what tuning cost. Clips of MagnaTagATune hold nothing above 8 kHz.
"""
