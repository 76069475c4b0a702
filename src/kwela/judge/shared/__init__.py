"""What the judges share: scorecards, clips, a spectrogram, the search for copies."""
