"""Fill a cache, in a process of its own that tests kill: `python fill_cache.py TABLE BASE PLACE SECONDS
WORKERS`.

Two clips a shard, and SECONDS of sleep before each, so that there is a middle to be killed in.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from kwela.musicgen import code_cache, data

torch.set_num_threads(1)
whole = code_cache.write_clip_shard


def encode_clips(*arguments):
    time.sleep(float(sys.argv[4]))
    return whole(*arguments)


if __name__ == "__main__":
    code_cache.CLIPS_PER_SHARD = code_cache.PROMPTS_PER_SHARD = 2
    code_cache.write_clip_shard = encode_clips
    table, folder, place = map(Path, sys.argv[1:4])
    clips = [clip.path for clip in data.read_table(table)]
    code_cache.fill(
        clips, ["drums", "piano, slow", "bass"], folder, place, workers=int(sys.argv[5]), quiet=True
    )
