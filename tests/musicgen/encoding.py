"""Fill a cache, in a process of its own that tests kill: `python encoding.py TABLE BASE PLACE SECONDS WORKERS`.

Two clips a shard, and SECONDS of sleep before each, so that there is a middle to be killed in.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from kwela.musicgen import codes, data

torch.set_num_threads(1)
whole = codes.encode_clips


def encode_clips(*arguments):
    time.sleep(float(sys.argv[4]))
    return whole(*arguments)


if __name__ == "__main__":
    codes.CLIPS_A_SHARD = codes.PROMPTS_A_SHARD = 2
    codes.encode_clips = encode_clips
    table, folder, place = map(Path, sys.argv[1:4])
    clips = [clip.path for clip in data.read(table)]
    codes.cache(clips, ["drums", "piano, slow", "bass"], folder, place, workers=int(sys.argv[5]), quiet=True)
