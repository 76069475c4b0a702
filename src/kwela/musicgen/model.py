"""MusicGen's language model over codes, as it is tuned: the decoder and the projection of the prompt.

- Text encoder and codec are no part of it: their outputs come from the cache, and they are out of memory.
- A forgotten prompt is one state of zeros after the projection, so that cross-attention adds nothing: the null
  condition of classifier-free guidance, as transformers generates it.
- With LoRA the base is frozen, and the state of the module is the adapter alone: a checkpoint is megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kwela.musicgen import base

# The decoder's linear maps; a LoRA on the whole of transformers' model has the same names.
TARGETS = r".*decoder\.layers\.\d+\..*(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"
_LORA = ".lora_"


class MusicLm(nn.Module):
    """decoder: transformers' MusicgenForCausalLM. project: prompt states to the decoder's width; None: no need."""

    def __init__(self, decoder: nn.Module, project: nn.Module | None, adapter_only: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.enc_to_dec_proj = project if project is not None else nn.Identity()
        self.adapter_only = adapter_only

    def forward(self, codes: Tensor, states: Tensor, mask: Tensor, past: Any = None) -> Tensor:
        """Logits (B, K, T, codebook size) of the next codes.

        codes: (B, K, T) int64, delayed. states: the prompt's (B, S, text width); mask: (B, S), 1 where there is one,
        all 0 for no prompt. past: transformers' cache, which grows by T.
        """
        batch, books, steps = codes.shape
        states = self.enc_to_dec_proj(states.to(self._dtype())) * mask[..., None].to(self._dtype())
        attended = mask.clone()
        attended[:, 0] = 1  # something to attend to where there is no prompt: zeros
        out = self.decoder(
            input_ids=codes.reshape(batch * books, steps),
            encoder_hidden_states=states,
            encoder_attention_mask=attended,
            past_key_values=past,
            use_cache=past is not None,
        )
        return out.logits.view(batch, books, steps, -1)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """What tuning changes: the adapter, or everything."""
        state = super().state_dict(*args, **kwargs)
        return {name: value for name, value in state.items() if _LORA in name} if self.adapter_only else state

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Raises RuntimeError, as torch does, if names or shapes aren't those of `state_dict`."""
        if strict and state.keys() != self.state_dict().keys():
            odd = sorted(state.keys() ^ self.state_dict().keys())
            raise RuntimeError(f"missing or unexpected weights: {odd[0]} (of {len(odd)})")
        return super().load_state_dict(state, strict=False, assign=assign)

    def merge(self) -> MusicLm:
        """Fold the adapter, if there is one, into the base, which then costs no more than an untuned one."""
        for layer in self.modules():
            if hasattr(layer, "lora_A"):
                layer.merge()  # type: ignore[operator]
        return self

    def _dtype(self) -> torch.dtype:
        return next(self.decoder.parameters()).dtype


def build(settings: Mapping[str, Any], tiny: Path, frozen_dtype: torch.dtype = torch.float32) -> MusicLm:
    """The model of config["model"], its base as pretrained and its adapter (if it has one) at zero.

    frozen_dtype: of a base that is not trained; half precision halves its memory. Raises UserError as base.find.
    """
    whole = base.load(base.find(settings["base"], tiny))
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
                parameter.data = parameter.data.float()  # kept fp32, so that small steps aren't rounded away
    return model


def lora_config(settings: Mapping[str, Any]) -> Any:
    """peft's settings of the adapter."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings["rank"], lora_alpha=settings["alpha"], lora_dropout=settings["dropout"], target_modules=TARGETS,
        bias="none",
    )  # fmt: skip
