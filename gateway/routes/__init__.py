"""HTTP in, scores out: one module per group of routes."""
