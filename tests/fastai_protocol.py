"""Run a program where fastai is not installed, with a learner that speaks its protocol as far as the program needs.

    python tests/fastai_protocol.py PROGRAM

fastai needs torchvision, which this project does without. Names, order of events and what is asked of a loss are those
of fastai 2.8: a callback finds the learner's attributes as its own, and predictions go through the loss's `activation`.
"""

import contextlib
import runpy
import sys
import types

import torch


class Callback:
    order = 0

    def __init__(self):
        self.learn = None

    def __getattr__(self, name):
        return getattr(self.learn, name)


class DataLoaders:
    def __init__(self, train, valid):
        self.train, self.valid = train, valid


class Learner:
    def __init__(self, dls, model, loss_func, opt_func, lr, cbs):
        self.dls, self.model, self.loss_func, self.cbs = dls, model, loss_func, cbs
        self.opt_func, self.lr, self.training, self.epoch, self.pct_train = opt_func, lr, False, 0, 0.0
        for callback in cbs:
            callback.learn = self

    def no_logging(self):
        return contextlib.nullcontext()

    def __call__(self, event):
        for callback in sorted(self.cbs, key=lambda callback: callback.order):
            if event in vars(type(callback)):
                getattr(callback, event)()

    def fit(self, epochs):
        optimizer = self.opt_func(self.model.parameters(), lr=self.lr)
        self("before_fit")
        for epoch in range(epochs):
            self.epoch = epoch
            self("before_epoch")
            for training, batches in ((True, self.dls.train), (False, self.dls.valid)):
                self.training = training
                self("before_train" if self.training else "before_validate")
                self.model.train(self.training)
                with torch.set_grad_enabled(self.training):
                    for number, (x, y) in enumerate(batches):
                        if self.training:
                            self.pct_train = (self.epoch + number / len(batches)) / epochs
                        self("before_batch")
                        loss = self.loss_func(self.model(x), y)
                        if self.training:
                            optimizer.zero_grad()
                            loss.backward()
                            optimizer.step()
                        self("after_batch")
                self("after_train" if self.training else "after_validate")
            self("after_epoch")
        self("after_fit")

    @torch.no_grad()
    def get_preds(self, dl):
        found = [(self.loss_func.activation(self.model.eval()(x)), y) for x, y in dl]
        return tuple(torch.cat(part) for part in zip(*found, strict=True))


NAMES = {
    "fastai.callback.core": {"Callback": Callback},
    "fastai.data.core": {"DataLoaders": DataLoaders},
    "fastai.learner": {"Learner": Learner},
    "fastai.optimizer": {"Adam": torch.optim.Adam},
}

if __name__ == "__main__":
    for path, names in NAMES.items():
        parts = path.split(".")
        for end in range(1, len(parts) + 1):
            package = sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
            package.__path__ = []
        vars(package).update(names)
    runpy.run_path(sys.argv[1], run_name="__main__")
