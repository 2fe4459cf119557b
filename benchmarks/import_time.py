"""How long `import adma`, and the first loss that is asked for, take beside `import torch`.

Fresh processes, one after the other; CPU time and wall time.

python benchmarks/import_time.py [--rounds 10]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

CODE = """
import json, time
def now(): return time.perf_counter(), time.process_time()
begin = now()
import torch
middle = now()
import adma
end = now()
adma.AdmaLoss, adma.flex.ShapeTuner
last = now()
pairs = ((begin, middle), (middle, end), (end, last))
print(json.dumps([[after - before for before, after in zip(*pair)] for pair in pairs]))
"""


def main() -> None:
    """Print the times of torch, and what adma adds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    found = []
    for number in range(rounds + 1):
        done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
        if number:  # the first fills the disk's cache, and compiles what is not compiled yet
            found.append(json.loads(done.stdout))
    for place, name in enumerate(("import torch", "import adma after it", "the first loss asked for")):
        for kind, word in enumerate(("wall", "CPU")):
            times = [1000 * one[place][kind] for one in found]
            print(
                f"{name:26}{word:5} median {statistics.median(times):7.0f} ms"
                f"   [{min(times):.0f}, {max(times):.0f}], n = {rounds}"
            )


if __name__ == "__main__":
    main()
