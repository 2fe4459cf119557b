"""A loop under Hugging Face's accelerate, with gradients accumulated over two batches; needs accelerate.

    python examples/accelerate_loop.py
    accelerate launch examples/accelerate_loop.py

Real digits (scikit-learn's). `adma.GlobalMean` keeps the mean that of all processes' samples, where they have different
numbers of them; in one process it is the loss itself.
"""

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits

import adma

data = load_digits()
x, y = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
test = torch.arange(len(y)) % 3 == 0
train = torch.utils.data.TensorDataset(x[~test], y[~test])

torch.manual_seed(0)
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
loader = torch.utils.data.DataLoader(train, batch_size=16, shuffle=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
loss_fn = adma.GlobalMean(adma.AdmaLoss(a=0.26))
for _ in range(10):
    for inputs, target in loader:
        with accelerator.accumulate(model):
            accelerator.backward(loss_fn(model(inputs), target))
            optimizer.step()
            optimizer.zero_grad()

with torch.no_grad():
    correct = accelerator.unwrap_model(model)(x[test]).argmax(1) == y[test]
accelerator.print(f"test accuracy {100 * correct.float().mean():.1f}%")
