"""Files that are there as a whole or not at all, and a results folder that is known to be usable before anything is trained."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from opdsl.errors import ProblemError

_PROBE = 1 << 20  # bytes; results are a few hundred kilobytes


def replace_file(path: Path, write: Callable[[Path], object], *, keep: Path | None = None) -> None:
    """Write a file beside its place and move it there when it is complete and on the disk.

    Args:
        path: where it belongs.
        write: is given the path to write to.
        keep: where the old file is moved to instead of being replaced.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        write(partial)
        _flush(partial)
        if keep is not None:
            os.replace(path, keep)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    # The new name is on the disk only when the folder is; not every system can open one.
    with contextlib.suppress(OSError):
        _flush(path.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as JSON for people and programs, with null for what is not finite (JSON has no word for it)."""
    text = json.dumps(_finite(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    replace_file(path, lambda partial: partial.write_text(text, "utf-8"))


def _finite(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and (node != node or node in (float("inf"), -float("inf"))) else node


def usable_folder(folder: Path) -> None:
    """Make a folder for results and write into it, so that what is wrong with it is known before hours are spent.

    Raises:
        ProblemError: it is a file, may not be written, or has no room left.
    """
    probe = folder / ".opdsl-probe.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as stream:
            stream.write(bytes(_PROBE))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        is_file = folder.exists() and not folder.is_dir()
        reason = "it is a file" if is_file else error.strerror or str(error)
        raise ProblemError(f"results cannot be written to {folder}: {reason}; choose another folder (--out, out=)", code="E823") from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
