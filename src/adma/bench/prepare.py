"""From a study document to a plan: data loaded, settings checked, sizes and costs known before anything trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from adma.bench import paper
from adma.bench.data import Dataset, augment
from adma.bench.data.catalog import load
from adma.bench.data.conditions import NONE, canonical_conditions, describe_conditions
from adma.bench.errors import BenchError
from adma.bench.estimate import seconds_per_cell
from adma.bench.loading import Loader, held_out_of, split_of
from adma.bench.loss_specs import canonical_losses, learns
from adma.bench.models import canonical_model, check_model
from adma.bench.optimizers import canonical_optimizer, canonical_schedule
from adma.bench.study import Cell, Entry, Setting, Study
from adma.bench.studyfile import Task

SETTING_OPTIONS = (
    "seeds", "epochs", "model", "optimizer", "lr", "lr_schedule", "weight_decay", "batch_size", "train_size",
    "val_fraction", "test_fraction", "eval_size", "grouped", "augment", "train_fraction", "imbalance", "label_noise",
    "noisy_val",
)  # fmt: skip


@dataclass(frozen=True)
class Where:
    """How data are found, the same for all: the options of `catalog.load`."""

    data_dir: Path | None = None
    skip_bad: bool = False
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A comparison that is ready to run.

    about: of the data and the splits, as a store keeps it.
    cell_seconds: what one cell takes here, by a timed step.
    """

    entry: Entry
    source: Callable[[], Dataset]
    about: Mapping[str, Any]
    cell_seconds: float


@dataclass(frozen=True)
class Refused:
    """A comparison that cannot run, and why; the others go on."""

    task: Task
    reason: str


@dataclass(frozen=True)
class Readiness:
    """All comparisons of a document, in its order."""

    items: tuple[Prepared | Refused, ...]

    @property
    def ready(self) -> list[Prepared]:
        return [item for item in self.items if isinstance(item, Prepared)]

    def loader(self) -> Loader:
        return Loader({p.entry.study.setting.data_hash: p.source for p in self.ready})


def prepare(
    tasks: Sequence[Task],
    where: Where,
    *,
    protocol: str = "printed",
    grid: Sequence[float] = paper.GRID,
    device: str = "cpu",
    threads: int = 1,
) -> Readiness:
    """Load each data set once, check every setting on it, and time a step.

    A data set that cannot be read, or a setting that does not fit it, refuses that comparison alone.
    """
    items: list[Prepared | Refused] = []
    for (name, size), group in groupby(tasks, key=lambda t: (t.data, t.options.get("image_size"))):
        source = partial(
            load, name, data_dir=where.data_dir, image_size=image_size(size), skip_bad=where.skip_bad,
            modules=where.modules,
        )  # fmt: skip
        some = list(group)
        try:
            dataset = source()
        except BenchError as error:
            items += [Refused(task, str(error)) for task in some]
            continue
        items += _with_data(some, dataset, source, protocol, grid, device, threads)
    return Readiness(tuple(items))


def _with_data(
    tasks: Sequence[Task], dataset: Dataset, source: Callable[[], Dataset], protocol: str, grid: Sequence[float],
    device: str, threads: int,
) -> Iterator[Prepared | Refused]:  # fmt: skip
    for task in tasks:
        try:
            study, sizes, notes = make_study(task, dataset, protocol=protocol, grid=grid)
            check_model(study.setting.model, dataset.sample_shape, dataset.num_classes, study.losses, dataset.kind)
            seconds = seconds_per_cell(
                study.setting, study.losses[0], sizes, dataset.sample_shape, dataset.num_classes, device=device,
                threads=threads, kind=dataset.kind,
            )  # fmt: skip
        except BenchError as error:
            yield Refused(task, str(error))
            continue
        entry = Entry(task.name, study, task.data, task.variant)
        yield Prepared(entry, source, describe(dataset, sizes, notes), seconds)


