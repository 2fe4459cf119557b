"""Gradient boosting where labels are wrong: LightGBM's own objective beside members of the family.

    pip install 'adma[boosting]'
    python examples/boosting.py

Real digits (scikit-learn's), 40% of the training labels false, test labels true, three draws of the labels. The loss's
parameter is fixed in advance and not searched: `adma tune` is for networks.
"""

import warnings

import lightgbm as lgb
import numpy as np
from sklearn.datasets import load_digits

from adma.boosting import LightGBMObjective

x, y = load_digits(return_X_y=True)
test = np.arange(len(y)) % 3 == 0
print(f"{'':24}accuracy on {test.sum()} test samples, three draws of false labels")
for loss in ("built-in", "cce", "adma:a=0.26", "adma:a=0.5", "gce:q=0.7"):
    found = []
    for seed in range(3):
        chance = np.random.default_rng(seed)
        noisy = np.where(chance.random(len(y)) < 0.4, (y + chance.integers(1, 10, len(y))) % 10, y)
        objective = None if loss == "built-in" else LightGBMObjective(loss)
        model = lgb.LGBMClassifier(objective=objective, n_estimators=60, num_leaves=8, n_jobs=1, verbose=-1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that predict gives raw scores
            raw = model.fit(x[~test], noisy[~test]).predict(x[test], raw_score=True)
        found.append((raw.argmax(1) == y[test]).mean())
    print(f"{loss:24}{' '.join(f'{value:.3f}' for value in found)}")
