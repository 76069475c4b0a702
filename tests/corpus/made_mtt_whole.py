"""All of MagnaTagATune's form at its true size: 25,863 clips, 188 tags; a few hundred clips have sound.

Those are 29-second stretches of real music, as MP3 like MTT's own; they alone carry tags enough to be chosen.
Three are broken, as MTT's own zero-byte files are. The zip comes in three parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import made_mtt
import numpy as np

from kwela.music import audio

ROWS, SECONDS = 25_863, 29.1
# As in annotations_final.csv; names of several words are in quotes.
_TAGS = """guitar classical slow techno strings drums electronic rock fast piano ambient beat violin vocal
synth female indian opera male singing vocals "no vocals" harpsichord loud quiet flute woman "male vocal"
"no vocal" pop soft sitar solo man classic choir voice "new age" dance "male voice" "female vocal" beats harp
cello "no voice" weird country metal "female voice" choral electro drum "male vocals" jazz violins eastern
"female vocals" instrumental bass modern "no piano" harpsicord jazzy string baroque foreign orchestra
"hard rock" electric trance folk chorus chant voices "classical guitar" spanish heavy upbeat "no guitar"
acoustic "male singer" "electric guitar" electronica oriental funky tribal banjo dark medieval "man singing"
organ blues irish "no singing" bells percussion "no drums" "woman singing" noise spacey singer "female singer"
"middle eastern" chanting "no flute" low strange calm wind lute "heavy metal" different punk oboe celtic sax
flutes talking women arabic hard mellow funk "fast beat" house rap "not english" "no violin" fiddle
"female opera" water india guitars "no beat" chimes drone "male opera" trumpet duet birds industrial sad
plucking girl silence men operatic horns repetitive airy world eerie deep "hip hop" space light keyboard
english "not opera" "not classical" "not rock" clapping horn "acoustic guitar" disco orchestral "no strings"
old echo lol "soft rock" "no singer" jungle bongos reggae monks clarinet scary synthesizer "female singing"
"piano solo" "no voices" woodwind happy viola soprano quick clasical"""
TAGS = [quoted or plain for quoted, plain in re.findall(r'"([^"]+)"|(\S+)', _TAGS)]
NEAR = (
    "drums",
    "beat",
    "techno",
    "house",
    "piano",
    "jazzy",
    "bass",
    "funky",
    "mellow",
    "ambient",
    "instrumental",
)


def stretches(files: list[Path], count: int) -> Iterator[tuple[str, bytes]]:
    """`count` clips of real music: (the file's stem, MP3 of 29.1 s), as many of each file as it takes."""
    per_file = -(-count // len(files))
    made = 0
    for path in files:
        wave, _ = audio.whole(path, 16_000)
        size = round(SECONDS * 16_000)
        whole = np.resize(wave, max(len(wave), size))
        for start in np.linspace(0, len(whole) - size, per_file).astype(int):
            if made == count:
                return
            made += 1
            yield path.stem, made_mtt.encode(whole[start : start + size])


def make(folder: Path, music: list[Path], clips: int = 300, seed: int = 0) -> Path:
    """Write annotations_final.csv and mp3.zip.001 to .003 into `folder`. music: files of real music."""
    rng = np.random.default_rng(seed)
    rows, contents = [], {}
    for k, (name, data) in enumerate(stretches(music, clips)):
        path = f"{k % 16:x}/{name.replace('-', '_')}-album-{k:03}-song-0-29.mp3"
        near = list(rng.choice(NEAR, rng.integers(3, 8), replace=False))
        rows.append((str(k + 2), path, near + list(rng.choice(["slow", "fast", "guitar", "no vocals"], 1))))
        contents[path] = data
    for k, bad in zip((5, 50, 150), (b"", b"not sound\n" * 300, contents[rows[0][1]][:100]), strict=True):
        contents[rows[k % clips][1]] = bad
    far = [tag for tag in TAGS if tag not in NEAR]
    for k in range(clips, ROWS):  # two tags: too few to be chosen
        path = f"{k % 16:x}/artist_{k % 230}-album-{k}-song-0-29.mp3"
        rows.append((str(k + 2), path, [str(rng.choice(far)), str(rng.choice(TAGS))]))
    made_mtt.annotate(folder, rows, TAGS)
    made_mtt.zip_in_parts(folder, contents)
    return folder
