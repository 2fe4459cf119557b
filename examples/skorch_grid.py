"""A network as a scikit-learn estimator, and a grid search over Adma's `a`; needs skorch.

    python examples/skorch_grid.py

Real digits (scikit-learn's), 40% of the training labels false; the grid is judged on folds of these very labels. skorch
gives no probabilities of a loss that it does not know: the class below takes them from the loss.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier

import adma


class Classifier(NeuralNetClassifier):
    def predict_proba(self, X):
        return self.criterion_.posterior(self.forward(X)).numpy()


class Network(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))


x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32")
test = np.arange(len(y)) % 3 == 0
chance = np.random.default_rng(0)
noisy = np.where(chance.random(len(y)) < 0.4, (y + chance.integers(1, 10, len(y))) % 10, y)

torch.manual_seed(0)
network = Classifier(
    Network, criterion=adma.AdmaLoss, criterion__a=0.26, optimizer=torch.optim.Adam, lr=3e-3, max_epochs=30,
    batch_size=64, train_split=None, verbose=0,
)  # fmt: skip
search = GridSearchCV(network, {"criterion__a": [0.05, 0.26, 0.5]}, cv=3, scoring="accuracy")
search.fit(x[~test], noisy[~test])
for a, score in zip(search.cv_results_["param_criterion__a"], search.cv_results_["mean_test_score"], strict=True):
    print(f"a {a:<4}  accuracy on held-out folds {100 * score:.1f}%")
print(f"best a {search.best_params_['criterion__a']}  test accuracy {100 * search.score(x[test], y[test]):.1f}%")
print(f"probabilities sum to {search.predict_proba(x[test]).sum(1).mean():.3f}")
