"""Learn Adma's `a` while a network trains on digits of which 40% have false labels, beside plain cross-entropy.

    python examples/learn_loop.py

Prints the learned `a`, and both test accuracies.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import adma

data = load_digits()
generator = torch.Generator().manual_seed(0)
order = torch.randperm(len(data.target), generator=generator)
x = torch.tensor(data.data, dtype=torch.float32)[order] / 16
y = torch.tensor(data.target)[order]
train, test = slice(0, 1300), slice(1300, None)
false = torch.rand(1300, generator=generator) < 0.4
labels = torch.where(false, (y[train] + torch.randint(1, 10, (1300,), generator=generator)) % 10, y[train])


def accuracy(learned: bool) -> tuple[float, nn.Module]:
    """Test accuracy in per cent, and the loss as it ended."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loss_fn = adma.AdmaLoss(a=0.26) if learned else adma.CrossEntropyLoss()
    held_out = 130 if learned else 0  # a tenth of the training samples, false labels and all
    if learned:
        tuner = adma.flex.ShapeTuner(loss_fn, model, optimizer, held_out=(x[:held_out], labels[:held_out]))
    for _ in range(30):
        for index in (torch.randperm(1300 - held_out) + held_out).split(64):
            optimizer.zero_grad()
            loss_fn(model(x[index]), labels[index]).backward()
            optimizer.step()
            if learned:
                tuner.step(x[index], labels[index])
    return 100 * (model(x[test]).argmax(1) == y[test]).float().mean().item(), loss_fn


if __name__ == "__main__":
    plain, _ = accuracy(learned=False)
    found, loss_fn = accuracy(learned=True)
    print(f"cross-entropy         test accuracy {plain:.1f}%")
    print(f"adma, learned a {loss_fn.a:.2f}  test accuracy {found:.1f}%")
