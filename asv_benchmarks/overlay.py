"""An asv environment that needs no network: the project's own wheel over everything that is installed where asv runs.

asv's stock environments install the project's dependencies from a package index, for torch with gigabytes of CUDA, once per
environment; and ``existing`` cannot build a commit, so it cannot compare two. Here a bare virtual environment sees the
site-packages of the interpreter that runs asv through a ``.pth`` file, which comes *after* its own site-packages on the path: the
wheel of the commit under test shadows whatever opdsl the parent has. Only ``.pth`` files of real site folders are processed, so
an editable installation of the parent does not leak in.

``asv.conf.json`` names this module as the plugin ``.overlay``: the leading dot makes asv look beside the configuration.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import Any

from asv import util
from asv.console import log
from asv.plugins.virtualenv import Virtualenv


class Overlay(Virtualenv):
    """See the module."""

    tool_name = "overlay"

    def __init__(self, conf: Any, python: str, requirements: Any, tagged_env_vars: Any) -> None:
        super().__init__(conf, python, requirements, tagged_env_vars)
        # The interpreter that runs asv, not another one of the same version that happens to be first on the path.
        self._executable = sys.executable

    @classmethod
    def matches(cls, python: str) -> bool:
        """The version of the running interpreter only: its packages are what is laid over."""
        return python == f"{sys.version_info.major}.{sys.version_info.minor}"

    def _setup(self) -> None:
        log.info(f"Creating an environment over {sys.prefix}")
        # Without setuptools of its own: wheels are built with the parent's, which knows the licence fields of pyproject.toml.
        util.check_call(
            [sys.executable, "-m", "virtualenv", "--no-download", "--no-setuptools", "-p", self._executable, self._path]
        )
        inside = self.run_executable("python", ["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
        parents = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
        Path(inside, "parent.pth").write_text("\n".join(parents) + "\n", "utf-8")
