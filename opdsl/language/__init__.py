"""What an equation means: the tree, its types, its expansion into a residual; no arrays."""
