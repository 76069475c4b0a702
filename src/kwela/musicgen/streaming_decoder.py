"""Decode EnCodec's codes while more codes are sampled; the sound equals that of one pass over all codes.

The decoder is a convolution that sees 3 frames to each side, then an LSTM, then convolutions that upsample.
The LSTM's state is carried from call to call. The convolutions run on a window that is wider than the frames
that are kept. The sound therefore lags behind the codes by 11 frames (0.2 s at 50 frames a second), and
differs from that of one pass only by rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CONVOLUTION_REACH = 3  # frames that the first convolution (kernel 7) sees to each side
_UPSAMPLING_REACH = 8  # the same of the upsampling convolutions, with room to spare


class StreamingDecoder:
    """Turns frames of codes into samples. codec: transformers' EncodecModel; hop: samples a frame."""

    def __init__(self, codec: Any, hop: int) -> None:
        self.codec, self.hop = codec, hop
        first_convolution, lstm, *self.upsampling = codec.decoder.layers
        self.first_convolution, self.lstm = first_convolution, lstm
        self.embeddings: Tensor | None = None  # (B, width, frames): of the last frames that were received
        self.hidden: list[Tensor] = []  # the LSTM's output for the last frames that it has read
        self.lstm_state: Any = None
        self.received = self.through_lstm = self.emitted = 0  # frames

    @torch.inference_mode()
    def decode(self, codes: Tensor, last: bool = False) -> Tensor:
        """Take in codes (B, K, frames) and return the samples (B, n) that no later code can change.

        last: no codes follow, so all samples that are left are returned.
        """
        new = self.codec.quantizer.decode(codes.transpose(0, 1))
        self.embeddings = new if self.embeddings is None else torch.cat([self.embeddings, new], dim=-1)
        self.received += new.shape[-1]
        ready = self.received if last else self.received - _CONVOLUTION_REACH
        if ready > self.through_lstm:
            self._run_lstm(self.embeddings, ready)
        until = self.through_lstm if last else self.through_lstm - _UPSAMPLING_REACH
        return self._upsample(until) if until > self.emitted else new.new_zeros(len(codes), 0)

    def _run_lstm(self, embeddings: Tensor, ready: int) -> None:
        """Run the first convolution and the LSTM on the frames up to `ready`."""
        begin = self.received - embeddings.shape[-1]
        margin = 2 * _CONVOLUTION_REACH  # what the convolution reflects at a cut is thrown away
        low, high = max(0, self.through_lstm - margin), min(self.received, ready + margin)
        convolved = self.first_convolution(embeddings[..., low - begin : high - begin])
        series = convolved[..., self.through_lstm - low : ready - low].permute(2, 0, 1)
        output, self.lstm_state = self.lstm.lstm(series, self.lstm_state)
        self.hidden.append((output + series).permute(1, 2, 0))
        self.through_lstm = ready
        self.embeddings = embeddings[..., max(0, ready - margin - begin) :]

    def _upsample(self, until: int) -> Tensor:
        """Return the samples of the frames up to `until` that were not returned before."""
        hidden = torch.cat(self.hidden, dim=-1)
        begin = self.through_lstm - hidden.shape[-1]
        low = max(0, self.emitted - _UPSAMPLING_REACH)
        hidden = hidden[..., low - begin :]
        self.hidden = [hidden]
        sound = hidden
        for layer in self.upsampling:
            sound = layer(sound)
        samples = sound[:, 0, (self.emitted - low) * self.hop : (until - low) * self.hop]
        self.emitted = until
        return samples
