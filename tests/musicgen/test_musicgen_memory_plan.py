"""The plan that is said before the first step, against what autograd really keeps."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from kwela.musicgen import memory_plan, model
from kwela.musicgen.config import MusicgenConfig
from kwela.musicgen.delay import IGNORED, delay

WIDTH, SIZE, FRAMES, BATCH = 256, 128, 250, 4


def network(lora: bool, amp: bool) -> model.MusicLm:
    """A decoder with MusicGen's proportions and dropout, as `model.build` makes one of a base."""
    from peft import inject_adapter_in_model
    from transformers import MusicgenDecoderConfig, MusicgenForCausalLM

    shape = MusicgenDecoderConfig(
        vocab_size=SIZE, num_codebooks=4, hidden_size=WIDTH, ffn_dim=4 * WIDTH, num_hidden_layers=3,
        num_attention_heads=4, dropout=0.1, pad_token_id=SIZE, bos_token_id=SIZE,
    )  # fmt: skip
    made = model.MusicLm(MusicgenForCausalLM(shape), torch.nn.Linear(32, WIDTH), lora)
    if lora:
        made.requires_grad_(False)
        made.to(torch.bfloat16 if amp else torch.float32)
        inject_adapter_in_model(model.lora_config({"rank": 16, "alpha": 32.0, "dropout": 0.05}), made)
        for name, parameter in made.named_parameters():
            parameter.requires_grad_(".lora_" in name)
            if ".lora_" in name:
                parameter.data = parameter.data.float()
    return made.train()


def settings(lora: bool, amp: bool, checkpointing: bool = False) -> MusicgenConfig:
    return MusicgenConfig.model_validate(
        {
            "data": {"batch_size": BATCH},
            "model": {"tuning": "lora" if lora else "full"},
            "training": {"amp": amp, "amp_dtype": "bfloat16", "gradient_checkpointing": checkpointing},
        }
    )


@pytest.mark.parametrize(("lora", "amp"), itertools.product([True, False], [True, False]))
def test_activations_are_within_a_quarter_of_what_backward_keeps(lora, amp):
    made = network(lora, amp)
    weights = {parameter.untyped_storage().data_ptr() for parameter in made.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    inputs, targets = delay(torch.randint(SIZE, (BATCH, 4, FRAMES)), SIZE)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=amp):
        logits = made(inputs, torch.randn(BATCH, 8, 32), torch.ones(BATCH, 8).long())
        F.cross_entropy(
            logits.flatten(0, 2).float(), targets.flatten(), ignore_index=IGNORED, reduction="none"
        )
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / memory_plan.GB
    plan = memory_plan.estimate(made, settings(lora, amp), FRAMES, torch.device("cpu"))
    exact = (
        sum(parameter.numel() * parameter.element_size() for parameter in made.parameters()) / memory_plan.GB
    )
    copies = plan.weights - exact  # autocast's of trained weights are among what backward keeps
    assert (copies > 0) == (amp and not lora)
    assert 0.75 < (plan.activations + copies) / measured < 1.25
    trained = sum(parameter.numel() for parameter in made.parameters() if parameter.requires_grad)
    assert plan.optimizer == pytest.approx(3 * 4 * trained / memory_plan.GB)


def test_checkpointing_needs_less_and_too_little_says_what_to_change():
    made, device = network(lora=True, amp=False), torch.device("cpu")
    config = settings(lora=True, amp=False)
    plan = memory_plan.estimate(made, config, FRAMES, device)
    assert (
        memory_plan.estimate(made, settings(True, False, True), FRAMES, device).activations
        < plan.activations / 2
    )
    assert plan.available and "too little" not in plan.describe(config)
    short = memory_plan.MemoryPlan(1.0, 0.5, 6.0, 4.0).describe(config)
    assert "7.50 GB of 4.0 GB: too little; try --set data.batch_size=2" in short
    assert "training.grad_accum_steps=2 or --set training.gradient_checkpointing=true" in short
    assert "too little" not in memory_plan.MemoryPlan(1.0, 0.5, 6.0, None).describe(config)
