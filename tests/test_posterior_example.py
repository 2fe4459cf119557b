"""The example of posteriors runs as its page says, and shows what it is there to show."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "posterior.py"


def test_the_posterior_is_better_than_the_softmax_on_held_out_data():
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^(\w+) +NLL ([\d.]+) +ECE ([\d.]+) %$", done.stdout, re.MULTILINE)
    assert [name for name, _, _ in found] == ["softmax", "posterior"]
    (_, *softmax), (_, *posterior) = ((name, float(nll), float(ece)) for name, nll, ece in found)
    assert posterior[0] < softmax[0]
    assert posterior[1] < softmax[1] / 2
