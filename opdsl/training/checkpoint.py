"""Checkpoints: nested containers of arrays and plain values in one safetensors file, bit for bit.

Arrays are stored as tensors; the structure around them, with every plain value, is JSON in the file's own header, so
that one atomic replacement of one file keeps both together. A checksum over both tells a damaged file from a sound one,
and the checkpoint before the last is kept for that case. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from opdsl.errors import OpdslWarning, ProblemError
from opdsl.training.files import replace_file, write_json

FORMAT = 2
_HEADER_LIMIT = 8 << 20  # bytes; safetensors allows a hundred megabytes, which JSON turns into gigabytes of objects

Arrays = dict[str, np.ndarray[Any, Any]]


def pack(tree: Any) -> tuple[Arrays, Any]:
    """Split a tree of dicts, lists, tuples, arrays and plain values into arrays and a JSON description.

    Dictionary keys may be texts or whole numbers; floats keep all their bits (JSON prints the shortest text that
    reads back equal).

    Example:
        >>> arrays, shape = pack({"a": np.zeros(2), 0: [1.5, None]})
        >>> sorted(arrays), unpack(arrays, shape)[0]
        (['0'], [1.5, None])
    """
    arrays: Arrays = {}

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


def unpack(arrays: Arrays, description: Any) -> Any:
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
        case "value":
            return content
    raise ValueError(f"unknown kind of content {kind!r}")


def in_folder(folder: Path) -> Path:
    """Where the checkpoint of a run stands among its results."""
    return folder / "checkpoint.safetensors"


def previous(path: Path) -> Path:
    """Where the checkpoint before the last one is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save(path: Path, tree: Any, facts: dict[str, Any]) -> None:
    """Write a checkpoint; at every moment the last complete one is on the disk.

    Args:
        path: ``….safetensors``; ``facts`` is also written beside it as ``.json``, for people. The checkpoint that was
            there becomes ``….previous.safetensors``.
        tree: what `load` returns.
        facts: plain values about the run: problem, backend, step, …

    Raises:
        OSError: the disk is full or gone; the old checkpoint is untouched.
    """
    from safetensors.numpy import save as to_bytes

    arrays, description = pack(tree)
    content = json.dumps({"format": FORMAT, "facts": facts, "tree": description})
    header = {"opdsl": content, "sha256": _checksum(content, arrays)}
    path.parent.mkdir(parents=True, exist_ok=True)
    # A damaged checkpoint must not push out the sound one before it.
    keep = previous(path) if path.is_file() and _problem(path) is None else None
    replace_file(path, lambda partial: partial.write_bytes(to_bytes(arrays, metadata=header)), keep=keep)
    write_json(path.with_suffix(".json"), {key: value for key, value in facts.items() if key != "source"})


def load(path: Path) -> tuple[Any, dict[str, Any]]:
    """Read a checkpoint: the tree and the facts. Where it is damaged, the one before it, with a warning.

    Raises:
        ProblemError: there is none, it is damaged and so is the one before it, or it was not written in this format.
    """
    earlier = previous(path)
    if not path.exists() and not earlier.exists():
        raise ProblemError(f"nothing to resume: no checkpoint at {path}; run without --resume first", code="E820")
    try:
        return _read(path)
    except ProblemError as error:
        try:
            tree, facts = _read(earlier)
        except ProblemError:
            raise error from None
        warnings.warn(f"{error.message}; {earlier.name}, the one before it, is used instead", OpdslWarning, stacklevel=2)
        return tree, facts


def facts(path: Path) -> dict[str, Any] | None:
    """What the checkpoint at a path (or the one before it) says about its run; None where there is none to protect."""
    for candidate in (path, previous(path)):
        try:
            return _read(candidate)[1]
        except ProblemError:
            continue
    return None


def _problem(path: Path) -> ProblemError | None:
    try:
        _read(path)
    except ProblemError as error:
        return error
    return None


def _read(path: Path) -> tuple[Any, dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ProblemError(f"there is no checkpoint at {path}", code="E821")
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
        if length > _HEADER_LIMIT:
            raise ValueError(f"its header would be {length} bytes long")
        with safe_open(str(path), framework="numpy") as stream:
            header: Mapping[str, str] = stream.metadata() or {}
            if "opdsl" not in header:  # before any array of a foreign file is read
                raise ValueError("nothing in it is from opdsl")
            content = json.loads(header["opdsl"])
            found = content.get("format")
            if found != FORMAT:
                raise ProblemError(f"{path} has checkpoint format {found}, this version reads {FORMAT}; start again", code="E821")
            arrays: Arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        if header.get("sha256") != _checksum(header["opdsl"], arrays):
            raise ProblemError(f"{path} is damaged: its checksum does not fit its content", code="E821")
        tree, about = unpack(arrays, content["tree"]), content["facts"]
        if not isinstance(about, dict):
            raise TypeError("it says nothing about its run")
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ProblemError(f"{path} is not a checkpoint of opdsl: {str(error)[:200]}", code="E821") from error
    return tree, about


def _checksum(content: str, arrays: Arrays) -> str:
    digest = hashlib.sha256(content.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"|{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
