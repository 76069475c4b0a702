"""MusicGen's language model over codes, as it is tuned: the decoder and the projection of the prompt.

- The text encoder and the codec are not part of it. Their outputs come from the cache, so they need no
  memory.
- A dropped prompt is one state of zeros after the projection. Cross-attention then adds nothing. This is the
  null condition of classifier-free guidance, as transformers generates with it.
- With LoRA the base model is frozen, and the module's state is the adapter alone. A checkpoint then has
  megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kwela.musicgen import base_model

# The decoder's linear maps. The pattern also fits transformers' whole model, so peft can load the adapter.
TARGETS = r".*decoder\.layers\.\d+\..*(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"
_LORA = ".lora_"


class MusicLm(nn.Module):
    """The language model: prompt states and codes in, logits of the next codes out.

    decoder: transformers' MusicgenForCausalLM. projection: maps prompt states to the decoder's width; None if
    they have that width. adapter_only: `state_dict` holds the LoRA adapter alone.
    """

    def __init__(self, decoder: nn.Module, projection: nn.Module | None, adapter_only: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.enc_to_dec_proj = projection if projection is not None else nn.Identity()
        self.adapter_only = adapter_only

    def forward(self, codes: Tensor, states: Tensor, mask: Tensor, past: Any = None) -> Tensor:
        """Return the logits (B, K, T, codebook size) of the next codes.

        codes: (B, K, T) int64, delayed. states: (B, S, text width), of the prompt. mask: (B, S), 1 where a
        state counts, all 0 for no prompt. past: transformers' cache of attention, which grows by T.
        """
        batch, codebooks, steps = codes.shape
        states = self.enc_to_dec_proj(states.to(self._dtype())) * mask[..., None].to(self._dtype())
        attended = mask.clone()
        attended[:, 0] = 1  # attention needs at least one state; without a prompt that state is zeros
        output = self.decoder(
            input_ids=codes.reshape(batch * codebooks, steps),
            encoder_hidden_states=states,
            encoder_attention_mask=attended,
            past_key_values=past,
            use_cache=past is not None,
        )
        return output.logits.view(batch, codebooks, steps, -1)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the weights that tuning changes: the adapter, or all weights."""
        state = super().state_dict(*args, **kwargs)
        return {name: value for name, value in state.items() if _LORA in name} if self.adapter_only else state

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load what `state_dict` returned. Raises RuntimeError, as torch does, if names or shapes differ."""
        if strict and state.keys() != self.state_dict().keys():
            differing = sorted(state.keys() ^ self.state_dict().keys())
            raise RuntimeError(f"missing or unexpected weights: {differing[0]} (of {len(differing)})")
        return super().load_state_dict(state, strict=False, assign=assign)

    def merge(self) -> MusicLm:
        """Add the adapter, if there is one, to the base weights, so that it costs no time."""
        for layer in self.modules():
            if hasattr(layer, "lora_A"):
                layer.merge()  # type: ignore[operator]
        return self

    def _dtype(self) -> torch.dtype:
        return next(self.decoder.parameters()).dtype


def build(
    settings: Mapping[str, Any], tiny_folder: Path, frozen_dtype: torch.dtype = torch.float32
) -> MusicLm:
    """Build the model of the settings config["model"]: pretrained weights and, with LoRA, a zero adapter.

    frozen_dtype: of base weights that are not trained; half precision halves their memory. Raises UserError
    as `base_model.find` does.
    """
    whole = base_model.load(base_model.find(settings["base"], tiny_folder))
    lora = settings["tuning"] == "lora"
    model = MusicLm(whole.decoder, getattr(whole, "enc_to_dec_proj", None), adapter_only=lora)
    if lora:
        from peft import inject_adapter_in_model

        model.requires_grad_(False)
        model.to(frozen_dtype)
        inject_adapter_in_model(lora_config(settings), model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(_LORA in name)
            if _LORA in name:
                parameter.data = (
                    parameter.data.float()
                )  # kept fp32, so that small steps are not lost to rounding
    return model


def lora_config(settings: Mapping[str, Any]) -> Any:
    """Return peft's settings of the adapter that config["model"] describes."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings["rank"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=TARGETS,
        bias="none",
    )
