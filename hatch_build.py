"""How the package is built: the CPU kernel is compiled where there is a compiler, and left out where there is none."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("src/adma/torch/kernels/native")


def _builder(root: Path) -> ModuleType:
    """The package's own build.py, without the package."""
    spec = importlib.util.spec_from_file_location("adma_native_build", root / NATIVE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class NativeBuildHook(BuildHookInterface[Any]):
    """Compiles into the source folder, where an editable install finds it, and names the wheel after the platform."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is put together; `version` is "standard" or "editable"."""
        if self.target_name != "wheel":
            return
        build = _builder(Path(self.root))
        try:
            library = build.build()
        except build.BuildError as error:
            self.app.display_warning(f"adma: the CPU kernel is left out, PyTorch does its work: {error}")
            return
        build_data["pure_python"] = False
        # no Python and no torch is linked to: any of them will do on this platform
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["force_include"][str(library)] = f"adma/torch/kernels/native/{library.name}"
