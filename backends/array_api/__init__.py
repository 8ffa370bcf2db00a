"""NumPy and any other array-API namespace: trace a function, map its calls."""
