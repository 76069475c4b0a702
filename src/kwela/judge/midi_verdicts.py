"""What follows from the tables of `kwela judge midi`, in words and yes or no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kwela.judge.following import DIMENSIONS
from kwela.judge.grid import MODEL, PERMUTED, TWIN, Answers, flips, same_notes
from kwela.judge.midi_grid import Ear
from kwela.judge.page import Row, Scorecard


def verdicts(card: Scorecard, ears: Mapping[str, Ear], of: Answers, derived: str, why: str) -> dict[str, Any]:
    """derived: why labels are known to come from the MIDI; why: there is no evaluator."""
    out: dict[str, Any] = {"status": "measured", "labels": f"derived from the MIDI: {derived}" if derived else "given"}
    if "gain" in card.sections:
        rows = {one.row: one for one in card.sections["gain"].rows}
        out["emotion_helps_on_held_out_songs"] = _positive(rows["over shuffled emotions"])
        lone = ("valence", "arousal", "intensity")
        out["dimensions_that_help"] = [d for d in lone if _positive(rows[f"over shuffled {d} alone"]) is True]
    usable = {name: [d for d, good in zip(DIMENSIONS, ear.standing.usable) if good] for name, ear in ears.items()}
    out["evaluators"] = usable or f"not measured: {why}"
    out["heard_as_asked"] = {name: followed(ear) for name, ear in ears.items()} or "not measured"
    out["only_tempo_and_velocity"] = only_tempo_and_velocity(ears, of)
    out["valid_pieces"] = f"{int(of.valid.sum())} of {len(of.scores)}"
    out["copies"] = len(card.more["copies"])
    return out


def followed(ear: Ear) -> list[str]:
    """The dimensions whose rank correlation is surely over 0, over chance's, and over the twin's where there is one.

    Chance: the model's own pieces against permuted targets.
    """
    out = []
    for d, name in enumerate(DIMENSIONS):
        rivals = [ear.judged[system].rank(d).value for system in (PERMUTED, TWIN) if system in ear.judged]
        if ear.standing.usable[d] and ear.judged[MODEL].rank(d).low > max(0.0, *rivals):
            out.append(name)
    return out


def only_tempo_and_velocity(ears: Mapping[str, Ear], of: Answers) -> bool | str:
    """Whether what is followed vanishes once tempo and velocity are flattened, or the notes never change at all.

    "not measured" where the flattened evaluator can't tell a followed dimension from chance: then it is deaf to it,
    and its silence shows nothing.
    """
    turned = [*flips(of, 0), *flips(of, 1)]
    if turned and same_notes(of, turned).mean() > 0.5:
        return True
    plain, flat = ears.get("symbolic"), ears.get("symbolic (flattened)")
    if plain is None or flat is None:
        return "not measured: no evaluator"
    heard = followed(plain)
    if not heard:
        return "nothing is followed"
    if set(heard) & set(followed(flat)):
        return False
    deaf = [name for d, name in enumerate(DIMENSIONS) if name in heard and not flat.standing.usable[d]]
    if deaf:
        return f"not measured: the flattened evaluator can't tell {' or '.join(deaf)} from chance"
    return True


def _positive(row: Row) -> bool | str:
    return "not measured" if row.value is None or row.ci is None else row.ci[0] > 0
