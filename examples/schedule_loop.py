"""Train by hand with a shape that goes from near cross-entropy to robust, where 40% of the labels are drawn at random.

python examples/schedule_loop.py
"""

import torch

import adma
from adma.flex import ShapeScheduler

torch.manual_seed(0)
centres = torch.randn(5, 10)  # of five classes


def sample(n):
    labels = torch.randint(5, (n,))
    return centres[labels] + 0.8 * torch.randn(n, 10), labels


x, y = sample(2_000)
y = torch.where(torch.rand(len(y)) < 0.4, torch.randint(5, y.shape), y)
test, truth = sample(2_000)
epochs, batch = 10, 50

model = torch.nn.Sequential(torch.nn.Linear(10, 64), torch.nn.ReLU(), torch.nn.Linear(64, 5))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
loss_fn = adma.AdmaLoss(normalize=True)  # a -> 0 is then cross-entropy, not a loss that vanishes
shape = ShapeScheduler(loss_fn, total_steps=epochs * len(x) // batch, a="linear/0.01/0.5")
for epoch in range(epochs):
    for index in torch.randperm(len(x)).split(batch):
        optimizer.zero_grad()
        loss_fn(model(x[index]), y[index]).backward()
        optimizer.step()
        shape.step()
    accuracy = (model(test).argmax(1) == truth).float().mean()
    print(f"epoch {epoch + 1:2}  a {loss_fn.a:.3f}  test accuracy {100 * accuracy:.1f} %")
# shape.state_dict() and shape.load_state_dict(...) belong into a checkpoint, beside the optimizer's
