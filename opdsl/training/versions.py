"""Which versions a result was made with."""

from __future__ import annotations

import platform
from importlib import metadata

_LIBRARIES = ("opdsl", "numpy", "scipy", "jax", "optax", "torch", "safetensors")


def version(name: str = "opdsl") -> str | None:
    """Version of an installed distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Versions of Python, opdsl and the libraries that numbers depend on."""
    found = {name: text for name in _LIBRARIES if (text := version(name)) is not None}
    return {"python": platform.python_version()} | found
