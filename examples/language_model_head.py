"""Train a small causal language model on Python's own docstrings, its last layer and its loss together.

    python examples/language_model_head.py

Three runs from the same start: cross-entropy; Adma; cross-entropy at first, then with each token weighted by its own
probability, as dynamic fine-tuning does (DFT, arXiv 2508.05629): that is the gradient of 1 - p, generalised
cross-entropy with q = 1. Of the next characters of unseen text it prints, for each run, what they cost in nats; their
mean probability, which token weighting raises at the cost of the nats; and how many are guessed right. Then a line that
the first model writes.

The head is tied to the embedding, and no logits are held. With a hundred characters that would not matter; with a
vocabulary of 100,000 they are most of the memory.
"""

import argparse
import ast
import importlib
import inspect

import torch
from torch import nn

import adma

CONTEXT, WIDTH, STEPS, BATCH = 32, 64, 360, 24
MODULES = "argparse ast collections csv ctypes datetime decimal difflib doctest email enum fractions functools heapq "
MODULES += (
    "inspect json logging optparse os pathlib pickle random re shutil statistics string subprocess textwrap typing"
)


def docstrings() -> str:
    """Every docstring of the modules, one after the other."""
    found = []
    for name in MODULES.split():
        tree = ast.parse(inspect.getsource(importlib.import_module(name)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                found.append(ast.get_docstring(node) or "")
    return "\n".join(filter(None, found)).encode("ascii", "ignore").decode()


class Model(nn.Module):
    """Hidden states (batch, time, WIDTH) of tokens (batch, time); the head makes the logits, or the loss."""

    def __init__(self, characters: int):
        super().__init__()
        self.token = nn.Embedding(characters, WIDTH)
        self.place = nn.Embedding(CONTEXT, WIDTH)
        nn.init.normal_(self.token.weight, std=WIDTH**-0.5)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        time = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(time)
        return self.body(self.token(tokens) + self.place.weight[:time], mask, is_causal=True)


def windows(text: torch.Tensor, starts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    cut = text[starts[:, None] + torch.arange(CONTEXT + 1)]
    return cut[:, :-1], cut[:, 1:]


def train(member: str, later: str, text: torch.Tensor, characters: int, steps: int) -> tuple[Model, nn.Module]:
    """A model and its head, trained with one loss, and for the last quarter with another (or the same)."""
    torch.manual_seed(0)
    model = Model(characters)
    head = adma.LinearFlexibleLoss(WIDTH, characters, member, linear_weight=model.token.weight)
    optimizer = torch.optim.AdamW(model.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=steps)
    for step in range(steps):
        if step == 3 * steps // 4:
            head.member = adma.parse(later)
        tokens, target = windows(text, torch.randint(len(text) - CONTEXT, (BATCH,)))
        optimizer.zero_grad()
        head(model(tokens), target).backward()
        optimizer.step()
        rate.step()
    return model, head


@torch.no_grad()
def evaluate(model: Model, head: nn.Module, text: torch.Tensor) -> tuple[float, float, float]:
    """Nats a character, mean probability and share guessed right in per cent."""
    tokens, target = windows(text, torch.arange(0, len(text) - CONTEXT, CONTEXT))
    logits = head.logits(model(tokens))
    nats = adma.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    return (
        nats.mean().item(),
        100 * torch.exp(-nats).mean().item(),
        100 * (logits.argmax(-1) == target).float().mean().item(),
    )


@torch.no_grad()
def write(model: Model, head: nn.Module, alphabet: list[str], start: str, length: int = 60) -> str:
    tokens = [alphabet.index(c) for c in start]
    for _ in range(length):
        hidden = model(torch.tensor([tokens[-CONTEXT:]]))
        tokens.append(torch.multinomial(torch.softmax(2 * head.logits(hidden[0, -1]), 0), 1).item())
    return "".join(alphabet[t] for t in tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    steps = parser.parse_args().steps
    written = docstrings()
    alphabet = sorted(set(written))
    index = {c: i for i, c in enumerate(alphabet)}
    text = torch.tensor([index[c] for c in written])
    seen, unseen = text[: -len(text) // 20], text[-len(text) // 20 :]
    print(f"{len(text)} characters, {len(alphabet)} different ones")
    runs = {
        "cross-entropy": ("cce", "cce"),
        "adma": ("adma:a=0.26,normalize=true",) * 2,
        "token-weighted": ("cce", "gce:q=1"),
    }
    for name, (member, later) in runs.items():
        model, head = train(member, later, seen, len(alphabet), steps)
        nats, probability, right = evaluate(model, head, unseen)
        print(f"{name:<15} {nats:.2f} nats  {probability:.1f}% probable  {right:.1f}% right", flush=True)
        if name == "cross-entropy":
            sample = write(model, head, alphabet, "Return ")
    print(repr(sample))


if __name__ == "__main__":
    main()
