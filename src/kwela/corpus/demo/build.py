"""Build the demo corpus: pieces out of music21's corpus, as MIDI and rendered audio, in emotion folders.

- `demo_pieces.json` lists the pieces whose encodings permit it, with their terms; nothing of theirs is in
  this repository. The first 60 seconds of each are taken, to a whole bar.
- An emotion folder here is *derived*, not felt: the mode of the best-fitting key, and the pace in note onsets
  a second, choose the word (`EMOTIONS`). Every report says so.
- The same music21 and the same seed give the same MIDI bytes. A killed build goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kwela import files
from kwela.corpus import parallel
from kwela.corpus.demo import notation
from kwela.errors import KwelaError, UserError
from kwela.music import midi, synth

SECONDS = 60.0  # taken of each piece
EMOTION_SOURCE = "derived: mode-and-tempo rule"
# Pace, in distinct note onsets a second, below which a word applies; the last one has no limit.
EMOTIONS = {
    "major": ((3.0, "peaceful"), (4.0, "calm"), (5.5, "happy"), (float("inf"), "energetic")),
    "minor": ((3.0, "sad"), (4.0, "melancholy"), (5.5, "anxiety"), (float("inf"), "angry")),
}
# Raise this when the same piece gives other files: every piece is then built again. tests/corpus/test_demo.py
# compares a piece with a recorded one and shows when.
CORPUS_VERSION = 1


@dataclass(frozen=True)
class Report:
    """What a build gave. `failed`: stem -> reason. Counts are of pieces, `notes` of notes."""

    out: Path
    pieces: int
    reused: int
    failed: dict[str, str]
    collections: dict[str, int]
    emotions: dict[str, int]
    emotion_source: str
    meters: dict[str, int]
    notes: int
    audio_seconds: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as it is written."""
        return asdict(self) | {"out": str(self.out)}

    def summary(self) -> str:
        """Return the report in lines for a terminal."""

        def listed(counts: dict[str, int]) -> str:
            return ", ".join(f"{name} {count}" for name, count in counts.items())

        lines = [
            f"{self.pieces} pieces ({self.reused} reused) in {self.out}: {self.notes:,} notes, "
            f"{self.audio_seconds / 60:.0f} min of audio, {self.seconds:.0f} s",
            f"collections: {listed(self.collections)}",
            f"emotions ({self.emotion_source}): {listed(self.emotions)}",
            f"meters: {listed(self.meters)}",
            f"rights of each piece: {self.out / 'rights.json'}",
        ]
        return "\n".join(lines + [f"left out: {stem}: {reason}" for stem, reason in self.failed.items()])


def catalogue() -> dict[str, Any]:
    """Return `demo_pieces.json`.

    It is {"collections": {id: terms and defaults}, "pieces": [{stem, collection, source, ...}]}.
    """
    return json.loads(Path(__file__).with_name("demo_pieces.json").read_text(encoding="utf-8"))


def choose(pieces: int, seed: int) -> list[dict[str, Any]]:
    """Choose `pieces` of the list, every collection in proportion to its share.

    With one seed, more pieces include the fewer.

    Raises UserError if the list holds fewer.
    """
    listed = catalogue()["pieces"]
    if not 1 <= pieces <= len(listed):
        raise UserError(f"--pieces {pieces}: the list holds 1 to {len(listed)} pieces")
    sizes = Counter(piece["collection"] for piece in listed)
    rank: Counter[str] = Counter()
    places = []
    for piece in sorted(listed, key=lambda p: hashlib.sha256(f"{seed}\0{p['stem']}".encode()).digest()):
        collection = piece["collection"]
        places.append(((rank[collection] + 0.5) / sizes[collection], piece["stem"], piece))
        rank[collection] += 1
    return [piece for *_, piece in sorted(places, key=lambda p: p[:2])[:pieces]]


