"""Front door: `kwela manifests`."""

from front_door import run

if __name__ == "__main__":  # a worker process imports this file too
    run("manifests")
