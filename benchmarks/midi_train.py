"""A training step of the full-size MIDI generator beside transformers' Llama of the same parameter count:
ids a second.

Both: 8 layers of 384 with 6 heads over 388 ids, 8 x 512 ids, bfloat16 autocast, two threads, not compiled, no
dropout, the same fused AdamW. Rounds alternate; the figures are medians. Llama's feed-forward width is chosen
to even out the parameters, ours cross-attends to emotion besides, and Llama gets the faster of its two
attentions.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

import common
from kwela.midi_generator.config import MidiGeneratorModelSettings
from kwela.midi_generator.model import CONTEXT, VOCAB, build
from kwela.music.emotion import PADDED_SIZE

BATCH, LENGTH, ROUNDS = 8, 512, 9


def llama(parameters: int, attention: str) -> nn.Module:
    """A Llama whose size differs from `parameters` by less than one row of its feed-forward layers."""
    full = MidiGeneratorModelSettings()
    fixed = full.layers * 4 * full.width**2 + 2 * VOCAB * full.width
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=full.width,
        intermediate_size=round((parameters - fixed) / (full.layers * 3 * full.width)),
        num_hidden_layers=full.layers,
        num_attention_heads=full.heads,
        num_key_value_heads=full.heads,
        max_position_embeddings=full.window,
        tie_word_embeddings=False,
        use_cache=False,
        attn_implementation=attention,
        pad_token_id=None,
    )
    return transformers.LlamaForCausalLM(config).train()


def stepper(model: nn.Module, loss_of: Callable[[nn.Module], Tensor]) -> Callable[[], float]:
    """A function that takes one optimiser step and returns its seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)

    def step() -> float:
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - began

    return step


def main() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    ids = torch.randint(0, VOCAB, (BATCH, LENGTH + 1))
    emotion = torch.rand(BATCH, PADDED_SIZE)
    context = torch.stack([torch.randint(0, size, (BATCH, LENGTH)) for size in CONTEXT], -1)

    def our_loss(model: nn.Module) -> Tensor:
        logits = model(ids[:, :-1], emotion, context)[0]
        return F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())

    def their_loss(model: nn.Module) -> Tensor:
        return model(input_ids=ids[:, :-1], labels=ids[:, :-1]).loss  # it shifts the labels itself

    ours = build(MidiGeneratorModelSettings().model_dump() | {"dropout": 0.0}).train()
    size = sum(p.numel() for p in ours.parameters())
    steps = {"kwela": stepper(ours, our_loss)}
    for attention in ("sdpa", "eager"):
        peer = llama(size, attention)
        their_size = sum(p.numel() for p in peer.parameters())
        assert abs(their_size / size - 1) < 0.001, f"{their_size} parameters beside {size}"
        steps[attention] = stepper(peer, their_loss)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(ROUNDS):
        for name, step in steps.items():
            taken = step()
            if number:  # the first round allocates
                seconds[name].append(taken)
    speed = {name: BATCH * LENGTH / statistics.median(taken) for name, taken in seconds.items()}
    print(
        f"{size:,} parameters; ids a second: "
        + ", ".join(f"{name} {one:,.0f}" for name, one in speed.items())
    )
    common.write(
        "midi_train",
        speed["kwela"],
        max(speed["sdpa"], speed["eager"]),
        "ids/s",
        "transformers Llama",
        transformers.__version__,
    )


if __name__ == "__main__":
    main()
