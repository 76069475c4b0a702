"""Check before any clip is generated whether the authenticity judge could measure it with these settings."""

from __future__ import annotations

from kwela.errors import UserError
from kwela.playbook import Evaluation


def unmet_requirement(settings: Evaluation) -> str:
    """Return why the judge can't measure authenticity with these settings; "" if nothing speaks against it.

    Clips are counted by their names, not decoded: only the judge finds out which are repeats or too short.
    """
    from kwela.judge.authenticity.judge import MIN_ARTISTS, MIN_CLIPS
    from kwela.judge.authenticity.standard_form import MIN_SECONDS
    from kwela.judge.shared import clips

    for name in ("reference_dir", "contrast_dir"):
        folder = getattr(settings, name)
        if folder is None:
            return f"evaluation.{name}: not set"
        try:
            paths = clips.find_audio_files(folder)
        except UserError as error:
            return f"evaluation.{name}: {error}"
        artists = len({clips.artist_of(path) for path in paths})
        if len(paths) < MIN_CLIPS or artists < MIN_ARTISTS:
            needed = f"{MIN_CLIPS} clips by {MIN_ARTISTS} are needed"
            return f"evaluation.{name}: {folder}: {len(paths)} clips by {artists} artists, {needed}"
    if settings.seconds < MIN_SECONDS:
        return f"evaluation.seconds: {settings.seconds:g}: the judge needs {MIN_SECONDS:g}"
    return ""