def build(
    out: Path, pieces: int = 120, seed: int = 0, workers: int | None = None, quiet: bool = False
) -> Report:
    """Write the corpus into `out` and return its report.

    The files are `audio/<emotion>/x.wav`, `midi/<emotion>/x.mid`, `rights.json` and `demo_corpus.json`.

    Pieces that stand there whole are reused; those of an earlier build that are no longer chosen are removed.
    A piece that fails is reported with its reason and left out. workers: processes, by default one a core.
    Raises UserError if the demo extra is missing, `out` can't be made or `pieces` is more than there are;
    KwelaError on a full disk, or if no piece could be made.
    """
    started = time.monotonic()
    if importlib.util.find_spec("music21") is None or importlib.util.find_spec("midirenderer") is None:
        raise UserError("the demo corpus needs the demo extra: pip install 'kwela[demo]'")
    synth.soundfont_path()
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: can't be made a folder ({error.strerror}); name another") from None
    collections = catalogue()["collections"]
    items = {
        _key(p, collections[p["collection"]]): (p, collections[p["collection"]], out)
        for p in choose(pieces, seed)
    }
    journal = out / ".demo_pieces.journal"
    earlier = parallel.read_journal(journal)
    known = {key: record for key, record in earlier.items() if _whole(record, out)}
    _sweep(out, earlier.values(), {path for key in items if key in known for path in known[key]["files"]})
    if journal.is_file():
        parallel.prune_journal(journal, [key for key in known if key in items])
    try:
        made = parallel.run(
            make, items, journal, label="pieces", result_of_crash=_crashed, workers=workers, quiet=quiet
        )
    except (OSError, KwelaError) as error:
        raise KwelaError(f"{out}: {error}; what is done stays: run the same command again to go on") from None
    records = sorted((r for r in made.values() if "why" not in r), key=lambda r: r["stem"])
    failed = {r["stem"]: r["why"] for r in made.values() if "why" in r}
    if not records:
        raise KwelaError(f"{out}: no piece could be made; first: {next(iter(failed.items()))}")
    rights = json.dumps([_rights(r, collections) for r in records], ensure_ascii=False, indent=1)
    files.write(out / "rights.json", rights + "\n")
    report = _report(out, records, failed, reused=sum(key in known for key in items), started=started)
    text = json.dumps(report.to_dict() | {"emotion_rule": EMOTIONS}, indent=1)
    files.write(out / "demo_corpus.json", text + "\n")
    return report


def _report(
    out: Path, records: list[dict[str, Any]], failed: dict[str, str], reused: int, started: float
) -> Report:
    """Summarise the made pieces. started: the monotonic time at which the build began."""
    return Report(
        out=out,
        pieces=len(records),
        reused=reused,
        failed=failed,
        collections=dict(sorted(Counter(r["piece"]["collection"] for r in records).items())),
        emotions=dict(sorted(Counter(r["emotion"] for r in records).items())),
        emotion_source=EMOTION_SOURCE,
        meters=dict(Counter(r["meter"] for r in records).most_common()),
        notes=sum(r["notes"] for r in records),
        audio_seconds=round(sum(r["seconds"] for r in records), 1),
        seconds=round(time.monotonic() - started, 1),
    )


