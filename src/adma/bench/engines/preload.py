"""What the server of `processes` imports before it forks; nothing else imports this."""

import os

from adma.bench.engines.processes import die_with

die_with(os.getppid())  # not after the imports, while someone waits for its end of a pipe

import torch._dynamo  # noqa: E402, F401  # imported by the first optimizer that is made

import adma.bench.engines.local  # noqa: E402
import adma.bench.loading  # noqa: E402
import adma.bench.train  # noqa: E402, F401
