"""Say before any clip is generated whether the authenticity judge could measure it with the given settings."""

from __future__ import annotations

from kwela.errors import UserError
from kwela.playbook import Evaluation


def unmeasurable(settings: Evaluation) -> str:
    """Why the judge can't measure authenticity with these settings, as far as a look at names tells; else "".

    Clips are counted, not decoded: only the judge finds out which are repeats or too short.
    """
    from kwela.judge.authenticity.folders import SHORTEST
    from kwela.judge.authenticity.judge import LEAST_ARTISTS, LEAST_CLIPS
    from kwela.judge.shared import clips

    for name in ("reference_dir", "contrast_dir"):
        place = getattr(settings, name)
        if place is None:
            return f"evaluation.{name}: not set"
        try:
            found = clips.find_audio_files(place)
        except UserError as error:
            return f"evaluation.{name}: {error}"
        artists = len({clips.artist_of(path) for path in found})
        if len(found) < LEAST_CLIPS or artists < LEAST_ARTISTS:
            needed = f"{LEAST_CLIPS} clips by {LEAST_ARTISTS} are needed"
            return f"evaluation.{name}: {place}: {len(found)} clips by {artists} artists, {needed}"
    if settings.seconds < SHORTEST:
        return f"evaluation.seconds: {settings.seconds:g}: the judge needs {SHORTEST:g}"
    return ""
