"""A scheduled shape in the Trainer of transformers, by a callback; needs adma[transformers].

python examples/schedule_hf_trainer.py
"""

import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import adma
from adma.flex.transformers import ShapeSchedulerCallback

torch.manual_seed(0)
words = torch.randint(2, 100, (320, 12))  # made-up texts: the class is whether the first word is an odd number
data = [{"input_ids": text, "labels": int(text[0]) % 2} for text in words]
config = BertConfig(
    vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=2
)

loss_fn = adma.AdmaLoss(normalize=True)
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        BertForSequenceClassification(config),
        TrainingArguments(
            output_dir=folder,
            num_train_epochs=3,
            per_device_train_batch_size=32,
            learning_rate=3e-3,
            logging_strategy="epoch",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=data,
        compute_loss_func=lambda outputs, labels, num_items_in_batch=None: loss_fn(outputs.logits, labels),
        callbacks=[ShapeSchedulerCallback(loss_fn, a="cosine/0.01/0.4")],
    )
    trainer.train()
for entry in trainer.state.log_history:
    if "loss" in entry:
        print(f"epoch {entry['epoch']:.0f}  a {entry['shape/a']:.3f}  training loss {float(entry['loss']):.3f}")