def make_study(
    task: Task, dataset: Dataset, *, protocol: str = "printed", grid: Sequence[float] = paper.GRID
) -> tuple[Study, dict[str, int], list[str]]:
    """The study that a task means on its data; its sizes by part; notes for the reader.

    Beside the options of `studyfile.Options` it takes `train_size`, of which there must be enough. A limit on the
    training samples holds before `train_fraction` and the imbalance take their share.

    Raises:
        BenchError: an option that does not fit the data, or a loss that is not known.
    """
    options = {key: value for key, value in task.options.items() if value is not None}
    losses, note = paper.with_printed_a(_candidates(options.get("losses", ()), protocol), dataset.name)
    notes = [note] if note else []
    losses = canonical_losses(losses)
    if protocol != "printed":
        losses = paper.with_grid(losses, grid)
    vary = augment.parse(options.get("augment", augment.NONE))
    if len(dataset.sample_shape) != 3:
        if vary is not None:
            raise BenchError(
                f"--augment {vary.spec}: the samples of {dataset.name} are no images but have shape "
                f"{dataset.sample_shape}"
            )
        if dataset.kind.vocabulary and "model" not in options:
            raise BenchError(
                f"{dataset.name} holds token ids, for which no network is built in; name yours by --model "
                "package.module:function, called with in_channels (the length of a text) and num_classes"
            )
        options.setdefault("model", "mlp")
    if dataset.kind.dense:
        _check_dense(dataset, options, vary)
        options.setdefault("model", "unet")
    grouped = options.get("grouped", True) and protocol != "paper"
    if dataset.groups is None:
        grouped = True  # means the same here, so the cells are the same
    elif grouped:
        notes.append("samples of one group stay in one part")
    else:
        notes.append(
            "WARNING: divided by sample, as the paper did: samples of one group stand in training and in test, "
            "which can flatter every accuracy (`adma replay leak` measures by how much)"
        )
    given = {k: options[k] for k in _AS_THEY_ARE if k in options}
    setting = Setting(
        data=dataset.name,
        data_hash=dataset.fingerprint,
        model=canonical_model(options.get("model", "convnet")),
        optimizer=canonical_optimizer(options.get("optimizer", "adam")),
        lr_schedule=canonical_schedule(options.get("lr_schedule", "constant")),
        grouped=grouped,
        augment=augment.NONE if vary is None else vary.spec,
        **canonical_conditions(options),
        **given,
    )
    most = options.get("max_train_size")
    if most is not None and most < dataset.num_strata:
        raise BenchError(
            f"max_train_size {most}: {dataset.name} has {dataset.num_classes} classes, so at least that many are needed"
        )
    if most is not None and most < count(dataset, replace(setting, train_fraction=None, imbalance=NONE))["train"]:
        setting = replace(setting, train_size=most)
    notes += describe_conditions(setting, dataset.class_names)
    study = Study(setting, losses, tuple(range(options.get("seeds", 5))))
    _check_parts(study, dataset)
    return study, count(dataset, setting), notes


def _check_dense(dataset: Dataset, options: Mapping[str, Any], vary: augment.Augment | None) -> None:
    """Refuse what has a meaning for one label a sample alone.

    Raises:
        BenchError: such an option is given.
    """
    refused = {
        "augment": ("" if vary is None else vary.spec, "would move the pixels and not their labels"),
        "label_noise": (options.get("label_noise", NONE), "is drawn for each class's samples"),
        "imbalance": (options.get("imbalance", NONE), "thins out each class's samples"),
    }
    for name, (value, why) in refused.items():
        if value not in ("", NONE):
            raise BenchError(
                f"--{name.replace('_', '-')} {value}: it {why}, but {dataset.name} has a label for each position of a "
                "sample; leave it out"
            )


def _check_parts(study: Study, dataset: Dataset) -> None:
    """Find, before anything trains, a seed whose classes are too small: where groups stay whole, or noise is drawn.

    Raises:
        BenchError: for the imbalance, or for what a learned loss holds out.
    """
    learned = any(map(learns, study.losses))
    for seed in study.seeds if learned or study.setting.imbalance != NONE else ():
        cell = Cell(study.setting, "cce", seed)  # no draw depends on the loss
        split = split_of(cell, dataset)
        if learned:
            held_out_of(cell, dataset, split)


def _candidates(losses: Sequence[str], protocol: str) -> list[str]:
    """The losses that a protocol starts from: "clean" does without the printed a."""
    return [loss for loss in losses if protocol != "clean" or not paper.asks_for_printed_a([loss])]


def check_task(task: Task) -> None:
    """Find a mistake in a task's specs before any data are read.

    Raises:
        BenchError: what is wrong, with the task's name.
    """
    options = {key: value for key, value in task.options.items() if value is not None}
    try:
        canonical_losses(paper.with_printed_a(options.get("losses", ()), task.data)[0])
        canonical_model(options.get("model", "convnet"))
        canonical_optimizer(options.get("optimizer", "adam"))
        canonical_schedule(options.get("lr_schedule", "constant"))
        augment.parse(options.get("augment", augment.NONE))
        canonical_conditions(options)
    except BenchError as error:
        raise BenchError(f"{task.name}: {error}") from error


_AS_THEY_ARE = (
    "epochs", "lr", "weight_decay", "batch_size", "train_size", "val_fraction", "test_fraction", "eval_size",
)  # fmt: skip


def count(dataset: Dataset, setting: Setting) -> dict[str, int]:
    """How many samples train, validate and test (of seed 0: with groups it may vary a little)."""
    split = split_of(Cell(setting, "cce", 0), dataset)
    return {"train": len(split.train), "val": len(split.val), "test": len(split.test)}


def describe(dataset: Dataset, sizes: Mapping[str, int], notes: Sequence[str] = ()) -> dict[str, Any]:
    """What a store and a report keep of a data set."""
    kind = dataset.kind
    return {
        "name": dataset.name,
        "samples": len(dataset),
        "classes": list(dataset.class_names),
        "sample_shape": list(dataset.sample_shape),
        "notes": [*dataset.notes, *notes],
        "sizes": dict(sizes),
        **({"target_shape": list(kind.target_shape), "measure": kind.measure} if kind.dense else {}),
    }


def image_size(text: str | None) -> tuple[int, int] | None:
    """`32x48` as (32, 48), height first."""
    if text is None:
        return None
    height, _, width = text.partition("x")
    return int(height), int(width)
