"""The whole judgement, on made music: it finds the style, and every planted cheat and thin evidence is
caught.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import made_music
import numpy as np
import once
import pytest
import soundfile

from kwela import stats
from kwela.cli import main
from kwela.errors import UserError
from kwela.judge.authenticity import classifier, listening
from kwela.judge.authenticity import folders as authenticity_folders
from kwela.judge.authenticity import judge as authenticity
from kwela.judge.authenticity.folders import ClipFolder
from kwela.judge.authenticity.judge import evaluate
from kwela.judge.shared import clips, copies

CLIPS = 42  # of samples, and of base
ARTISTS, TAKES = 21, 2  # of reference, and of contrast
SECONDS = 7.0  # of a clip: what is measured of each takes most of the time


def generated(place: Path, every: int, unseen: bool = True) -> Path:
    """A generator's clips, of artists that nobody trained on: every `every`th is in the style, the rest
    isn't.
    """
    place.mkdir(parents=True)
    for k in range(CLIPS):
        style = "log_drum" if k % every == 0 else made_music.CONTRAST[k % 4]
        wave = made_music.clip(style, 300 + k, 0, unseen)[: round(SECONDS * made_music.RATE)]
        made_music.write(place / f"prompt{k:02}.wav", wave)
    return place


def linked(place: Path, source: Path) -> Path:
    """A folder with the clips of another, which are heard once only."""
    place.mkdir(parents=True)
    for path in clips.find_audio_files(source):
        (place / path.name).symlink_to(path)
    return place


@pytest.fixture(scope="module", autouse=True)
def shared_work(module_patch: pytest.MonkeyPatch) -> None:
    once.share(module_patch, classifier, "fit")
    once.share(module_patch, authenticity_folders, "identify_file", "measure_features")
    once.share(module_patch, copies, "chroma_of_file")


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """reference: 21 artists x 2. contrast: 21 x 2 of four styles. base: 11 of 42 in the style; tuned: all."""
    root = tmp_path_factory.mktemp("music")
    made_music.folder(root / "reference", ("log_drum",), ARTISTS, TAKES, seconds=SECONDS)
    made_music.folder(root / "contrast", made_music.CONTRAST, ARTISTS, TAKES, seconds=SECONDS)
    generated(root / "base", 4)
    generated(root / "tuned", 1)
    return root


@pytest.fixture(scope="module")
def folders(music: Path) -> dict[str, ClipFolder]:
    """Return the folders, read, with tuned as samples."""
    names = {"reference": "reference", "contrast": "contrast", "samples": "tuned", "base": "base"}
    return authenticity_folders.read_folders({name: music / place for name, place in names.items()})[0]


def judged(music: Path, out: Path, samples: Path, base: Path | None = None, **more: Any) -> dict[str, Any]:
    reference, contrast = more.pop("reference", music / "reference"), more.pop("contrast", music / "contrast")
    return authenticity.judge(reference, contrast, samples, base, out=out, quick=True, **more).to_dict()


@pytest.mark.usefixtures("real_pictures")
def test_a_tuned_model_is_told_from_its_base(
    music: Path, folders: dict[str, ClipFolder], tmp_path: Path
) -> None:
    found = judged(music, tmp_path, music / "tuned", music / "base")
    assert found["status"] == "measured" and found["p_value"] < 0.001
    assert found["score"] > 0.9 and found["ci"][0] <= found["score"] <= found["ci"][1] <= 1
    assert found["base"] == pytest.approx(0.25, abs=0.1)  # as many as are in the style
    assert found["floor"] <= 0.05 < 0.9 < found["ceiling"]
    assert found["auc"]["ci"][0] > 0.9
    expected = {"reference": ARTISTS * TAKES, "contrast": ARTISTS * TAKES}
    expected |= {"samples": CLIPS, "base": CLIPS, "pairs": CLIPS}
    assert found["n"] == expected | {"reference_artists": ARTISTS, "contrast_artists": ARTISTS}
    assert json.loads((tmp_path / "authenticity.json").read_text()) == json.loads(json.dumps(found))
    page = (tmp_path / "authenticity.md").read_text()
    for name in ("authenticity_scores.png", "authenticity_coefficients.png"):
        assert f"({name})" in page and (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
    for table in ("score", "distribution", "evaluator", "ablations", "coefficients"):
        assert len(found["tables"][table]) >= 3


def test_auc_is_high_on_patterns_and_artists_that_training_had_not(
    folders: dict[str, ClipFolder], music: Path
) -> None:
    evidence = evaluate(folders, quick=True)
    assert evidence.classifier is not None
    odds = evidence.scores["base"].log_odds
    unseen = np.array([k % 4 == 0 for k in range(CLIPS)])
    auc = stats.bootstrap(range(CLIPS), lambda k: stats.auc(odds[k][unseen[k]], odds[k][~unseen[k]]), 500)
    assert auc.value > 0.95 and auc.low > 0.9


def test_patterns_alone_are_heard(tmp_path: Path, music: Path) -> None:
    """Against the log drum's own sounds, chords, shakers and tempo in straight patterns."""
    straight = made_music.folder(tmp_path / "straight", ("straight",), 20, 2, first=50, seconds=SECONDS)
    found = judged(music, tmp_path / "out", music / "base", contrast=straight)
    assert found["auc"]["ci"][0] > 0.75
    strongest = [row["row"] for row in found["tables"]["coefficients"][:3]]
    assert set(strongest) & {"four_on_floor", "syncopation", "off_beat"}


