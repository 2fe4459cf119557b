"""A plain training loop: in the place of nn.CrossEntropyLoss stands a loss of adma, and nothing else changes.

    python examples/plain_loop.py

Real digits (scikit-learn's). At the end the network is made one of probabilities, to be used without its loss.
"""

import torch
from sklearn.datasets import load_digits

import adma

data = load_digits()
x, y = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
test = torch.arange(len(y)) % 3 == 0
train = torch.utils.data.TensorDataset(x[~test], y[~test])

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
loss_fn = adma.AdmaLoss(a=0.26)  # was: torch.nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(10):
    for inputs, target in torch.utils.data.DataLoader(train, batch_size=32, shuffle=True):
        optimizer.zero_grad()
        loss_fn(model(inputs), target).backward()
        optimizer.step()

classifier = adma.posterior_head(model, loss_fn).eval()
with torch.no_grad():
    p = classifier(x[test])
print(f"test accuracy {100 * (p.argmax(1) == y[test]).float().mean():.1f}%")
print(f"probabilities of a digit: {' '.join(f'{value:.3f}' for value in p[0].tolist())}")
