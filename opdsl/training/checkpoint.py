"""Checkpoints: nested containers of arrays and plain values in one safetensors file, bit for bit.

Arrays are stored as tensors; the structure around them, with every plain value, is JSON in the file's own header, so
that one atomic replacement of one file keeps both together. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from opdsl.errors import ProblemError

FORMAT = 1


def pack(tree: Any) -> tuple[dict[str, np.ndarray[Any, Any]], Any]:
    """Split a tree of dicts, lists, tuples, arrays and plain values into arrays and a JSON description.

    Dictionary keys may be texts or whole numbers; floats keep all their bits (JSON prints the shortest text that
    reads back equal).

    Example:
        >>> arrays, shape = pack({"a": np.zeros(2), 0: [1.5, None]})
        >>> sorted(arrays), unpack(arrays, shape)[0]
        (['0'], [1.5, None])
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}

    def visit(node: Any) -> Any:
        if isinstance(node, dict):
            return {"dict": [[key, visit(value)] for key, value in node.items()]}
        if isinstance(node, list | tuple):
            return {"list" if isinstance(node, list) else "tuple": [visit(value) for value in node]}
        if isinstance(node, np.ndarray | np.generic):
            name = str(len(arrays))
            # ascontiguousarray makes a 0-d array one-dimensional; reshape restores it.
            arrays[name] = np.ascontiguousarray(node).reshape(np.shape(node))
            return {"array": name}
        if node is None or isinstance(node, bool | int | float | str):
            return {"value": node}
        raise TypeError(f"a checkpoint cannot hold {type(node).__name__}")

    return arrays, visit(tree)


def unpack(arrays: dict[str, np.ndarray[Any, Any]], description: Any) -> Any:
    """Undo `pack`."""
    ((kind, content),) = description.items()
    match kind:
        case "dict":
            return {key: unpack(arrays, value) for key, value in content}
        case "list":
            return [unpack(arrays, value) for value in content]
        case "tuple":
            return tuple(unpack(arrays, value) for value in content)
        case "array":
            return arrays[content]
    return content


def save(path: Path, tree: Any, facts: dict[str, Any]) -> None:
    """Write a checkpoint, replacing the old one only when the new one is complete.

    Args:
        path: ``….safetensors``; ``facts`` is also written beside it as ``.json``, for people.
        tree: what `load` returns.
        facts: plain values about the run: problem, backend, step, …
    """
    from safetensors.numpy import save_file

    arrays, description = pack(tree)
    header = {"opdsl": json.dumps({"format": FORMAT, "facts": facts, "tree": description})}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    save_file(arrays, str(partial), metadata=header)
    os.replace(partial, path)
    shown = {key: value for key, value in facts.items() if key != "source"}
    path.with_suffix(".json").write_text(json.dumps(shown, indent=2, ensure_ascii=False) + "\n", "utf-8")


def load(path: Path) -> tuple[Any, dict[str, Any]]:
    """Read a checkpoint: the tree and the facts.

    Raises:
        ProblemError: there is none, or it was not written by this version's format.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ProblemError(f"nothing to resume: no checkpoint at {path}; run without --resume first", code="E820")
    try:
        with safe_open(str(path), framework="numpy") as stream:
            header = json.loads((stream.metadata() or {}).get("opdsl", "{}"))
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ProblemError(f"{path} is not a checkpoint of opdsl: {error}", code="E821") from error
    if header.get("format") != FORMAT:
        raise ProblemError(
            f"{path} has checkpoint format {header.get('format')}, this version reads {FORMAT}; start again",
            code="E821",
        )
    return unpack(arrays, header["tree"]), header["facts"]
