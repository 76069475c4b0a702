"""What a fine-tune leaves: reloaded by us, transformers and peft, it gives the same logits; others are
refused.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fine_tune
import pytest
import torch
from safetensors.torch import load_file, save_file

from kwela.engine import checkpoint
from kwela.errors import UserError
from kwela.musicgen import base_model, model, model_card, tuned_model

REPORT = {"kept": 1234, "hours": 9.9}


def logits(lm, seed: int = 0) -> torch.Tensor:
    """Of MusicLm, for random codes and states of two prompts of unequal length."""
    draw = torch.Generator().manual_seed(seed)
    codes = torch.randint(64, (2, 4, 30), generator=draw)
    mask = torch.tensor([[1] * 6, [1] * 3 + [0] * 3])
    with torch.no_grad():
        return lm(codes, torch.randn(2, 6, 32, generator=draw), mask)


def of_whole(whole, seed: int = 0) -> torch.Tensor:
    """The same of transformers' whole model, or of peft's around it."""
    inner = whole.get_base_model() if hasattr(whole, "get_base_model") else whole
    return logits(model.MusicLm(inner.decoder, inner.enc_to_dec_proj, adapter_only=False).eval(), seed)


@pytest.fixture(scope="module", params=["lora", "full"])
def run(request, table, place, stand_in, cached, tmp_path_factory) -> tuple[str, Path]:
    """The tuning, and the folder of a short run at a high rate, so that what was tuned shows."""
    out = tmp_path_factory.mktemp(request.param)
    overrides = (
        *fine_tune.SETTINGS,
        f"model.tuning={request.param}",
        "training.max_steps=6",
        "optim.lr=0.02",
    )
    fine_tune.fit(
        fine_tune.settings(table, place, stand_in, *overrides), out, on_best=tuned_model.write_best_model
    )
    return request.param, out


@pytest.fixture(scope="module")
def exported(run, stand_in) -> Path:
    return tuned_model.export(run[1] / "best.pt", run[1] / "model", stand_in, REPORT)


def test_best_model_opens_with_weights_only_and_holds_what_was_tuned_alone(run):
    tuned, out = run
    state = torch.load(out / "best_model.pt", weights_only=True)
    assert state["optimizer"] == {} and state["model"]
    assert all(".lora_" in name for name in state["model"]) == (tuned == "lora")
    best = checkpoint.load(out / "best.pt")
    assert all(torch.equal(value, best["model"][name]) for name, value in state["model"].items())
    assert (out / "best_model.pt").stat().st_size < 0.5 * (out / "best.pt").stat().st_size


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's
def test_every_way_back_gives_the_same_logits(run, exported, stand_in, folder):
    tuned, out = run
    lm, found, state = tuned_model.load_checkpoint(out / "best_model.pt", stand_in)
    assert found == folder and state["progress"]["step"] > 0
    expected = logits(lm)
    untuned = logits(model.build({"base": "tiny", "tuning": "full"}, stand_in).eval())
    assert (expected - untuned).abs().max() > 1e-2  # the control: there is something to lose

    ours, _ = tuned_model.load_folder(exported, stand_in)
    assert torch.equal(logits(ours), expected)
    assert (logits(ours.merge()) - expected).abs().max() <= 1e-5  # as it is played
    if tuned == "lora":
        from peft import PeftModel

        theirs = PeftModel.from_pretrained(base_model.load(folder), str(exported)).eval()
        assert (of_whole(theirs) - expected).abs().max() <= 1e-5
        merged = theirs.merge_and_unload()
        assert not [name for name, _ in merged.named_modules() if "lora" in name]
        assert (of_whole(merged) - expected).abs().max() <= 1e-5
    else:
        assert (of_whole(base_model.load(exported)) - expected).abs().max() <= 1e-5
        assert (
            base_model.load_tokenizer(exported)("a drum").input_ids
            == base_model.load_tokenizer(folder)("a drum").input_ids
        )


def test_the_card_names_figures_and_licences(run, exported):
    card = (exported / "README.md").read_text()
    assert "CC BY-NC 4.0" in card and "CC BY-NC-SA" in card and "license: cc-by-nc-4.0" in card
    state = checkpoint.load(run[1] / "best.pt")
    for figure in (
        f"{state['meta']['val']['val_loss']:.4f}",
        f"{state['meta']['untrained']:.4f}",
        "1,234 (9.9 hours)",
    ):
        assert figure in card
    assert "base_model: tiny" in card and ("peft" in card) == (run[0] == "lora")
    assert (
        model_card.render(state | {"meta": {"val": {}}}, {"kept": "many", "hours": 1}).count("not measured")
        == 3
    )


def test_an_export_replaces_another_whole(run, exported, stand_in):
    (exported / "old.txt").write_text("of another export")
    again = tuned_model.export(run[1] / "best.pt", exported, stand_in)
    assert not (again / "old.txt").exists() and "not known" in (again / "README.md").read_text()
    assert not list(again.parent.glob(".model*"))
    names = {path.name for path in again.iterdir()}
    assert ("adapter_model.safetensors" if run[0] == "lora" else "model.safetensors") in names
    assert not [name for name in names if name.endswith((".bin", ".pt"))]


# --------------------------------------------------------------------- refusals


@pytest.fixture
def another(folder, tmp_path) -> Path:
    """A base with other weights of the same shapes."""
    copy = shutil.copytree(folder, tmp_path / "another")
    weights = load_file(copy / "model.safetensors")
    save_file({name: value + 0.01 if value.is_floating_point() else value.clone() for name, value in weights.items()},
              copy / "model.safetensors", {"format": "pt"})  # fmt: skip
    return copy


def test_another_bases_checkpoint_is_refused(run, exported, another, stand_in, tmp_path):
    state = checkpoint.load(run[1] / "best.pt")
    state["config"]["model"]["base"] = str(another)
    checkpoint.save(state, tmp_path / "theirs.pt")
    with pytest.raises(
        UserError, match=r"theirs\.pt: tuned from another model than the .*another that is here"
    ):
        tuned_model.load_checkpoint(tmp_path / "theirs.pt", stand_in)
    if run[0] == "lora":
        copy = shutil.copytree(exported, tmp_path / "adapter")
        config = json.loads((copy / "adapter_config.json").read_text())
        (copy / "adapter_config.json").write_text(
            json.dumps(config | {"base_model_name_or_path": str(another)})
        )
        with pytest.raises(UserError, match="tuned from another model"):
            tuned_model.load_folder(copy, stand_in)


def test_a_checkpoint_of_another_family_or_with_odd_settings_is_refused(run, stand_in, tmp_path):
    path = tmp_path / "odd.pt"
    for change, said in (
        ({"family": "midi_generator"}, "a checkpoint of midi_generator, not of musicgen"),
        ({"config": {"model": None}}, "not of musicgen"),
        ({"config": {"model": {"rank": 10**9}}}, "config.model.rank"),
        ({"config": {"model": {"rank": 5}}}, "its weights don't fit its settings"),
        ({"config": {"model": {"base": "/nowhere/at all"}}}, "no such folder"),
    ):
        if "rank" in str(change) and run[0] == "full" and "weights" in said:
            continue
        state = checkpoint.load(run[1] / "best.pt")
        for key, value in change.items():
            if key == "config":
                settings = value["model"]
                state["config"]["model"] = settings and state["config"]["model"] | settings
                if settings is None:
                    del state["config"]["model"]
            else:
                state[key] = value
        checkpoint.save(state, path)
        with pytest.raises(UserError, match=said) as refused:
            tuned_model.load_checkpoint(path, stand_in)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"r": 10**9}, "rank"),
        ({"r": None}, "rank"),
        ({"lora_alpha": float("nan")}, "alpha"),
        ({"use_rslora": True}, "use_rslora is not supported"),
        ({"alpha_pattern": {"fc1": 3}}, "alpha_pattern"),
        ({"base_model_name_or_path": None}, "base"),
        ({"base_model_name_or_path": "../somewhere"}, "no such folder"),
        ({"r": 5}, "its weights don't fit tiny"),
    ],
)
@pytest.mark.parametrize("run", ["lora"], indirect=True)
def test_a_crafted_adapter_is_refused_in_one_line(run, exported, stand_in, tmp_path, change, said):
    copy = shutil.copytree(exported, tmp_path / "adapter")
    config = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=said) as refused:
        tuned_model.load_folder(copy, stand_in)
    assert "\n" not in str(refused.value)


def test_a_folder_whose_weights_are_gone_or_foreign_is_refused(run, exported, stand_in, tmp_path):
    copy = shutil.copytree(exported, tmp_path / "adapter")
    (weights,) = copy.glob("*.safetensors")
    whole = weights.read_bytes()
    for content in (whole[:200], b"", b"\xff" * 64):
        weights.write_bytes(content)
        with pytest.raises(UserError) as refused:
            tuned_model.load_folder(copy, stand_in)
        assert "\n" not in str(refused.value)
    save_file({"decoder.other": torch.zeros(3)}, weights, {"format": "pt"})
    if run[0] == "lora":
        with pytest.raises(UserError, match="its weights don't fit tiny"):
            tuned_model.load_folder(copy, stand_in)
    weights.unlink()
    with pytest.raises(UserError):
        tuned_model.load_folder(copy, stand_in)
