"""What the server of `processes` imports before it forks; nothing else imports this."""

import os
import signal

from adma.bench.engines.processes import die_with

# a cluster that ends a job tells all its processes, this one too: it has to be there until those it forked have ended
signal.signal(signal.SIGTERM, signal.SIG_IGN)
die_with(os.getppid())  # not after the imports, while someone waits for its end of a pipe

import sklearn.datasets  # noqa: E402, F401  # read by most data sets of the bench
import torch._dynamo  # noqa: E402, F401  # imported by the first optimizer that is made

import adma.bench.engines.local  # noqa: E402
import adma.bench.loading  # noqa: E402
import adma.bench.train  # noqa: E402, F401
