"""Filling the code cache with two workers beside one: clips a second.

Each worker is a process with one torch thread. 10-second clips of 16 kHz MP3, a codec and text encoder of
musicgen-small's true shapes with random weights; both runs start from nothing, workers included.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import common
from kwela.corpus import parallel
from kwela.musicgen import base_model, code_cache
from kwela.musicgen.transformers_output import silence_transformers
from musicgen_step import PROMPT, mp3, small

CLIPS, SECONDS = 96, 10.0


def main() -> None:
    silence_transformers()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        clips = [place / f"{number}.mp3" for number in range(CLIPS)]
        for number, path in enumerate(clips):
            path.write_bytes(mp3(number, SECONDS))
        folder = small(place / "small")
        base_model.fingerprint(folder)
        speed = {}
        for workers in (1, 2):
            began = time.perf_counter()
            with parallel._pool(
                workers
            ) as pool:  # also where there is one: our own process would use all cores
                code_cache.fill(clips, [PROMPT], folder, place / str(workers), executor=pool, quiet=True)
            speed[workers] = CLIPS / (time.perf_counter() - began)
    common.write("token_cache", speed[2], speed[1], "clips/s", "one worker", "the same")


if __name__ == "__main__":
    main()
