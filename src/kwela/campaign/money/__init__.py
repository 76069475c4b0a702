"""Count what a campaign costs and will cost: the ledger, the clocks, the plan, the simulation."""
