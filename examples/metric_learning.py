"""Adma beside a triplet or a contrastive loss: one network with classes and embeddings; needs pytorch-metric-learning.

    python examples/metric_learning.py

Real digits (scikit-learn's). The classifier's loss sees the logits, the other one the embeddings before them. Prints
how many test digits the classifier gets right, and how many have a nearest neighbour of their own class among the
embeddings of the training digits.
"""

import torch
from pytorch_metric_learning.losses import ContrastiveLoss, TripletMarginLoss
from sklearn.datasets import load_digits

import adma

data = load_digits()
x, y = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
test = torch.arange(len(y)) % 3 == 0
terms = {"adma": None, "adma + triplet": TripletMarginLoss(), "adma + contrastive": ContrastiveLoss()}

for name, metric_loss in terms.items():
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
    classifier = torch.nn.Linear(8, 10)
    loss_fn = adma.AdmaLoss(a=0.26)
    optimizer = torch.optim.Adam([*body.parameters(), *classifier.parameters()], lr=3e-3)
    for _ in range(10):
        for index in torch.nonzero(~test).squeeze(1)[torch.randperm(int((~test).sum()))].split(64):
            embeddings = body(x[index])
            loss = loss_fn(classifier(embeddings), y[index])
            if metric_loss is not None:
                loss = loss + 0.5 * metric_loss(embeddings, y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        embeddings = torch.nn.functional.normalize(body(x))
        right = (classifier(body(x[test])).argmax(1) == y[test]).float().mean()
        nearest = y[~test][(embeddings[test] @ embeddings[~test].T).argmax(1)]
    neighbours = (nearest == y[test]).float().mean()
    print(f"{name:<18}  test accuracy {100 * right:.1f}%  nearest neighbour {100 * neighbours:.1f}%")
