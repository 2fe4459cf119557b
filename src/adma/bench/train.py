"""The one training loop: a cell and its data in, a row an epoch out.

Everything that chance decides comes from `cell.stream_seed`, so a cell's numbers do not depend on what ran
before it, and the losses of a seed share all of it. Hashes of what they share go into the result. What the loop has
changed is in `state`, so a training that goes on from a checkpoint takes the same steps as one that was never stopped.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adma.bench import chance, environment
from adma.bench.checkpoint import Keeper, Position
from adma.bench.data import Dataset, Split, augment
from adma.bench.data.conditions import NONE
from adma.bench.data.dataset import class_counts
from adma.bench.errors import BenchError
from adma.bench.loading import held_out_of, labels_of, split_of
from adma.bench.measuring import EVAL_BATCH, Counts, Measuring
from adma.bench.models import build_model, is_built_in, parameter_groups
from adma.bench.optimizers import make_optimizer, make_schedule
from adma.bench.parallel import ALONE, Parallel
from adma.bench.recorded import RecordedStep, restore_optimizer
from adma.bench.result import COLUMNS, DIVERGED, DONE, CellResult
from adma.bench.shaping import Shaping
from adma.bench.study import Cell, Setting

_LEAST_STEPS = 50  # of a training that is worth the recording of its step


Row = Mapping[str, float]


class StoppedError(Exception):
    """The training was asked to stop; its checkpoint, if it has any, was written."""


class UnfitStateError(Exception):
    """The checkpoint is of another network than this one, whose code was changed since."""


def train(
    cell: Cell,
    dataset: Dataset,
    *,
    device: str = "cpu",
    on_epoch: Callable[[int, Row], None] = lambda number, row: None,
    pulse: Callable[[], bool] = lambda: False,
    keeper: Keeper | None = None,
    pieces: int = 1,
    record: bool = True,
    parallel: Parallel = ALONE,
) -> CellResult:
    """Train one network and measure it after every epoch.

    Args:
        cell: setting, loss and seed.
        dataset: what `cell.setting.data` stands for.
        device: where to train.
        on_epoch: told the number of each epoch that is done, and its measures.
        pulse: called after each batch, in training and measuring: a sign of life. True asks it to stop after a step.
        keeper: of its checkpoints: it goes on from the last one, and writes one when it is time.
        pieces: a step's batch is taken in so many pieces, whose gradients are added up, to save memory.
        record: on a GPU, replay the step from a recording where it can be recorded.
        parallel: the processes that train it together, each with this call; the first one has `pulse` and `keeper`.

    Returns:
        "done", or "diverged" with the reason once the training loss or the logits are NaN or infinite.

    Raises:
        StoppedError: it was asked to stop.
        UnfitStateError: the state that `keeper` gave does not fit; `keeper.refuse` lets it not give that again.
        BenchError: a network or a loss of the user's cannot be had, or is one that `pieces` or `parallel` do not fit.
    """
    setting, started = cell.setting, time.perf_counter()
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads it
    split = split_of(cell, dataset)
    parts = ("train", "val", "test")
    tokens = dataset.kind.vocabulary > 0
    given = torch.from_numpy(dataset.x[split.train])
    mean, scale = (t.to(device) for t in (_normalisation(given) if not tokens else (torch.zeros(1), torch.ones(1))))
    x = {part: torch.from_numpy(dataset.x[getattr(split, part)]).to(device) for part in parts}
    labels = labels_of(cell, dataset, split)
    y = {part: torch.from_numpy(labels[part]).to(device) for part in parts}

    def batch_of(part: str, index: Tensor | slice) -> Tensor:
        return x[part][index] if tokens else (x[part][index].float() - mean) * scale

    chance.seed(cell.stream_seed("init"))
    model = build_model(setting.model, dataset.sample_shape, dataset.num_classes).to(device)
    initial = _hash(*(t.detach().cpu().numpy() for t in model.state_dict().values()))
    trained = parallel.wrap(model, whole=is_built_in(setting.model))
    optimizer = make_optimizer(setting.optimizer, parameter_groups(model, setting.weight_decay), setting.lr)
    vary = augment.parse(setting.augment)

    # a loss that is learned sets samples aside; the others train on all
    shaping = Shaping(cell.loss)
    loss_fn = shaping.loss_fn.to(device)
    if not shaping.divisible and (pieces > 1 or parallel.size > 1):
        raise BenchError(f"--loss {cell.loss}: it need not be a mean over samples, so a batch is not taken in parts")
    trained_on = torch.ones(len(y["train"]), dtype=torch.bool)
    held_out = torch.from_numpy(held_out_of(cell, dataset, split)) if shaping.learns else torch.tensor([]).long()
    trained_on[held_out] = False
    n, counts = int(trained_on.sum()), Counts(y["train"])
    steps = len(_batches(torch.arange(n), setting.batch_size))
    shaping.begin(
        trained, optimizer, (batch_of("train", held_out.to(device)), y["train"][held_out.to(device)]),
        epochs=setting.epochs, steps_per_epoch=steps, batch_size=setting.batch_size,
        seed=cell.stream_seed("held_out_order"),
    )  # fmt: skip
    annealing = make_schedule(setting.lr_schedule, optimizer, epochs=setting.epochs, steps_per_epoch=steps)
    no_draws = torch.empty(len(trained_on), 0, device=device)
    taken: tuple[Tensor, Tensor]
    measuring = Measuring(
        model, loss_fn, batch_of, y, num_classes=dataset.num_classes, batch_size=setting.batch_size,
        seed=cell.stream_seed("temperature"), parallel=parallel, pulse=pulse,
    )  # fmt: skip

    def step(index: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the optimizer: the batch's loss and its right answers."""
        nonlocal taken
        optimizer.zero_grad(set_to_none=True)
        parts = _pieces(index, drawn, pieces)
        found: list[tuple[Tensor, ...]] = []
        for number, (some, draws_of) in enumerate(parts, start=1):
            mine = parallel.share(some)
            inputs, target = batch_of("train", mine), y["train"][mine]
            if vary is not None:
                inputs = vary(inputs, parallel.share(draws_of))
            with parallel.adding_up(trained) if number < len(parts) else nullcontext():
                logits = trained(inputs)
                loss = parallel.mean(loss_fn, logits, target, counts.of(mine), counts.of(index))
                loss.backward()
            found.append((inputs, target, loss.detach(), (logits.detach().argmax(1) == target).sum()))
        optimizer.step()
        if len(parts) == 1:
            inputs, target, loss, right = found[0]
        else:
            inputs, target = (torch.cat([part[k] for part in found]) for k in (0, 1))
            loss, right = (torch.stack([part[k] for part in found]).sum() for k in (2, 3))
        taken = inputs, target
        return parallel.together(loss, right)

    recording: RecordedStep | None = None
    recordable = (
        record and device.startswith("cuda") and shaping.recordable and annealing.constant
        and is_built_in(setting.model) and n >= setting.batch_size and setting.epochs * steps >= _LEAST_STEPS
        and pieces == parallel.size == 1 and counts.same is not None
    )  # fmt: skip
    order_hash, augment_hash = hashlib.sha256(), hashlib.sha256()
    rows: list[dict[str, float]] = []
    losses: list[Tensor] = []  # of this epoch; summed at its end, so that a GPU is not waited for
    correct = torch.zeros((), dtype=torch.int64, device=device)
    spent = 0.0  # seconds, before this process took over
    before = 0.0  # those of the epoch that was under way

    def state() -> dict[str, Any]:
        """All that the loop has changed."""
        return {
            "model": model.state_dict(), "optimizer": optimizer.state_dict(), "annealing": annealing.state_dict(),
            "shaping": shaping.state_dict(), "chance": chance.state(device), "rows": rows, "iou": measuring.iou,
            "losses": torch.stack(losses).cpu() if losses else torch.empty(0), "correct": correct.cpu(),
            "seconds": spent + time.perf_counter() - started, "epoch_seconds": before + time.perf_counter() - clock,
        }  # fmt: skip

    begin, resumed = Position(1, 0), parallel.from_first(keeper.load() if keeper is not None else None)
    if resumed is not None:
        begin, kept = resumed
        unfit = f"it does not fit {setting.model} as it is now"
        try:
            model.load_state_dict(kept["model"])
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # a network of the user's is known by its place, and what stands there can change
            raise UnfitStateError(unfit) from error
        if _sizes(kept["optimizer"]) != _sizes(optimizer.state_dict()):  # a layer was frozen, or learns again
            raise UnfitStateError(unfit)
        if not recordable or begin.epoch > setting.epochs:  # else it is after the recording, if there are steps to come
            optimizer.load_state_dict(kept["optimizer"])
        annealing.load_state_dict(kept["annealing"])
        shaping.load_state_dict(kept["shaping"])
        rows = [dict(row) for row in kept["rows"]]
        measuring.iou = dict(kept.get("iou", {}))
        spent = kept["seconds"]
    reason = ""
    for epoch in range(1, setting.epochs + 1):
        clock = time.perf_counter()
        order = torch.randperm(
            len(trained_on), generator=torch.Generator().manual_seed(cell.stream_seed("order", epoch))
        )
        order_hash.update(order.numpy().tobytes())  # of all samples, as every loss has it
        order = order[trained_on[order]]
        draws = no_draws
        if vary is not None:
            draws = vary.draws(len(trained_on), cell.stream_seed("augment", epoch))
            augment_hash.update(draws.numpy().tobytes())
            draws = draws.to(device)
        if epoch < begin.epoch:
            continue  # it is done; only the hashes are made again
        chance.seed(cell.stream_seed("dropout", epoch))

        model.train()
        losses, correct, before = [], torch.zeros((), dtype=torch.int64, device=device), 0.0
        if recordable:
            recording = RecordedStep.attempt(step, model, optimizer, setting.batch_size, draws.shape[1], device)
            recordable = False
            chance.seed(cell.stream_seed("dropout", epoch))
            if resumed is not None:  # the recording has left the optimizer as before its first step
                restore_optimizer(optimizer, kept["optimizer"])
        done = begin.step if epoch == begin.epoch else 0
        if done:
            losses, correct, before = list(kept["losses"].to(device)), kept["correct"].to(device), kept["epoch_seconds"]
            chance.restore(kept["chance"], device)
        for number, index in enumerate(_batches(order.to(device), setting.batch_size)[done:], start=done + 1):
            loss, right = (recording or step)(index, draws[index])
            annealing.step_batch()
            shaping.step(*taken)
            losses.append(loss * counts.of(index))
            correct = correct + right
            stop = parallel.any(pulse())
            if keeper is not None and (stop or keeper.due()):
                keeper.try_to_save(Position(epoch, number), state)
            if stop:
                raise StoppedError

        total = torch.stack(losses).cpu().double().sum()
        labels_seen = counts.of(order.to(device))
        row = {"epoch": epoch, "train_loss": float(total) / labels_seen, "train_accuracy": int(correct) / labels_seen}
        found, finite = measuring.row()
        finite = finite and bool(np.isfinite(row["train_loss"]))
        row |= found
        annealing.step_epoch(row[f"val_{dataset.kind.measure}"])
        row["seconds"] = before + time.perf_counter() - clock
        rows.append(row)
        on_epoch(epoch, row)
        if not finite:
            reason = f"epoch {epoch}: the training loss is {row['train_loss']:g}" + (
                "" if not np.isfinite(row["train_loss"]) else ", the logits are not finite"
            )
            break
    # for a training with more epochs, which goes on from here
    losses, before = [], 0.0
    if keeper is not None and not reason and keeper.keep:
        keeper.try_to_save(Position(setting.epochs + 1, 0), state)

    env = {
        "versions": environment.versions(),
        "hardware": environment.hardware(device),
        "threads": torch.get_num_threads(),
        "device": device,
        "recorded": recording is not None,
        "pieces": pieces,
        "devices": parallel.size,
        "weights": _hash(*(t.detach().cpu().numpy() for t in model.state_dict().values())),
        **({"resumed_at": [begin.epoch, begin.step]} if resumed is not None else {}),
        "sizes": {part: len(y[part]) for part in y} | ({"held_out": len(held_out)} if shaping.learns else {}),
        "conditions": _conditions(dataset, split, labels),
        **({"iou": measuring.iou} if measuring.iou else {}),
        "shared": {
            "split": split.fingerprint,
            "init": initial,
            "order": order_hash.hexdigest()[:16],
            "augment": augment_hash.hexdigest()[:16] if vary is not None else "none",
            **_label_hashes(setting, labels),
        },
    }
    epochs = {name: np.array([row.get(name, np.nan) for row in rows]) for name in COLUMNS}
    status = DIVERGED if reason else DONE
    return CellResult(cell, status, reason, spent + time.perf_counter() - started, epochs, env, shaping.trace())


