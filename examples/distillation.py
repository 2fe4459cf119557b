"""Distillation: a small network learns a large one's probabilities by a flexible loss.

    python examples/distillation.py

The student's softmax is not what it was taught: the minimum of `sum_j y_j psi(-log s_j)` is the s whose recovered
posterior is y. `loss_fn.posterior` gives the teacher's probabilities back, which the last column shows.
"""

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import kl_div

import adma

WARMTH = 3.0  # temperature of the teacher's probabilities, and of the student's logits

data = load_digits()
x, y = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
test = torch.arange(len(y)) % 3 == 0


def network(hidden: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 10))


def fit(
    model: torch.nn.Module, loss_fn: torch.nn.Module, target: torch.Tensor, epochs: int, warmth: float = 1.0
) -> None:
    """Train on indices or on probabilities."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    train = torch.utils.data.TensorDataset(x[~test], target)
    for _ in range(epochs):
        for inputs, wanted in torch.utils.data.DataLoader(train, batch_size=32, shuffle=True):
            optimizer.zero_grad()
            loss_fn(model(inputs) / warmth, wanted).backward()
            optimizer.step()


def accuracy(model: torch.nn.Module) -> float:
    return 100 * (model(x[test]).argmax(1) == y[test]).float().mean().item()


teacher = network(256)
fit(teacher, adma.CrossEntropyLoss(), y[~test], epochs=8)
print(f"teacher            test accuracy {accuracy(teacher):.1f}%")
with torch.no_grad():
    taught = (teacher(x) / WARMTH).softmax(1)
    for spec in ("cce", "adma:a=0.26"):
        student, loss_fn = network(16), adma.make_loss(spec)
        with torch.enable_grad():
            fit(student, loss_fn, taught[~test], epochs=30, warmth=WARMTH)
        logits = student(x[test]) / WARMTH
        nats = [
            kl_div(p.log(), taught[test], reduction="batchmean").item()
            for p in (logits.softmax(1), loss_fn.posterior(logits))
        ]
        print(
            f"student, {spec:11} test accuracy {accuracy(student):.1f}%  "
            f"nats from the teacher: softmax {nats[0]:.3f}, recovered {nats[1]:.3f}"
        )
