"""`kwela judge clouds`: measure a Spectocloud."""
