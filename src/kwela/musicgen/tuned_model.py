"""Save and load a fine-tuned MusicGen: best_model.pt, and a folder for transformers or peft.

- best_model.pt is a checkpoint without the optimiser. It holds the weights (with LoRA, of the adapter alone),
  the settings, and the hash of the base model that they fit. torch can load it with `weights_only`.
- The folder has peft's layout for an adapter, which fits transformers' whole MusicGen, and transformers' own
  layout after full tuning: safetensors, and a model card with the licences.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kwela import files
from kwela.engine import checkpoint
from kwela.errors import UserError
from kwela.musicgen import base_model, model, model_card
from kwela.musicgen.config import MusicgenModelSettings

BEST_MODEL = "best_model.pt"
_PEFT_PREFIX = "base_model.model."
_UNSUPPORTED = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern")  # settings of peft


def write_best_model(best: Path) -> Path:
    """Write best_model.pt beside the checkpoint `best`, and return its path."""
    state = checkpoint.load(best)
    path = best.with_name(BEST_MODEL)
    checkpoint.save(state | {"optimizer": {}, "scaler": {}, "extra": {}}, path)
    return path


def load_checkpoint(path: Path, tiny_folder: Path) -> tuple[model.MusicLm, Path, dict[str, Any]]:
    """Load the model of best_model.pt, best.pt or the like.

    Returns the tuned model, its base's folder and the checkpoint's state. Raises UserError if it is not a
    checkpoint of MusicGen, or if the base model that it was tuned from is missing or has changed.
    """
    state = checkpoint.load(path)
    settings = state["config"].get("model") or {}
    if state["family"] != "musicgen" or not isinstance(settings.get("base"), str):
        raise UserError(f"{path}: a checkpoint of {state['family']}, not of musicgen")
    base_folder = base_model.find(settings["base"], tiny_folder)
    fingerprint = base_model.fingerprint(base_folder)
    if state["tokenizer_hash"] != fingerprint:
        raise UserError(
            f"{path}: tuned from another model than the {settings['base']} that is here: bring that one back"
        )
    tuned = checkpoint.rebuild(
        path,
        state,
        "musicgen",
        MusicgenModelSettings,
        lambda settings: model.build(settings, tiny_folder),
        fingerprint,
    )
    return tuned, base_folder, state


def export(
    checkpoint_path: Path, out: Path, tiny_folder: Path, report: Mapping[str, Any] | None = None
) -> Path:
    """Write the checkpoint's model as the folder `out`, whole or not at all, and return `out`.

    report: the data set's dataset_report.json, for the model card. Raises UserError as `load_checkpoint`
    does.
    """
    tuned, base_folder, state = load_checkpoint(checkpoint_path, tiny_folder)
    settings = state["config"]["model"]
    with files.draft(out) as draft:
        draft.mkdir()
        if settings["tuning"] == "lora":
            _save_adapter(tuned, settings, base_model.fingerprint(base_folder), draft)
        else:
            whole = base_model.load(base_folder)
            whole.decoder.load_state_dict(tuned.decoder.state_dict())
            if hasattr(whole, "enc_to_dec_proj"):
                whole.enc_to_dec_proj.load_state_dict(tuned.enc_to_dec_proj.state_dict())
            whole.save_pretrained(draft)
            base_model.load_tokenizer(base_folder).save_pretrained(draft)
        (draft / "README.md").write_text(model_card.render(state, report), encoding="utf-8")
    return out


def _save_adapter(tuned: model.MusicLm, settings: Mapping[str, Any], fingerprint: str, out: Path) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    weights = get_peft_model_state_dict(tuned)
    save_file({f"{_PEFT_PREFIX}{name}": value.contiguous() for name, value in weights.items()},
              out / "adapter_model.safetensors", {"format": "pt", "base": fingerprint})  # fmt: skip
    config = model.lora_config(settings)
    config.base_model_name_or_path, config.inference_mode = settings["base"], True
    config.save_pretrained(str(out))


def load_folder(folder: Path, tiny_folder: Path) -> tuple[model.MusicLm, Path]:
    """Load an exported adapter, or a folder in transformers' layout. Returns the model and its base's folder.

    Raises UserError if the folder is not readable as either, or if the adapter does not fit its base model.
    """
    if not (folder / "adapter_config.json").is_file():
        base_folder = base_model.find(str(folder), tiny_folder)
        return model.build({"base": str(base_folder), "tuning": "full"}, tiny_folder), base_folder
    try:
        settings, weights, fingerprint = _read_adapter(folder)
    except Exception as error:  # peft's and safetensors' files can be damaged in any way
        reason = " ".join(str(error).split())
        raise UserError(f"{folder}: not readable as an adapter: {type(error).__name__}: {reason}") from None
    base_folder = base_model.find(settings["base"], tiny_folder)
    if fingerprint not in (None, base_model.fingerprint(base_folder)):
        raise UserError(f"{folder}: tuned from another model than the {settings['base']} that is here")
    tuned = model.build(settings, tiny_folder)
    try:
        tuned.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise UserError(f"{folder}: its weights don't fit {settings['base']}: {reason}") from None
    return tuned.eval(), base_folder


def _read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """Return the model's settings, the adapter's weights, and the base's fingerprint if the file has one."""
    from safetensors import safe_open

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    settings = MusicgenModelSettings(
        base=config["base_model_name_or_path"], rank=config["r"], alpha=config["lora_alpha"], dropout=0.0
    ).model_dump()
    unsupported = [key for key in _UNSUPPORTED if config.get(key)]
    if unsupported:
        raise ValueError(f"{unsupported[0]} is not supported")
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        weights = {_module_name(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return settings, weights, (file.metadata() or {}).get("base")


def _module_name(name: str) -> str:
    """Return the name in MusicLm, where adapters have names, of a weight in peft's file."""
    name = name.removeprefix(_PEFT_PREFIX)
    for part in ("lora_A", "lora_B"):
        name = name.replace(f".{part}.weight", f".{part}.default.weight")
    return name
