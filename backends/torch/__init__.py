"""PyTorch: capture a function, map its operators, compile."""
