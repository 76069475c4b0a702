"""Judge how much generated clips sound like reference music, from features of their sound."""
