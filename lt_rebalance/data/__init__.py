"""Image sets and their long-tailed cuts."""
