"""Studies: cells, seeds, stages and the plan."""
