"""Turn scores into the 388 ids and back: all of the MIDI codec in one module.

- `encode` is vectorised and reads the score's events by score_events.py; `decode` takes any ids.
- `loss_report` (fidelity.py) counts what a round trip costs. `start`, `advance` and `allowed` (grammar.py)
  are the only grammar.
- Promised, also through a written file: encode(decode(encode(x))) == encode(x).
- Bounds: onset 1/48 quarter, duration 1/24 quarter, velocity 2, tempo 0.3 % within 20-320 BPM; pitch, program
  and drum key exact.
"""

from kwela.music.decoding import decode
from kwela.music.encoding import encode
from kwela.music.fidelity import loss_report
from kwela.music.grammar import (
    BAR,
    BEAT,
    BOS,
    EOS,
    KIND_OF,
    PAD,
    VOCAB,
    Kind,
    advance,
    allowed,
    start,
    tables,
    tokenizer_hash,
)

__all__ = [
    "BAR",
    "BEAT",
    "BOS",
    "EOS",
    "KIND_OF",
    "PAD",
    "VOCAB",
    "Kind",
    "advance",
    "allowed",
    "decode",
    "encode",
    "loss_report",
    "start",
    "tables",
    "tokenizer_hash",
]