def _sizes(optimizer: Mapping[str, Any]) -> list[int]:
    """How many parameters each group has, in an optimizer's state."""
    return [len(group["params"]) for group in optimizer["param_groups"]]


def _pieces(index: Tensor, drawn: Tensor, pieces: int) -> list[tuple[Tensor, Tensor]]:
    """A batch's samples and what was drawn for them, in pieces of at least two samples."""
    pieces = max(1, min(pieces, len(index) // 2))
    return list(zip(index.tensor_split(pieces), drawn.tensor_split(pieces), strict=True))


def _conditions(dataset: Dataset, split: Split, labels: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Labels of each true class that are trained on, and the share of false labels by part."""
    truth = {part: dataset.y[getattr(split, part)] for part in labels}
    return {
        "class_counts": class_counts(truth["train"], dataset.num_classes).tolist(),
        "false_labels": {part: float((labels[part] != truth[part]).mean()) for part in labels},
    }


def _label_hashes(setting: Setting, labels: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Hashes of drawn labels; without noise the data's fingerprint and the split say all."""
    if setting.label_noise == NONE:
        return {}
    return {f"{part}_labels": _hash(labels[part]) for part in ("train", "val")}


def _normalisation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation of the training samples, a channel of images, a feature of vectors."""
    dims = tuple(d for d in range(x.dim()) if d != 1) if x.dim() > 2 else (0,)
    count = x.numel() // (x.shape[1] if x.dim() > 1 else 1)

    def average(function: Callable[[Tensor], Tensor]) -> Tensor:  # in float64, a piece at a time
        pieces = [function(piece.double()).sum(dims, keepdim=True) for piece in x.split(EVAL_BATCH)]
        return torch.stack(pieces).sum(0) / count

    mean = average(lambda v: v)
    std = average(lambda v: (v - mean) ** 2).sqrt()
    return mean.float(), torch.where(std > 0, 1.0 / std.clamp(min=1e-12), 1.0).float()


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Batches in order; a last batch of one sample joins the one before, as batch normalisation needs two."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _hash(*arrays: np.ndarray[Any, Any]) -> str:
    h = hashlib.sha256()
    for array in arrays:
        h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()[:16]
