"""Groups of options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path

from adma.options.values import above_zero, duration, jobs, not_negative, pairs, place, positive, runs, size, size_text


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", metavar="DATA",
        help="digits, mnist or another known name (adma data list); a folder, .tar or .zip of CLASS/IMAGE or "
        "train|val|test/CLASS/IMAGE, or of images/ beside masks/; an .npz with x and y; package.module:function",
    )  # fmt: skip


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """How one training runs, but for its loss, seed and learning rate."""
    add = parser.add_argument
    add("--epochs", type=positive, default=10, metavar="N", help="passes over the data (default: %(default)s)")
    add(
        "--model",
        metavar="SPEC",
        help="convnet[:activation=relu,...], mlp, resnet34[:...], unet[:depth=3,...] or package.module:function "
        "(default: convnet for images, unet for images with a label for each pixel, else mlp)",
    )
    add(
        "--optimizer",
        default="adam",
        metavar="SPEC",
        help="adam, adamw, sgd, sgd:momentum=0.9,nesterov=true (default: %(default)s)",
    )
    add(
        "--lr-schedule",
        default="constant",
        metavar="SPEC",
        help="constant, cosine, step, plateau (default: %(default)s)",
    )
    add(
        "--weight-decay",
        type=not_negative,
        default=1e-4,
        metavar="X",
        help="L2 on the convolutions (default: %(default)s)",
    )
    add("--batch-size", type=positive, default=64, metavar="N", help="(default: %(default)s)")
    add("--train-size", type=positive, metavar="N", help="train on this many samples only, drawn by class")
    add(
        "--val-fraction",
        type=float,
        default=0.2,
        metavar="X",
        help="where the data has no val part (default: %(default)s)",
    )
    add(
        "--test-fraction",
        type=float,
        default=0.2,
        metavar="X",
        help="where the data has no test part (default: %(default)s)",
    )
    add("--eval-size", type=positive, metavar="N", help="validate and test on at most this many samples each")
    add(
        "--by-sample",
        dest="grouped",
        action="store_false",
        help="let samples of one group (a lesion) stand in training and in test; by default groups stay whole",
    )
    add_condition_options(parser)
    add("--augment", default="none", metavar="SPEC", help="such as rotate=30,shift=0.2,flip,warp=0.1 (default: none)")
    add("--image-size", type=size, metavar="HxW", help="resize images, such as 32x32")


def add_study_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--scale", metavar="NAME", help="smoke, small or paper, or what the study has (default: its first)")
    add(
        "--datasets", action="extend", nargs="+", metavar="DATA",
        help="these data sets in the place of the study's",
    )  # fmt: skip
    add("--loss", action="append", metavar="SPEC", help="these losses in the place of the study's; again for more")
    add("--seeds", type=runs, metavar="N", help="runs of each loss")
    add("--epochs", type=positive, metavar="N")
    add("--max-train-size", type=positive, metavar="N", help="train on at most so many samples, drawn by class")
    add("--eval-size", type=positive, metavar="N", help="validate and test on at most so many samples each")
    add("--image-size", type=size_text, metavar="HxW", help="resize images, such as 32x32")
    add("--model", metavar="SPEC")
    add("--optimizer", metavar="SPEC")
    add("--lr", type=above_zero, metavar="X", help="learning rate")
    add_condition_options(parser)
    add("--estimate", action="store_true", help="only say what would run and how long it would take")
    add("--out", type=place, metavar="DIR", help="results folder or URL (default: adma-runs/...)")
    add_machine_options(parser)


def add_condition_options(parser: argparse.ArgumentParser) -> None:
    """How the training data are made harder; what is not given is None, so that a study document may say it."""
    add = parser.add_argument
    add(
        "--label-noise",
        metavar="RATE[:KIND]",
        help="make this share of each class's training labels false: 0.4 or 0.4:symmetric (any other class), 0.4:pair "
        "(the next class); test labels stay true, validation labels too without --noisy-val",
    )
    add("--noisy-val", action="store_true", default=None, help="the same label noise on the validation part")
    add(
        "--imbalance",
        metavar="RATIO[:KIND]",
        help="thin the training classes out until the most frequent has RATIO times the samples of the rarest: 100 or "
        "100:exp (falling from class to class), 100:step (the second half of the classes)",
    )
    add("--train-fraction", type=float, metavar="X", help="train on this share of the training part, drawn by class")


def add_verdict_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--baseline", metavar="SPEC", help="the loss that the others are held against (default: cce, or the first)")
    add(
        "--rope",
        type=not_negative,
        metavar="X",
        help="differences below this are of no account: points of accuracy or ECE, the metric's own unit for others "
        "(default: 0.2 points; NLL 0.01; Brier 0.004)",
    )


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--skip-bad", action="store_true", help="leave out files that are no readable images, and list them")
    add("--data-dir", type=Path, metavar="DIR", help="where the known data sets lie (default: $ADMA_DATA)")
    add(
        "--import", dest="modules", action="append", default=[], metavar="MODULE",
        help="a module that registers losses of your own",
    )  # fmt: skip
    add(
        "--jobs", type=jobs, metavar="N",
        help="trainings at once, or auto: one a core, at most 8; on GPUs as many as their memory was measured to hold, "
        "at most 8 on each and one a core (default: auto)",
    )  # fmt: skip
    add(
        "--device", default="auto",
        help="cpu, cuda (all GPUs of this machine), cuda:1, mps (default: cuda if there is one)",
    )  # fmt: skip
    add(
        "--log", action="append", default=[], choices=("tensorboard", "mlflow", "wandb"),
        help="tell this program's client every epoch, too; again for more",
    )  # fmt: skip
    add(
        "--devices", type=positive, metavar="N",
        help="train each cell by N processes on as many GPUs (or on the CPU), each with its part of every batch; the "
        "results are those of one up to rounding (default: 1, or as many as torchrun has started)",
    )  # fmt: skip
    add(
        "--engine", choices=("local", "ray", "slurm"), default="local",
        help="where trainings run: processes on this machine, the nodes of a Ray cluster, or jobs of a Slurm cluster "
        "(default: %(default)s)",
    )  # fmt: skip
    add(
        "--address", metavar="ADDR",
        help="the Ray cluster: HOST:PORT, ray://HOST:PORT, or local to start one of this machine (default: "
        "$RAY_ADDRESS, else the one that runs here)",
    )  # fmt: skip
    add(
        "--cpus-per-cell", type=positive, metavar="N",
        help="cores of each training; the last digits of its numbers depend on it (default: here what --jobs "
        "leaves to each, at most OMP_NUM_THREADS; on a cluster 1)",
    )  # fmt: skip
    add(
        "--gpus-per-cell", type=above_zero, metavar="X",
        help="GPUs of each training on a cluster, with Ray also 0.25 for four on one (default: with Ray 1 if there are "
        "any, with Slurm 0)",
    )  # fmt: skip
    add(
        "--slurm", type=pairs, metavar="KEY=VALUE,...",
        help="options of sbatch for each training's job, such as partition=gpu,time=120 (time is needed; minutes)",
    )  # fmt: skip
    add(
        "--budget", type=duration, metavar="TIME",
        help="stop by itself after this time, such as 90s, 30m or 2h, with a checkpoint of what is under way",
    )  # fmt: skip
    add(
        "--checkpoint-every", type=duration, default=60.0, metavar="TIME",
        help="time from one checkpoint of a training to the next (default: 60s)",
    )  # fmt: skip
    add(
        "--keep-checkpoints", action=argparse.BooleanOptionalAction,
        help="keep the last state of each training, so that one with more epochs goes on from there (default: as long "
        "as those of the run take less than 2 GiB)",
    )  # fmt: skip
    add(
        "--hang-after", type=duration, default=1800.0, metavar="TIME",
        help="a training that gives no sign of life for this time is ended and tried once more (default: 30m)",
    )  # fmt: skip
    add(
        "--take-over", action="store_true",
        help="take over at once what a process of another machine left running; else that takes a minute",
    )  # fmt: skip
