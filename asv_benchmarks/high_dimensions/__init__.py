"""Two-body Allen–Cahn in 10² to 10⁶ dimensions: exact and sampled Laplacians."""
