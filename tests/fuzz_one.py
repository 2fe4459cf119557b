"""One property under atheris, whose inputs are driven by what they reach in adma's own code.

    python tests/fuzz_one.py tests/bench/test_fuzz.py::test_a_changed_study_file 60     # for so many seconds

The properties are the suite's own; where one fails, it ends with the input and a status other than 0.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import atheris


def main() -> None:
    place, seconds = sys.argv[1:]
    file, _, name = place.partition("::")
    path = Path(file).resolve()
    sys.path.insert(0, str(path.parent))
    import torch  # noqa: F401  # before the instrumentation, which is for adma alone

    with atheris.instrument_imports(include=["adma"]):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    length = ["-len_control=0", "-max_len=2048"]  # a property draws from many bytes
    options = ["-timeout=60", "-rss_limit_mb=4096", f"-max_total_time={seconds}", "-seed=1", *length]
    options.append(f"-artifact_prefix={tempfile.gettempdir()}/")  # where the input that failed is written
    atheris.Setup([sys.argv[0], *options], getattr(module, name).hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
