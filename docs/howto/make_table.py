"""Write the table of "Use your own data": `python docs/howto/make_table.py table.npz`."""

import sys

import numpy as np

rng = np.random.default_rng(0)
x = rng.normal(size=(300, 6)).astype(np.float32)
y = (x[:, 0] + 0.5 * rng.normal(size=300) > 0).astype(np.int64)
np.savez(sys.argv[1], x=x, y=y)
