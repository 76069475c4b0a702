"""Find and load the pretrained MusicGen that a run starts from: a hub id, a folder, or the stand-in `tiny`.

- A base model is a folder in transformers' layout: config.json, safetensors, and the files of the text
  tokenizer. Only safetensors are read, and no code of the folder is run.
- It holds three models: a text encoder (T5), a codec (EnCodec), and the language model over codes (the
  decoder), which is the largest by far. The text encoder and the codec can be loaded alone.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from kwela import files, tables
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


class CodecShape(NamedTuple):
    """The sizes of a codec, as the base model's config states them."""

    codebooks: int
    codebook_size: int  # codes are 0 .. codebook_size - 1; the id `codebook_size` pads
    sample_rate: int  # Hz
    hop: int  # samples a frame

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop


def find(name: str, tiny_folder: Path) -> Path:
    """Return the folder of the base model called `name`; download it if `name` is a hub id.

    tiny_folder: where the stand-in is, or is built. Raises UserError for a folder that does not exist or has
    no weights, and for a hub id that cannot be downloaded.
    """
    if name == TINY:
        from kwela.musicgen import tiny

        return tiny.build(tiny_folder)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if folder.is_absolute() or name.count("/") != 1 or name.startswith((".", "~")):
            raise UserError(f"{name}: no such folder, and not a hub id (owner/name) either")
        folder = _download(name)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: not a model folder: it has no config.json")
    if not list(folder.glob("*.safetensors")):
        other_weights = sorted(path.name for path in folder.glob("*.bin")) or "none"
        raise UserError(
            f"{folder}: a model folder without weights: *.safetensors are needed (found: {other_weights})"
        )
    codec_shape(folder)
    return folder


def codec_shape(folder: Path) -> CodecShape:
    """Return the codec's sizes. Raises UserError if config.json is not that of a mono MusicGen."""
    path = folder / "config.json"
    try:
        config = tables.parse_json(files.read_text(path, "settings"), str(path))
        decoder, encoder = config["decoder"], config["audio_encoder"]
        hop = 1
        for ratio in encoder.get("upsampling_ratios", [8, 5, 4, 2]):
            hop *= int(ratio)
        shape = CodecShape(
            int(decoder.get("num_codebooks", 4)),
            int(decoder.get("vocab_size", 2048)),
            int(encoder.get("sampling_rate", 24_000)),
            hop,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not the config of a MusicGen: {type(error).__name__}: {error}") from None
    if not (
        1 <= shape.codebooks <= 64
        and 2 <= shape.codebook_size < 2**15
        and 1 <= shape.hop <= shape.sample_rate <= 192_000
    ):
        raise UserError(f"{path}: not the config of a MusicGen: {shape}")
    if decoder.get("audio_channels", 1) != 1:
        raise UserError(f"{path}: a stereo MusicGen; kwela tunes the mono ones")
    return shape


@functools.cache
def fingerprint(folder: Path) -> str:
    """Return the SHA-256, in hex, of what determines the base model's output: its config and weights."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(bytes.fromhex(files.sha256(path)))
    return digest.hexdigest()


def load(folder: Path) -> Any:
    """Load the whole model (MusicgenForConditionalGeneration), float32, in eval mode.

    Raises UserError if the folder is damaged or lacks weights.
    """
    from transformers import MusicgenForConditionalGeneration

    model = _load(MusicgenForConditionalGeneration, folder)
    model.decoder.model.decoder.layerdrop = 0.0  # it would use Python's random numbers, not torch's
    return model


def load_text_encoder(folder: Path) -> Any:
    """Load the text encoder alone, otherwise as `load` does."""
    from transformers import AutoModelForTextEncoding

    return _load_part(AutoModelForTextEncoding, folder, "text_encoder")


def load_codec(folder: Path) -> Any:
    """Load the codec (transformers' EncodecModel) alone, otherwise as `load` does."""
    from transformers import AutoModel

    return _load_part(AutoModel, folder, "audio_encoder")


def _load_part(model_class: Any, folder: Path, name: str) -> Any:
    silence_transformers()
    from transformers import MusicgenConfig

    try:
        config = getattr(MusicgenConfig.from_pretrained(folder, local_files_only=True), name)
    except Exception as error:
        raise _not_loadable(folder, error) from None
    return _load(model_class, folder, config=config, key_mapping={rf"^{name}\.": ""})


def _load(model_class: Any, folder: Path, **options: Any) -> Any:
    silence_transformers()
    try:
        model, loading_info = model_class.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            dtype="float32",
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # transformers lets errors of any type through
        raise _not_loadable(folder, error) from None
    missing = sorted(dict(model.named_parameters()).keys() & set(loading_info["missing_keys"]))
    if missing:  # transformers would use random weights instead
        raise UserError(f"{folder}: a model folder without all its weights: {missing[0]} (of {len(missing)})")
    return model.eval()


def _not_loadable(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder}: not loadable as a MusicGen: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def load_tokenizer(folder: Path) -> Any:
    """Load the text encoder's tokenizer. Raises UserError if it is missing or damaged."""
    silence_transformers()
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise UserError(
            f"{folder}: its text tokenizer is missing or unreadable: {_first_line(error)}"
        ) from None


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except Exception as error:  # offline, a typo, a gated model: the remedy is the same
        why = _first_line(error).rstrip(".")
        raise UserError(
            f"{name}: not on this machine, and the hub didn't give it ({why}). Place it by hand: "
            f"download https://huggingface.co/{name}/tree/main (config.json, *.safetensors, the tokenizer's "
            f"files) into a folder, and name that folder as model_name"
        ) from None
