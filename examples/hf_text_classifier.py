"""A small text classifier by the Trainer of transformers, with `compute_loss_func`; needs adma[transformers].

    python examples/hf_text_classifier.py

The texts are docstrings of Python's own library, the class is the package that each is from. Configuration and
tokenizer are built here, so nothing is downloaded; with
`BertForSequenceClassification.from_pretrained(...)` and its tokenizer in their place the rest stays as it is.
"""

import ast
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

import adma

PACKAGES = ("asyncio", "email", "unittest")


def docstrings(package: str) -> list[str]:
    found = set()
    for path in sorted(Path(__import__(package).__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(ast.get_docstring(node) or "")
    return sorted(text for text in found if len(text) > 40)


texts = [(text, label) for label, package in enumerate(PACKAGES) for text in docstrings(package)]
words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
words.normalizer, words.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
special = ["[UNK]", "[PAD]"]
words.train_from_iterator(
    (text for text, _ in texts), trainers.WordLevelTrainer(vocab_size=2000, special_tokens=special)
)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")
samples = [{**tokenizer(text, truncation=True, max_length=32), "labels": label} for text, label in texts]

set_seed(0)
config = BertConfig(
    vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
    num_labels=len(PACKAGES), pad_token_id=tokenizer.pad_token_id,
)  # fmt: skip
model = BertForSequenceClassification(config)
loss_fn = adma.AdmaLoss(a=0.26, reduction="sum")


def compute_loss(outputs, labels, num_items_in_batch=None):
    """The mean over all samples of a step: the Trainer says how many, over the batches that it accumulates."""
    return loss_fn(outputs.logits, labels) / (len(labels) if num_items_in_batch is None else num_items_in_batch)


with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=folder,
            num_train_epochs=8,
            per_device_train_batch_size=16,
            gradient_accumulation_steps=2,
            learning_rate=5e-3,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=[sample for i, sample in enumerate(samples) if i % 4],
        eval_dataset=samples[::4],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_loss_func=compute_loss,
        compute_metrics=lambda found: {"accuracy": (found.predictions.argmax(1) == found.label_ids).mean()},
    )
    trainer.train()
    print(f"{len(samples)} docstrings, accuracy on unseen ones {100 * trainer.evaluate()['eval_accuracy']:.1f}%")

classifier = adma.posterior_head(model, loss_fn).eval()  # the loss's own probabilities, from the model's .logits
text = "Send the headers of a multipart message with its attachments."
with torch.no_grad():
    p = classifier(**tokenizer(text, return_tensors="pt"))[0].tolist()
print(f"{text!r}: " + ", ".join(f"{package} {value:.2f}" for package, value in zip(PACKAGES, p, strict=True)))
