"""JAX: capture a function, map its primitives, compile."""