def test_shuffled_labels_give_chance_and_a_refusal(folders: dict[str, ClipFolder]) -> None:
    everything = folders["reference"].clips + folders["contrast"].clips
    artists = sorted({clip.artist for clip in everything})
    aucs = []
    for seed in range(5):
        drawn = set(np.random.default_rng(seed).permutation(artists)[: len(artists) // 2])
        sides = {
            "reference": ClipFolder("reference", [clip for clip in everything if clip.artist in drawn]),
            "contrast": ClipFolder("contrast", [clip for clip in everything if clip.artist not in drawn]),
        }
        evidence = evaluate(folders | sides, quick=True)
        assert evidence.status == "refused" and "AUC" in evidence.why and not evidence.shares
        assert evidence.auc is not None
        aucs.append(evidence.auc.value)
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.12)


def test_a_generator_that_only_scales_velocity_is_caught(tmp_path: Path, music: Path) -> None:
    louder = tmp_path / "louder"
    louder.mkdir()
    for path in clips.find_audio_files(music / "base"):
        made_music.write(louder / path.name, 0.4 * soundfile.read(path)[0])
    found = judged(music, tmp_path / "out", louder, music / "base")
    assert found["status"] == "measured" and found["p_value"] > 0.5
    assert found["score"] == pytest.approx(found["base"], abs=0.05)
    assert "no difference worth finding" in found["verdicts"]["against_base"]


def test_42_prompts_without_a_difference_are_an_answer_and_four_are_none(
    folders: dict[str, ClipFolder],
) -> None:
    same = folders | {"samples": ClipFolder("samples", folders["base"].clips)}
    enough = evaluate(same, quick=True)
    assert enough.status == "measured" and enough.p_value == 1 and enough.difference is not None
    assert max(-enough.difference.low, enough.difference.high) < authenticity.WORTH_FINDING
    few = evaluate(
        same | {name: ClipFolder(name, same[name].clips[:4]) for name in ("samples", "base")}, quick=True
    )
    assert few.status == "refused" and few.needed is not None and few.needed > 4


def test_signals_that_are_no_music_score_nothing(
    tmp_path: Path, music: Path, folders: dict[str, ClipFolder]
) -> None:
    for name, wave in made_music.signals().items():
        (tmp_path / "signals").mkdir(exist_ok=True)
        made_music.write(tmp_path / "signals" / f"{name}.wav", wave)
    form = folders["reference"].form
    heard = authenticity_folders.read_folders({"samples": tmp_path / "signals"}, form=form)[0]
    evidence = evaluate({name: folders[name] for name in ("reference", "contrast")} | heard, quick=True)
    assert len(heard["samples"]) == 5 and evidence.shares["samples"].value == 0
    assert (evidence.scores["samples"].relative_distances[:, 1] > 1).all(), "far from all of the reference"
    # The line alone would let some of them pass: it goes on past all music.
    assert evidence.classifier is not None
    assert (evidence.scores["samples"].log_odds > evidence.classifier.threshold).any()


@pytest.mark.parametrize("side", ["reference", "contrast"])
def test_fewer_than_20_artists_are_refused(folders: dict[str, ClipFolder], side: str) -> None:
    few = sorted(set(folders[side].artists()))[:19]
    thin = ClipFolder(side, [clip for clip in folders[side].clips if clip.artist in few])
    evidence = evaluate(folders | {side: thin}, quick=True)
    assert evidence.status == "refused" and side in evidence.why and "19 artists" in evidence.why
    assert evidence.auc is None and not evidence.shares


def test_too_few_clips_are_refused(folders: dict[str, ClipFolder]) -> None:
    one_each = {clip.artist: clip for clip in folders["reference"].clips}
    evidence = evaluate(folders | {"reference": ClipFolder("reference", list(one_each.values()))}, quick=True)
    assert evidence.status == "refused" and f"{ARTISTS} clips" in evidence.why


def test_too_few_prompts_are_refused_with_how_many_would_do(folders: dict[str, ClipFolder]) -> None:
    some = {name: ClipFolder(name, folders[name].clips[:4]) for name in ("samples", "base")}
    evidence = evaluate(folders | some, quick=True)
    assert (
        evidence.status == "refused"
        and evidence.needed is not None
        and f"About {evidence.needed}" in evidence.why
    )
    assert 4 < evidence.needed < CLIPS
    other = ClipFolder("base", folders["contrast"].clips[:9])
    assert "prompts can't be paired" in evaluate(folders | {"base": other}, quick=True).why


def test_training_clips_among_the_samples_are_reported_and_left_out(tmp_path: Path, music: Path) -> None:
    samples = linked(tmp_path / "samples", music / "base")
    for k, path in enumerate(clips.find_audio_files(music / "reference")[:20]):
        wave, rate = soundfile.read(path, dtype="int16")
        soundfile.write(samples / f"mine{k}.flac", wave, rate)  # another name, another format
    found = judged(music, tmp_path / "out", samples)
    assert found["overlap"] == {"samples_in_reference": sorted(f"mine{k}.flac" for k in range(20))}
    assert found["n"]["samples"] == CLIPS
    assert found["score"] == judged(music, tmp_path / "out", music / "base")["score"]


def test_a_clip_in_reference_and_contrast_is_left_out_of_both(tmp_path: Path, music: Path) -> None:
    contrast = linked(tmp_path / "contrast", music / "contrast")
    shutil.copy(clips.find_audio_files(music / "reference")[0], contrast / "x-1.wav")
    found = judged(music, tmp_path / "out", music / "base", contrast=contrast)
    assert found["overlap"]["contrast_in_reference"] == ["x-1.wav"]
    assert (found["n"]["reference"], found["n"]["contrast"]) == (ARTISTS * TAKES - 1, ARTISTS * TAKES)


def test_one_good_clip_copied_is_one_good_clip(tmp_path: Path, music: Path) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    for k in range(30):
        shutil.copy(clips.find_audio_files(music / "tuned")[0], samples / f"prompt{k}.wav")
    found = judged(music, tmp_path / "out", samples)
    assert found["score"] == pytest.approx(1 / 30) and len(found["overlap"]["samples_repeated"]) == 29


def test_without_reference_there_is_conformity_and_no_score(tmp_path: Path, music: Path) -> None:
    found = judged(music, tmp_path, music / "tuned", music / "base", reference=None)
    assert found["status"] == "not_measurable" and found["why"]
    assert all(found[key] is None for key in ("score", "ci", "ceiling", "floor", "base", "p_value"))
    assert found["auc"] == {"value": None, "ci": None}
    count = found["conformity"]
    assert count["samples"] > count["contrast"] + 1 and count["of"] == 11
    page = (tmp_path / "authenticity.md").read_text()
    assert page.startswith("No reference clips were given") and "%" not in page.replace("95 % interval", "")


def test_unreadable_and_short_samples(tmp_path: Path, music: Path) -> None:
    samples = linked(tmp_path / "samples", music / "tuned")
    (samples / "broken.wav").write_bytes(b"RIFF")
    made_music.write(samples / "short.wav", soundfile.read(clips.find_audio_files(samples)[1])[0][:48_000])
    found = judged(music, tmp_path / "out", samples)
    assert list(found["left_out"]["samples"]) == [str(samples / "broken.wav")]
    assert found["overlap"]["samples_under_5_s"] == ["short.wav"] and found["n"]["samples"] == CLIPS + 1
    whole = judged(music, tmp_path / "out", music / "tuned")["score"]
    assert found["score"] == pytest.approx(
        whole * CLIPS / (CLIPS + 2)
    )  # neither a stump nor a broken file passes


def test_quick_takes_the_same_prompts_of_samples_and_base_and_artists_in_turn(tmp_path: Path) -> None:
    paths = [tmp_path / f"artist {a}-{k}.wav" for a in range(100) for k in range(9)]
    samples, base, other = (clips.choose_files(paths, 150, seed) for seed in (0, 0, 1))
    assert samples == base != other and len(samples) == 150
    assert len({clips.artist_of(path) for path in clips.choose_files(paths, 150, 0, clips.artist_of)}) == 100


def test_quick_compares_all_files_before_it_draws_some_and_says_that_it_drew(
    tmp_path: Path, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticity_folders, "QUICK_CLIP_COUNT", 41)
    samples = linked(tmp_path / "samples", music / "base")
    stolen = clips.find_audio_files(music / "reference")
    for k, path in enumerate(stolen):  # more than are drawn
        shutil.copy(path, samples / f"mine{k}.wav")
    found = judged(music, tmp_path / "out", samples, seed=3)
    assert len(found["overlap"]["samples_in_reference"]) == len(stolen)
    assert found["n"]["samples"] == found["n"]["reference"] == 41
    assert found["quick"] is True and found["seed"] == 3
    assert (
        "With --quick" in (page := (tmp_path / "out" / "authenticity.md").read_text()) and "Seed 3." in page
    )


def test_a_near_copy_of_a_reference_clip_is_named_and_does_not_pass(tmp_path: Path, music: Path) -> None:
    """Through another codec, quieter, from another moment: no hash finds it."""
    samples = linked(tmp_path / "samples", music / "base")
    sources = clips.find_audio_files(music / "reference")[:6]
    for k, source in enumerate(sources):
        wave = clips.encode_and_decode_mp3(0.3 * clips.load_middle(source)[6_400:], bit_rate=24_000)
        made_music.write(samples / f"near{k}.wav", wave)
    found = judged(music, tmp_path / "out", samples)
    named = found["overlap"]["samples_near_reference"]
    assert [line.split(" (")[0] for line in named] == [f"near{k}.wav" for k in range(6)]
    assert all(source.name in line for line, source in zip(named, sources, strict=True))
    clean = judged(music, tmp_path / "clean", music / "base")
    assert (
        "samples_near_reference" not in clean["overlap"]
        and clean["verdicts"]["near_copies_of_reference"] == 0
    )
    assert found["score"] == pytest.approx(clean["score"] * CLIPS / (CLIPS + 6))


def test_the_floor_that_is_so_by_construction_says_so_and_one_that_is_not_stands_beside_it(
    tmp_path: Path, music: Path
) -> None:
    found = judged(music, tmp_path, music / "base")
    rows = {row["row"]: row for row in found["tables"]["score"]}
    assert rows["contrast (at most 5 % by construction)"]["value"] <= 0.05
    assert found["floor_fresh"] == rows["contrast, threshold fixed on other artists (floor)"]["value"]
    low, high = found["threshold"]["ci"]
    assert low <= found["threshold"]["value"] <= high and low < high
    ends = [rows[f"samples, threshold at its {end} end"]["value"] for end in ("low", "high")]
    assert ends[0] >= found["score"] >= ends[1]


def test_one_folder_given_twice_is_bad_usage_and_the_same_clips_in_two_are_refused(
    tmp_path: Path, music: Path
) -> None:
    with pytest.raises(UserError, match="is --reference too"):
        judged(music, tmp_path, music / "base", contrast=music / "reference")
    again = tmp_path / "again"
    shutil.copytree(music / "reference", again)
    found = judged(music, tmp_path / "out", music / "base", contrast=again)
    assert found["status"] == "refused" and "nothing is left of it" in found["why"]


def test_clips_without_an_artist_are_warned_of(
    folders: dict[str, ClipFolder], tmp_path: Path, music: Path
) -> None:
    nameless = tmp_path / "nameless"
    nameless.mkdir()
    for k, path in enumerate(clips.find_audio_files(music / "reference")):
        (nameless / f"{k:03}.wav").symlink_to(path)
    warned = judged(music, tmp_path / "out", music / "base", reference=nameless)["warning"]
    assert "42 clips name no artist" in warned
    assert "artist" not in judged(music, tmp_path / "out", music / "base")["warning"]


def test_a_folder_with_nothing_to_hear_is_an_error(tmp_path: Path, music: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.wav").write_bytes(b"RIFF")
    for folder in (tmp_path / "bad", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=folder.name):
            judged(music, tmp_path / "out", folder)


def test_the_command_prints_json_and_takes_a_sheet_and_its_ratings(
    tmp_path: Path, music: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "judge",
        "authenticity",
        "--contrast",
        str(music / "contrast"),
        "--samples",
        str(music / "tuned"),
    ]
    command += ["--reference", str(music / "reference"), "--quick", "--json", "--out", str(tmp_path / "out")]
    sheet = tmp_path / "sheet.csv"
    assert _status([*command, "--sheet", str(sheet)]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "measured"
    style = {
        listening.sheet_name(clips.audio_hash(clips.load_middle(path)), 0): path.parent.name
        for place in ("reference", "contrast", "tuned")
        for path in clips.find_audio_files(music / place)
    }
    lines = [",".join(listening.COLUMNS)]
    for path in clips.find_audio_files(tmp_path / "sheet_clips"):
        rating = {"reference": 5, "tuned": 4, "contrast": 1}[style[path.stem]]
        lines += [f"{path.name},a,{rating},,", f"{path.name},b,{max(1, rating - 1)},,"]
    sheet.write_text("\n".join(lines) + "\n")
    assert _status([*command, "--ratings", str(sheet)]) == 0
    rows = {row["row"]: row for row in json.loads(capsys.readouterr().out)["tables"]["listening"]}
    assert rows["mean rating, reference"]["value"] == 4.5 and rows["mean rating, samples"]["value"] == 3.5
    assert rows["agreement (Krippendorff's alpha)"]["value"] > 0.5
    assert rows["experts tell reference from contrast"]["value"] == 1


def _status(command: list[str]) -> object:
    try:
        main(command)
    except SystemExit as ended:
        return ended.code
    return 0


def test_the_same_seed_gives_the_same_card(tmp_path: Path, music: Path) -> None:
    first = judged(music, tmp_path / "first", music / "base")
    once.forget()
    second, other = (judged(music, tmp_path / f"seed {seed}", music / "base", seed=seed) for seed in (0, 1))
    assert first == second != other
