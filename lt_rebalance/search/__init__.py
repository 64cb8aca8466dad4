"""What is tuned, its journal and its account."""
