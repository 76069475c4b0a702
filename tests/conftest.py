"""Tests share two cores: a thread for each process, and none that spins while it waits. Read before torch is."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
