"""Train with Adma, then read class probabilities by its own map instead of the softmax; needs adma[bench].

python examples/posterior.py
"""

import torch
from torchmetrics.functional.classification import multiclass_calibration_error

import adma

torch.manual_seed(0)
centres = torch.tensor([[0.0, 1.2], [1.0, -0.6], [-1.0, -0.6]])  # of three classes that overlap


def sample(n):
    labels = torch.randint(3, (n,))
    return centres[labels] + torch.randn(n, 2), labels


x, y = sample(20_000)
held_out, target = sample(5_000)

model = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3))
loss_fn = adma.AdmaLoss(a=0.26)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(5):
    for index in torch.randperm(len(x)).split(250):
        optimizer.zero_grad()
        loss_fn(model(x[index]), y[index]).backward()
        optimizer.step()

with torch.no_grad():
    logits = model(held_out)
for name, p in (("softmax", logits.softmax(1)), ("posterior", loss_fn.posterior(logits))):
    nll = torch.nn.functional.nll_loss(p.log(), target)
    ece = multiclass_calibration_error(p, target, num_classes=3, n_bins=15)
    print(f"{name:<9}  NLL {nll:.3f}  ECE {100 * ece:.1f} %")