def make(piece: dict[str, Any], collection: dict[str, Any], out: Path) -> dict[str, Any]:
    """Make one piece from music21's corpus into MIDI and WAV.

    Return its record, or {"stem", "why"} if it can't be made.
    """
    import music21

    path = Path(music21.__file__).parent / "corpus" / piece["source"]
    form = "abc" if path.suffix == ".abc" else "musicxml"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # music21 comments on every bar it had to correct
            texts, cut = notation.source_text(path, piece.get("tune"), piece.get("bars"))
            reading = notation.read(
                texts,
                form,
                program=collection["program"],
                quarters_per_minute=piece.get("bpm", 120.0),
                seconds=SECONDS,
                cut=cut,
            )
    except (OSError, ValueError, KeyError, IndexError, music21.exceptions21.Music21Exception) as error:
        return {"stem": piece["stem"], "why": f"{piece['source']}: {type(error).__name__}: {error}"}
    score = reading.score
    onsets = np.unique(np.concatenate([track.notes.numpy()["time"] for track in score.tracks]))
    tonic, mode, fit = notation.key_of(score)
    audio, rate = synth.render(score)
    seconds = len(audio) / rate
    emotion = emotion_of(mode, len(onsets) / seconds)
    names = [f"audio/{emotion}/{piece['stem']}.wav", f"midi/{emotion}/{piece['stem']}.mid"]
    synth.write(out / names[0], audio)
    midi.write(score, out / names[1])
    return {
        "stem": piece["stem"],
        "piece": piece,
        "files": {name: (out / name).stat().st_size for name in names},
        "emotion": emotion,
        "key": f"{music21.pitch.Pitch(tonic).name} {mode}",
        "key_fit": round(fit, 3),
        "onsets_per_second": round(len(onsets) / seconds, 3),
        "meter": "/".join(
            map(str, (score.time_signatures[0].numerator, score.time_signatures[0].denominator))
        ),
        "notes": sum(len(track.notes) for track in score.tracks),
        "seconds": round(seconds, 3),
        "tempo": reading.tempo,
        "repeats": reading.repeats,
        "excerpt": reading.excerpt,
    }


def emotion_of(mode: str, pace: float) -> str:
    """Return the folder of a piece in `mode` ("major", "minor") with `pace` distinct note onsets a second."""
    return next(word for limit, word in EMOTIONS[mode] if pace < limit)


def _crashed(piece: dict[str, Any], *_: Any) -> dict[str, Any]:
    return {"stem": piece["stem"], "why": f"{piece['source']}: its worker process died"}


def _key(piece: dict[str, Any], collection: dict[str, Any]) -> str:
    """Names everything a piece's files depend on besides the code, which `CORPUS_VERSION` stands for."""
    import music21

    settings = [CORPUS_VERSION, music21.__version__, SECONDS, EMOTIONS, piece, collection["program"]]
    return f"{piece['stem']} {hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]}"


def _whole(record: dict[str, Any], out: Path) -> bool:
    made = record.get("files", {})
    return bool(made) and all((out / f).is_file() and (out / f).stat().st_size == n for f, n in made.items())


def _sweep(out: Path, earlier: Iterable[dict[str, Any]], keep: set[str]) -> None:
    """Remove what earlier or killed builds left: half-written files, and pieces that are not among `keep`."""
    listed = {piece["stem"] for piece in catalogue()["pieces"]} | {record["stem"] for record in earlier}
    for path in [*out.glob("audio/*/*.wav"), *out.glob("midi/*/*.mid")]:
        if path.stem in listed and path.relative_to(out).as_posix() not in keep:
            path.unlink()
    for path in [*out.glob("audio/*/.*.tmp"), *out.glob("midi/*/.*.tmp")]:
        path.unlink()
    for folder in [*out.glob("audio/*"), *out.glob("midi/*")]:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _rights(record: dict[str, Any], collections: dict[str, Any]) -> dict[str, Any]:
    piece = record["piece"]
    collection = collections[piece["collection"]]
    audio, midi = record["files"]
    return {
        "audio": audio,
        "midi": midi,
        "title": piece["title"],
        "composer": piece["composer"],
        "collection": collection["title"],
        "source": f"music21/corpus/{piece['source']}"
        + (f", tune {piece['tune']}" if "tune" in piece else ""),
        "encoder": piece["encoder"],
        "terms": collection["terms"],
        "rights": piece.get("rights", collection["rights"]),
        "rights_source": collection["rights_source"],
        "emotion_source": EMOTION_SOURCE,
        **{
            key: record[key]
            for key in ("emotion", "key", "key_fit", "onsets_per_second", "meter", "notes", "seconds")
        },
        "tempo_source": record["tempo"],
        "repeats": record["repeats"],
        "excerpt": record["excerpt"],
    }
