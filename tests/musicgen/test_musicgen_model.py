"""The language model that is tuned is transformers' own; a LoRA on it starts at zero and is all that is
saved.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from kwela.errors import UserError
from kwela.musicgen import base_model, model
from kwela.musicgen.delay import delay

LORA = {"base": "tiny", "tuning": "lora", "rank": 4, "alpha": 8.0, "dropout": 0.0}
FULL = LORA | {"tuning": "full"}


@pytest.fixture(scope="module")
def prompts(whole, folder):
    """Token ids and mask of two prompts of unequal length, and the text encoder's states of each alone."""
    tokenizer = base_model.load_tokenizer(folder)
    texts = ["log drums, soulful piano and a shaker", "bass"]
    both = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        alone = [
            whole.text_encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in texts
        ]
    states = torch.zeros(2, both.input_ids.shape[1], alone[0].shape[1])
    for row, state in enumerate(alone):
        states[row, : len(state)] = state
    return both, states


@pytest.fixture
def codes():
    return torch.randint(64, (2, 4, 20), generator=torch.Generator().manual_seed(1))


def theirs(whole, codes, **more):
    """transformers' logits (B, K, T, size)."""
    batch, books, steps = codes.shape
    with torch.no_grad():
        return whole(decoder_input_ids=codes.view(batch * books, steps), **more).logits.view(
            batch, books, steps, -1
        )


def test_logits_are_transformers_for_prompts_of_unequal_length(whole, stand_in, prompts, codes):
    tokens, states = prompts
    lm = model.build(FULL, stand_in).eval()
    with torch.no_grad():
        ours = lm(codes, states, tokens.attention_mask)
        junk = states.masked_fill(tokens.attention_mask[..., None] == 0, 3.0)
        assert torch.equal(ours, lm(codes, junk, tokens.attention_mask))  # what is masked is not heard
        unmasked = lm(codes, junk, torch.ones_like(tokens.attention_mask))
    expected = theirs(whole, codes, **tokens)
    assert (ours - expected).abs().max() < 1e-5
    assert (unmasked - expected)[1].abs().max() > 1e-4  # the control


def test_no_prompt_is_the_null_condition_that_transformers_guides_by(whole, stand_in, prompts, codes):
    """It zeroes the states after their projection: cross-attention then adds its output's bias alone."""
    tokens, states = prompts
    lm = model.build(FULL, stand_in).eval()
    blank = torch.zeros(2, 7, states.shape[-1])
    with torch.no_grad():
        ours = lm(codes, blank, torch.zeros(2, 7).long())
        null = whole.decoder(
            input_ids=codes.view(8, -1),
            encoder_hidden_states=torch.zeros(2, 7, 64),
            encoder_attention_mask=None,
        ).logits.view(ours.shape)
        mixed = lm(codes, states, tokens.attention_mask * torch.tensor([[1], [0]]))
        prompted = lm(codes, states, tokens.attention_mask)
    assert (ours - null).abs().max() < 1e-5
    assert (mixed[1] - null[1]).abs().max() < 1e-5  # beside one that has a prompt
    assert (mixed[0] - prompted[0]).abs().max() < 1e-5
    assert (prompted - null).abs().max() > 1e-4


def test_a_cache_gives_the_same_logits_as_one_pass(stand_in, prompts, codes):
    from transformers import DynamicCache, EncoderDecoderCache

    tokens, states = prompts
    lm = model.build(FULL, stand_in).eval()
    past = EncoderDecoderCache(DynamicCache(), DynamicCache())
    with torch.no_grad():
        once = lm(codes, states, tokens.attention_mask)
        first = lm(codes[..., :9], states, tokens.attention_mask, past)
        rest = [lm(codes[..., at : at + 1], states, tokens.attention_mask, past) for at in range(9, 20)]
    assert (torch.cat([first, *rest], 2) - once).abs().max() < 1e-5


def test_a_new_adapter_changes_nothing_and_is_the_whole_state(stand_in, prompts, codes):
    tokens, states = prompts
    plain, tuned = model.build(FULL, stand_in).eval(), model.build(LORA, stand_in).eval()
    with torch.no_grad():
        assert torch.equal(
            plain(codes, states, tokens.attention_mask), tuned(codes, states, tokens.attention_mask)
        )
    state = tuned.state_dict()
    assert state and all(".lora_" in name for name in state)
    trained = {name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    assert trained == state.keys()
    layers = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in state}
    assert layers == {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}
    assert sum(value.numel() for value in state.values()) < sum(p.numel() for p in plain.parameters()) / 4
    assert (
        plain.state_dict().keys() == dict(plain.named_parameters()).keys()
    )  # the control: full tuning saves all


