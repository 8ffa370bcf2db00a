"""Examples that run: `python -m examples.NAME [--quick] [--out DIR]`."""
