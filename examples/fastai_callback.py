"""A fastai Learner with Adma, its shape moved by a callback; needs fastai.

    python examples/fastai_callback.py

Real digits (scikit-learn's). fastai asks a loss for `activation` where it predicts: that is the loss's posterior.
"""

import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import Adam
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import adma


class ShapeCallback(Callback):
    """`a` in a straight line from its start to its end over the training's batches."""

    def __init__(self, start, end):
        super().__init__()
        self.start, self.end = start, end

    def before_batch(self):
        if self.training:
            self.learn.loss_func.a = self.start + (self.end - self.start) * float(self.pct_train)

    def after_train(self):
        print(f"epoch {self.epoch + 1}  a {self.learn.loss_func.a:.3f}")


data = load_digits()
x, y = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
test = torch.arange(len(y)) % 3 == 0
train = DataLoader(TensorDataset(x[~test], y[~test]), batch_size=32, shuffle=True)
held_out = DataLoader(TensorDataset(x[test], y[test]), batch_size=200)

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
loss_fn = adma.AdmaLoss(normalize=True)
loss_fn.activation = loss_fn.posterior
shape = ShapeCallback(0.05, 0.3)
learner = Learner(DataLoaders(train, held_out), model, loss_func=loss_fn, opt_func=Adam, lr=3e-3, cbs=[shape])
with learner.no_logging():
    learner.fit(5)
    p, target = learner.get_preds(dl=held_out)
print(f"test accuracy {100 * (p.argmax(1) == target).float().mean():.1f}%  probabilities sum to {p.sum(1).mean():.3f}")