def test_a_state_of_other_names_or_shapes_is_refused(stand_in):
    tuned = model.build(LORA, stand_in)
    state = tuned.state_dict()
    name = next(iter(state))
    with pytest.raises(RuntimeError, match="missing or unexpected weights"):
        tuned.load_state_dict({key: value for key, value in state.items() if key != name})
    with pytest.raises(RuntimeError, match="missing or unexpected weights"):
        tuned.load_state_dict(state | {"decoder.more": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="size mismatch"):
        tuned.load_state_dict(state | {name: torch.zeros(1, 1)})
    tuned.load_state_dict(state)


def test_a_frozen_base_in_half_precision_keeps_its_adapter_and_gradients_in_single(stand_in, prompts, codes):
    tokens, states = prompts
    tuned = model.build(LORA, stand_in, torch.bfloat16)
    kinds = {parameter.dtype for parameter in tuned.parameters() if not parameter.requires_grad}
    assert kinds == {torch.bfloat16}
    exact = model.build(LORA, stand_in)
    exact.load_state_dict(tuned.state_dict())
    inputs, _ = delay(codes, 64)
    for one in (tuned, exact):
        with torch.autocast("cpu", torch.bfloat16):
            one(inputs, states, tokens.attention_mask).float().square().mean().backward()
    grads = [
        (p.grad, q.grad)
        for p, q in zip(tuned.parameters(), exact.parameters(), strict=True)
        if p.requires_grad
    ]
    assert all(mine.dtype == torch.float32 for mine, _ in grads)
    mine, full = (torch.cat([pair[side].flatten() for pair in grads]) for side in (0, 1))
    assert torch.nn.functional.cosine_similarity(mine, full, dim=0) > 0.99


def test_dropout_of_layers_is_off_for_its_draws_are_not_torchs(stand_in):
    lm = model.build(FULL, stand_in)
    assert lm.decoder.model.decoder.layerdrop == 0.0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda at: at / "nowhere", "no such folder"),
        (lambda at: at, "it has no config.json"),
        (lambda at: (at / "config.json").write_text("{}") and at, "without weights"),
        (
            lambda at: [(at / n).write_text("{}") for n in ("config.json", "pytorch_model.bin")] and at,
            "pytorch_model",
        ),
        (
            lambda at: [(at / n).write_text("{}") for n in ("config.json", "a.safetensors")] and at,
            "not the config of",
        ),
        (
            lambda at: [(at / n).write_text("[]") for n in ("config.json", "a.safetensors")] and at,
            "not the config of",
        ),
    ],
)
def test_a_folder_that_is_no_base_is_named_with_what_it_lacks(tmp_path, stand_in, make, said):
    with pytest.raises(UserError, match=said) as refused:
        base_model.find(str(make(tmp_path)), stand_in)
    assert str(tmp_path) in str(refused.value) and "\n" not in str(refused.value)


def read(file):
    """The tensors of a file that may be written over: not mapped, as `load_file` leaves them."""
    return {name: value.clone() for name, value in load_file(file).items()}


@pytest.mark.parametrize("load", [base_model.load, base_model.load_text_encoder, base_model.load_codec])
def test_damaged_or_missing_weights_are_named_and_never_drawn_at_random(tmp_path, folder, load):
    broken = shutil.copytree(folder, tmp_path / "broken")
    file = broken / "model.safetensors"
    weights = read(file)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match="not loadable as a MusicGen"):
        load(broken)
    gone = ("decoder.model.decoder.layers.1.fc1.weight", "text_encoder.encoder.block.0.layer.0.SelfAttention.q.weight",
            "audio_encoder.encoder.layers.0.conv.bias")  # fmt: skip
    save_file({name: value for name, value in weights.items() if name not in gone}, file, {"format": "pt"})
    with pytest.raises(UserError, match="without all its weights: ") as refused:
        load(broken)
    assert "\n" not in str(refused.value)


def test_parts_are_those_of_the_whole_also_under_the_names_of_older_files(tmp_path, folder, whole):
    """Released MusicGens were saved when torch kept a normed weight as weight_g and weight_v."""
    old = shutil.copytree(folder, tmp_path / "old")
    weights = read(old / "model.safetensors")
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {}
    for name, value in weights.items():
        for new, before in names.items():
            name = name.replace(new, before)
        renamed[name] = value
    assert renamed.keys() != weights.keys()
    save_file(renamed, old / "model.safetensors", {"format": "pt"})
    for place in (folder, old):
        for part in ("text_encoder", "audio_encoder"):
            load = base_model.load_codec if part == "audio_encoder" else base_model.load_text_encoder
            mine, theirs = load(place).state_dict(), getattr(whole, part).state_dict()
            assert mine.keys() == theirs.keys() and all(
                torch.equal(mine[name], theirs[name]) for name in theirs
            )


