"""Front door: `kwela emotion`."""

from front_door import run

run("emotion")
