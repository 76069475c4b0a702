"""Which song a name is a version or a piece of, and on which side of the split that song stands.

The side is a hash of (group, seed) alone: no other file, order or machine changes it, and every version of a
song stands on the same side, in every manifest. `songs.py` finds the groups of a whole corpus.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable

# What a file name may end in and still be the same song, after a separator ("_v2") or in brackets ("(live)").
# A bare number is not here: track_001 and track_002 are two.
VERSION_SUFFIXES = (
    r"(v|ver|version)[\s_.]?\d+(\.\d+)*",  # v2, v1.3, ver.2
    r"(ver|version|take|mix|copy|alt|edit|render|rendition|performance|perf|aug|augmented|crop)[\s_]?\d*",
    r"(kopie|copie|copia|cópia|のコピー)[\s_]?\d*|\d+(st|nd|rd|th)[\s_]take",
    r"(up|down)\d+|(speed|rate|ts|x)\d+\.\d+|ps[+-]?\d+",  # shifted by semitones, or stretched in time
    r"midi|transcribed|transcription|basic[\s_]pitch",
    r"ENSTDk(Am|Cl)|AkPn(Bcht|Bsdf|CGdD|Stgb)|SptkBG(Am|Cl)|StbgTGd2",  # the pianos of MAPS
    r"(live|demo|remix|remaster|remastered|mastered|final|draft|acoustic|instrumental|unplugged|karaoke)[\s_]?\d*",
    r"(cover|original|orig|extended|radio[\s_](edit|mix)|slowed|sped[\s_]up|reprise|clean|quanti[sz]ed)",
    r"transposed?|(transposed?|key|tempo|pitch|shift|stretch)[\s_]?[+-]?\d+(\.\d+)?",  # "up tempo" stays
    r"(\d{4}[\s_-]+)?(digital(ly)?[\s_])?remaster(ed)?([\s_]+(version|edition|\d{4}))*",  # 2009 Remaster
    r"remasteri[sz]ad[oa]|remasteris[ée]|remastert|(en|ao|dal)[\s_](vivo|directo)|en[\s_](concert|public)",
    r"(single|album|long|short|mono|stereo|piano|acoustic|live|original|extended|studio)[\s_](version|mix|edit)",
    r"(club|dub|rough|full|final|stereo|mono|extended|original)[\s_]mix|mixdown[\s_]?\d*|premaster|unmastered",
    r"\d{2}[\s_-]?bit|\d{2,3}(\.\d)?[\s_]?khz?|\d{2,3}[\s_]?kbps|normali[sz]ed|unquanti[sz]ed|trimmed",
    r"inst|tv[\s_](mix|track)|no[\s_](vox|vocals|drums|bass)|[+-]\d+[\s_]?(st|semitones?|cents)",
    r"(official[\s_])?(music|lyrics?)[\s_]video|official[\s_](audio|video)|a[\s_]?cappella|acapella",
)
# Pieces that a song was cut into: all of them are the song.
PIECE_SUFFIXES = (
    r"(chunk|seg|segment|clip|slice|frag|fragment|excerpt|snippet|window|section|split|stem|raw)[\s_.-]*\d+([\s_]\d+)?",
    r"\d+[\s_.-](chunk|seg|segment|clip|slice|excerpt)|bars?[\s_]?\d+([-_]\d+)?|excerpt|snippet|preview",
    r"(part|pt|parte|partie|teil|deel)[\s_.-]*(\d+|[ivx]+|[a-d]|one|two|three|four)",
    r"((part|chunk|seg|segment|clip|slice)[\s_]?)?\d+[\s_]?(of|von|sur|de|di)[\s_]?\d+",
    r"(start|offset)[\s_]?\d+(\.\d+)?(m?s)?|\d+m\d+s",  # where the piece begins
    r"\d+(\.\d+)?s?[\s_]?(-|to|_)[\s_]?\d+(\.\d+)?[\s_]?s(ec)?",  # 0-30s
)
_ANY = "|".join((*VERSION_SUFFIXES, *PIECE_SUFFIXES))
# A phrase in brackets that begins or ends with one of these is a version: "(Live at the Apollo)".
_KIND = (
    r"live|remix|mix|edit|version|remaster|remastered|bootleg|cover|rework|vip|demo|take|session|instrumental"
    r"|acoustic|unplugged|karaoke|deluxe|extended|bonus[\s_]track|feat\.?|ft\.?|featuring|lyrics?|audio|video"
    r"|ライブ|リミックス|カラオケ|インスト|リマスター"
    r"|visuali[sz]er|official|h[dq]|4k|explicit|radio|slowed|nightcore|8d|mono|stereo|versi[óo]n|versão|versione"
)
_PHRASE = rf"({_KIND})[\s_][^()\[\]]*|[^()\[\]]*[\s_]({_KIND})"
_GAP = r"(?<![\s_.-])[\s_.-]"  # the first separator of a run: a run is tried once, from its beginning
_LAST = re.compile(
    rf"({_GAP}++({_ANY})"
    rf"|{_GAP}*+[(\[（]\s*({_ANY}|{_PHRASE}|{_KIND}|\d+|\d+(\.\d+)?\s?-\s?\d+(\.\d+)?)\s*[)\]）]"
    rf"|(?<=ZOOM\d{{4}})_(LR|Tr\d+)"  # of a recorder with several tracks
    rf"|[\s_]-[\s_](live|recorded)[\s_](at|in|from|on)[\s_][^()\[\]]*"
    rf"|{_GAP}*+\[(?=[^\]]*\d)[\w-]{{11}}\]"  # a video's letters
    rf"|(?<=[a-z])(chunk|segment)\d+|\.(mp3|wav|flac|m4a|ogg|aiff?|midi?)"
    rf"|[\s_](feat\.|ft\.|featuring)[\s_][^()\[\]]*)$",
    re.IGNORECASE,
)
# Versions only where they can't be a title's word: "Song_master", "Song v3 master", not "Puppet Master".
_WEAK = re.compile(
    rf"({_GAP}++)((master|bounced?|export(ed)?|mono|stereo|loud|rough|print|wip|h[dq]|nois[ey]|reverb|reversed)"
    r"[\s_]?\d?|(10|15|20|29|30|45|60)s)$",
    re.IGNORECASE,
)
_COPY_OF = re.compile(r"^(copy of|kopie von|copie de|copia de|copia di|cópia de)\s+", re.IGNORECASE)
# EMOPIA's clips: quadrant, the song's 11 letters, number of the clip. AudioSet's: the letters, then a second.
_CLIP_OF_VIDEO = re.compile(r"Q[1-4]_([\w-]{11})_\d+|([\w-]{11})_\d+\.\d{3}")
# MagnaTagATune's clips end in their first and last second, which are 29 apart.
_SECONDS = re.compile(r"^(.*\D)-(\d{1,9})-(\d{1,9})$")


@functools.lru_cache(maxsize=1 << 14)  # the rules of `songs.py` ask for a name several times
def group(stem: str) -> str:
    """Return the song's name: `stem` without what makes it a version or a piece ("Song (Live)_v2" -> "Song").

    A suffix counts after a separator or in brackets, so "Alive" stays; a name that is nothing else stays
    whole.
    """
    shorter = _shorten(stem)
    return stem if shorter in ("", stem) else group(shorter)


def _shorten(stem: str) -> str:
    """Take one mark of a version or a piece off `stem`, if it has one."""
    video = _CLIP_OF_VIDEO.fullmatch(stem)
    if video:
        return video[1] or video[2]
    seconds = _SECONDS.match(stem)
    if seconds and int(seconds[3]) - int(seconds[2]) in (29, 30):
        return seconds[1]
    shorter = _LAST.sub("", _COPY_OF.sub("", stem))
    weak = _WEAK.search(shorter)
    if weak and (set(weak[1]) & set("_-") or _LAST.search(shorter[: weak.start()])):
        return shorter[: weak.start()]
    return shorter


def is_clip_of_video(stem: str) -> bool:
    """Return whether a name is that of a clip out of a video, as EMOPIA and AudioSet name theirs."""
    return _CLIP_OF_VIDEO.fullmatch(stem) is not None


def normal_form(group: str) -> str:
    """Return what two spellings of a group share: lower case, and one space for each run of separators."""
    return re.sub(r"[\s_.-]+", " ", group.casefold()).strip()


def position(group: str, seed: int) -> float:
    """Return a group's place in [0, 1), uniform over groups. The validation side lies below its share.

    Case and separators don't move it: "My Song" and "my_song_v2" stand on one side.
    """
    digest = hashlib.sha256(f"{seed}\0{normal_form(group)}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def validation(groups: Iterable[str], seed: int, share: float) -> set[str]:
    """Return the groups of the validation side, `share` in [0, 1) of them on average.

    An empty side gets what stands nearest: validation the smallest hash and, of two or more, training the
    largest.
    """
    places = {name: position(name, seed) for name in groups}
    smallest, largest = min(places.values()), max(places.values())
    last = smallest == largest
    return {name for name, at in places.items() if at == smallest or (at < share and (last or at < largest))}
