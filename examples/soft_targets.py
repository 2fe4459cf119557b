"""Mixup and CutMix: targets that are probabilities go into a loss of adma as they go into nn.CrossEntropyLoss.

    python examples/soft_targets.py

The loss is `sum_j y_j psi(-log s_j)`, linear in the target y: one call with the mixed target is the usual
`share * loss(first) + (1 - share) * loss(second)`.
"""

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import one_hot

import adma

data = load_digits()
x, y = torch.tensor(data.images, dtype=torch.float32) / 16, torch.tensor(data.target)
test = torch.arange(len(y)) % 3 == 0
targets = one_hot(y, 10).float()
SIDE = 8


def mixup(inputs: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image blended with another of the batch (Zhang 2018)."""
    share, other = torch.distributions.Beta(0.4, 0.4).sample(), torch.randperm(len(inputs))
    return share * inputs + (1 - share) * inputs[other], share * target + (1 - share) * target[other]


def cutmix(inputs: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A square of each image from another of the batch (Yun 2019)."""
    size, other = int(torch.randint(1, SIDE, ())), torch.randperm(len(inputs))
    top, left = torch.randint(SIDE + 1 - size, (2,)).tolist()
    inputs = inputs.clone()
    inputs[:, top : top + size, left : left + size] = inputs[other, top : top + size, left : left + size]
    share = 1 - size**2 / SIDE**2
    return inputs, share * target + (1 - share) * target[other]


for mix in (mixup, cutmix):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    loss_fn = adma.AdmaLoss(a=0.26)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    train = torch.utils.data.TensorDataset(x[~test], targets[~test])
    for _ in range(15):
        for batch in torch.utils.data.DataLoader(train, batch_size=32, shuffle=True):
            inputs, target = mix(*batch)
            optimizer.zero_grad()
            loss_fn(model(inputs), target).backward()
            optimizer.step()
    print(f"{mix.__name__:6}  test accuracy {100 * (model(x[test]).argmax(1) == y[test]).float().mean():.1f}%")
