"""The demo corpus and the synthetic smoke set."""
