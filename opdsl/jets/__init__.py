"""The engine: push jets forward over a captured graph (elementwise, linear, bilinear)."""
