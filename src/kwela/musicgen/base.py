"""The pretrained MusicGen that a run starts from: a hub id, a folder, or the stand-in called `tiny`.

A base is a folder in transformers' layout: config.json, safetensors, the text tokenizer's files. Only safetensors are
read, and no code of the folder is run. It holds three models: a text encoder (T5), a codec (EnCodec) and the language
model over codes (the decoder), the largest by far. Who needs one of the first two loads that alone.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from kwela import files
from kwela.errors import UserError
from kwela.musicgen.transformers_output import silence_transformers

TINY = "tiny"
_FILES = [
    "*config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "spiece.*",
]


class Codec(NamedTuple):
    """What the base's config says of its codes."""

    codebooks: int
    size: int  # of a codebook; the id after its last one pads
    rate: int  # Hz
    hop: int  # samples a frame


def find(name: str, tiny: Path) -> Path:
    """The folder of the base called `name`, downloaded if it is a hub id. `tiny`: where the stand-in is, or is built.

    Raises UserError: no such folder, a folder without weights, or a hub id that can't be had.
    """
    if name == TINY:
        from kwela.musicgen import tiny as stand_in

        return stand_in.build(tiny)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if folder.is_absolute() or name.count("/") != 1 or name.startswith((".", "~")):
            raise UserError(f"{name}: no such folder, and not a hub id (owner/name) either")
        folder = _download(name)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: not a model folder: it has no config.json")
    if not list(folder.glob("*.safetensors")):
        found = sorted(path.name for path in folder.glob("*.bin")) or "none"
        raise UserError(
            f"{folder}: a model folder without weights: *.safetensors are needed (found: {found})"
        )
    codec(folder)
    return folder


def codec(folder: Path) -> Codec:
    """Raises UserError if the folder's config.json isn't that of a mono MusicGen."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        decoder, encoder = config["decoder"], config["audio_encoder"]
        hop = 1
        for ratio in encoder.get("upsampling_ratios", [8, 5, 4, 2]):
            hop *= int(ratio)
        found = Codec(
            int(decoder.get("num_codebooks", 4)),
            int(decoder.get("vocab_size", 2048)),
            int(encoder.get("sampling_rate", 24_000)),
            hop,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not the config of a MusicGen: {type(error).__name__}: {error}") from None
    if not (
        1 <= found.codebooks <= 64 and 2 <= found.size < 2**15 and 1 <= found.hop <= found.rate <= 192_000
    ):
        raise UserError(f"{path}: not the config of a MusicGen: {found}")
    if decoder.get("audio_channels", 1) != 1:
        raise UserError(f"{path}: a stereo MusicGen; kwela tunes the mono ones")
    return found


@functools.cache
def fingerprint(folder: Path) -> str:
    """A hash of all that makes the base compute what it does: its config and its weights, in hex."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(bytes.fromhex(files.sha256(path)))
    return digest.hexdigest()


def load(folder: Path) -> Any:
    """The whole model (MusicgenForConditionalGeneration), float32, in eval mode. Raises UserError if it can't be."""
    from transformers import MusicgenForConditionalGeneration

    model = _load(MusicgenForConditionalGeneration, folder)
    model.decoder.model.decoder.layerdrop = 0.0  # it draws from a generator that isn't torch's
    return model


def text_encoder(folder: Path) -> Any:
    """The text encoder alone, as `load`."""
    from transformers import AutoModelForTextEncoding

    return _part(AutoModelForTextEncoding, folder, "text_encoder")


def audio_encoder(folder: Path) -> Any:
    """The codec alone, as `load`."""
    from transformers import AutoModel

    return _part(AutoModel, folder, "audio_encoder")


def _part(kind: Any, folder: Path, name: str) -> Any:
    silence_transformers()
    from transformers import MusicgenConfig

    try:
        config = getattr(MusicgenConfig.from_pretrained(folder, local_files_only=True), name)
    except Exception as error:
        raise _not_loadable(folder, error) from None
    return _load(kind, folder, config=config, key_mapping={rf"^{name}\.": ""})


def _load(kind: Any, folder: Path, **more: Any) -> Any:
    silence_transformers()
    try:
        model, about = kind.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            dtype="float32",
            output_loading_info=True,
            **more,
        )
    except Exception as error:  # transformers raises whatever its parts do
        raise _not_loadable(folder, error) from None
    missing = sorted(dict(model.named_parameters()).keys() & set(about["missing_keys"]))
    if missing:  # transformers would go on with random ones
        raise UserError(f"{folder}: a model folder without all its weights: {missing[0]} (of {len(missing)})")
    return model.eval()


def _not_loadable(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder}: not loadable as a MusicGen: {_line(error)}")


def _line(error: Exception) -> str:
    """The first line of its message, or its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def tokenizer(folder: Path) -> Any:
    """The text encoder's tokenizer."""
    silence_transformers()
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise UserError(f"{folder}: its text tokenizer is missing or unreadable: {_line(error)}") from None


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except Exception as error:  # offline, a typo, a gated model: what to do is the same
        why = _line(error).rstrip(".")
        raise UserError(
            f"{name}: not on this machine, and the hub didn't give it ({why}). Place it by hand: download "
            f"https://huggingface.co/{name}/tree/main (config.json, *.safetensors, the tokenizer's files) into a "
            f"folder, and name that folder as model_name"
        ) from None
