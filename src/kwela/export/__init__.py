"""Checkpoints to artefacts: ONNX, Core ML, and the evidence that stands beside each."""
