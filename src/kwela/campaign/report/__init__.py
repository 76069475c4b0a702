"""Show a campaign to people: the status screen, the report, the deliverables."""