CONFIG = {"decoder": {}, "audio_encoder": {"upsampling_ratios": [8, 5, 4, 4], "sampling_rate": 32_000}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decoder": []}, "not the config of a MusicGen"),
        ({"decoder": {"num_codebooks": 0}}, "not the config of a MusicGen"),
        ({"decoder": {"vocab_size": 40_000}}, "not the config of a MusicGen"),  # more than int16 holds
        ({"decoder": {"vocab_size": "many"}}, "not the config of a MusicGen"),
        ({"decoder": {"num_codebooks": float("inf")}}, "not the config of a MusicGen"),
        ({"audio_encoder": {"upsampling_ratios": [0]}}, "not the config of a MusicGen"),
        ({"audio_encoder": {"upsampling_ratios": [10**9, 10**9]}}, "not the config of a MusicGen"),
        ({"audio_encoder": {"sampling_rate": -1}}, "not the config of a MusicGen"),
        ({"decoder": {"audio_channels": 2}}, "a stereo MusicGen"),
    ],
)
def test_a_config_out_of_range_is_refused(tmp_path, change, said):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert base_model.codec_shape(tmp_path) == (4, 2048, 32_000, 640)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(UserError, match=said) as refused:
        base_model.codec_shape(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_no_code_of_a_folder_is_run(tmp_path, folder, monkeypatch):
    from transformers import AutoTokenizer, dynamic_module_utils

    for name in ("HF_MODULES_CACHE", "TRANSFORMERS_DYNAMIC_MODULE_NAME"):
        monkeypatch.setattr(
            dynamic_module_utils, name, str(tmp_path / "modules") if "CACHE" in name else "of_a_test"
        )
    monkeypatch.setattr(sys, "path", list(sys.path))
    crafted, mark = shutil.copytree(folder, tmp_path / "crafted"), tmp_path / "ran"
    (crafted / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
    for name, key in (("config.json", "AutoModel"), ("tokenizer_config.json", "AutoTokenizer")):
        config = json.loads((crafted / name).read_text())
        config |= {"auto_map": {key: ["evil.Evil", "evil.Evil"]}}
        (crafted / name).write_text(
            json.dumps(config | ({"tokenizer_class": "Evil"} if "tok" in name else {}))
        )
    for load in (
        base_model.load,
        base_model.load_text_encoder,
        base_model.load_codec,
        base_model.load_tokenizer,
    ):
        with contextlib.suppress(UserError):
            load(crafted)
    assert not mark.exists()
    with contextlib.suppress(Exception):
        AutoTokenizer.from_pretrained(crafted, trust_remote_code=True)
    assert mark.exists()  # the control: there was code to run


def test_a_hub_id_without_network_says_how_to_place_the_folder(monkeypatch, tmp_path, stand_in):
    import huggingface_hub

    def offline(*_, **__):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(UserError, match="Place it by hand") as refused:
        base_model.find("facebook/musicgen-small", stand_in)
    said = str(refused.value)
    assert (
        "https://huggingface.co/facebook/musicgen-small" in said and "model_name" in said and "\n" not in said
    )


def test_another_base_has_another_fingerprint_and_the_stand_in_is_the_same_everywhere(tmp_path, folder):
    from kwela.musicgen import tiny

    again = tiny.build(tmp_path)
    assert base_model.fingerprint(again) == base_model.fingerprint(folder)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    assert base_model.fingerprint(other) != base_model.fingerprint(folder)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_checkpointed_gradients_are_the_same(stand_in, prompts, codes):
    tokens, states = prompts
    inputs, _ = delay(codes, 64)
    found, runs = [], []
    for checkpointed in (False, True):
        lm = model.build(FULL, stand_in).train()
        if checkpointed:
            lm.decoder.gradient_checkpointing_enable({"use_reentrant": False})
        runs.append([])
        lm.decoder.model.decoder.layers[0].fc1.register_forward_hook(lambda *_, ran=runs[-1]: ran.append(1))
        loss = lm(inputs, states, tokens.attention_mask).square().mean()
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in lm.parameters() if p.grad is not None)])
    assert len(found[0]) > 20
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert [len(ran) for ran in runs] == [1, 2]  # the second was really computed again
