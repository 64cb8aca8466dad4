"""What is asked: cells, seeds, stages and the plan."""
