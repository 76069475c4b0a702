"""Front door: `kwela emotion`."""

from front_door import run

if __name__ == "__main__":  # a worker process imports this file too
    run("emotion")
