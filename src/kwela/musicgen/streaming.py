"""Codes to sound while they are still coming: EnCodec's decoder, run on a growing sequence, equal to running it once.

The decoder is a convolution (3 frames to each side), an LSTM, then convolutions that upsample. The LSTM's state is
carried; the convolutions are run on a window with `_REACH` frames to each side more than what is kept. So sound lags
behind the codes by `_REACH + 3` frames (0.2 s at 50 frames a second), and is that of one pass over all codes up to
rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CONV = 3  # frames the first convolution sees to each side: kernel 7
_REACH = 8  # and the upsampling ones, with room to spare


class Voice:
    """Turns frames of codes into samples. codec: transformers' EncodecModel; hop: samples a frame."""

    def __init__(self, codec: Any, hop: int) -> None:
        self.codec, self.hop = codec, hop
        first, lstm, *self.rest = codec.decoder.layers
        self.first, self.lstm = first, lstm
        self.embedded: Tensor | None = None  # (B, width, frames), the last frames of all codes so far
        self.past: list[Tensor] = []  # the LSTM's output so far, its last frames enough
        self.state: Any = None
        self.known = self.through_lstm = self.spoken = 0  # frames

    @torch.inference_mode()
    def add(self, codes: Tensor, last: bool = False) -> Tensor:
        """Take in codes (B, K, frames); return the samples (B, n) that are certain now, all that is left if `last`."""
        new = self.codec.quantizer.decode(codes.transpose(0, 1))
        self.embedded = new if self.embedded is None else torch.cat([self.embedded, new], dim=-1)
        self.known += new.shape[-1]
        known, begin = self.known, self.known - self.embedded.shape[-1]
        ready = known if last else known - _CONV
        if ready > self.through_lstm:
            low = max(0, self.through_lstm - 2 * _CONV)  # what is reflected at a cut is not kept
            convolved = self.first(self.embedded[..., low - begin : min(known, ready + 2 * _CONV) - begin])
            fresh = convolved[..., self.through_lstm - low : ready - low]
            series = fresh.permute(2, 0, 1)
            out, self.state = self.lstm.lstm(series, self.state)
            self.past.append((out + series).permute(1, 2, 0))
            self.through_lstm = ready
            self.embedded = self.embedded[..., max(0, ready - 2 * _CONV - begin) :]
        until = self.through_lstm if last else self.through_lstm - _REACH
        if until <= self.spoken:
            return new.new_zeros(len(codes), 0)
        hidden = torch.cat(self.past, dim=-1)  # frames [through_lstm - its length, through_lstm)
        begin = self.through_lstm - hidden.shape[-1]
        low = max(0, self.spoken - _REACH)
        hidden = hidden[..., low - begin :]
        self.past = [hidden]
        sound = hidden
        for layer in self.rest:
            sound = layer(sound)
        out = sound[:, 0, (self.spoken - low) * self.hop : (until - low) * self.hop]
        self.spoken = until
        return out
