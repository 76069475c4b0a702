"""Run a campaign: train in a child process, hold the gate, raise flags, notify people."""
