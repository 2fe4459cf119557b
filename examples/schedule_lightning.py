"""A scheduled shape in Lightning, by a callback; needs adma[lightning].

python examples/schedule_lightning.py
"""

import lightning.pytorch as pl
import torch

import adma
from adma.flex.lightning import ShapeSchedulerCallback


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Sequential(torch.nn.Linear(10, 64), torch.nn.ReLU(), torch.nn.Linear(64, 5))
        self.loss_fn = adma.AdmaLoss(normalize=True)

    def training_step(self, batch, batch_idx):
        inputs, target = batch
        return self.loss_fn(self.model(inputs), target)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)

    def on_train_epoch_end(self):
        print(f"epoch {self.current_epoch + 1}  a {float(self.trainer.callback_metrics['shape/a']):.3f}")


pl.seed_everything(0, verbose=False)
labels = torch.randint(5, (1_000,))
inputs = torch.randn(5, 10)[labels] + 0.8 * torch.randn(1_000, 10)
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, labels), batch_size=50, shuffle=True)

classifier = Classifier()
trainer = pl.Trainer(
    max_epochs=3,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[ShapeSchedulerCallback(classifier.loss_fn, a="warmup/0.01/0.3/0.5")],
)
trainer.fit(classifier, data)
print(f"end      a {classifier.loss_fn.a:.3f}")
