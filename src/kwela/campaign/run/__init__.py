"""Run a campaign: train in a child process, let the gate decide, raise flags, notify people."""
