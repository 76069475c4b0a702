"""Front door: `kwela manifests`."""

from front_door import run

run("manifests")
