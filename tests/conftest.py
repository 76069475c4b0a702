"""Tests share two cores: a thread for each process, and none that spins while it waits. Read before torch is.

Another number of threads would sum in another order, too.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["OMP_NUM_THREADS"] = "1"
