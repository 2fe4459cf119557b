"""The options of the command `adma`, and what each word may be; `cli` runs what they name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from adma import __version__
from adma._check import MOST, MOST_RUNS, nearest


class _Parser(argparse.ArgumentParser):
    """argparse, with the nearest spelling of an unknown option."""

    def error(self, message: str) -> NoReturn:
        kind, _, words = message.partition("unrecognized arguments: ")
        if words and not kind:
            message += nearest(words.split()[0], self._options())
        self.exit(2, f"{self.prog}: {message}\nTry '{self.prog} --help'.\n")

    def _options(self) -> list[str]:
        """The options of this command and of those below it: argparse reports an unknown one at the top."""
        found = [option for action in self._actions for option in action.option_strings]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found += [option for command in action.choices.values() for option in command._options()]
        return found


def parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="adma", description="Which loss is best on your data, and is the difference real?")
    parser.add_argument("--version", action="version", version=f"adma {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_compare(commands)
    _add_tune(commands)
    _add_run(commands)
    _add_replay(commands)
    _add_data(commands)

    report = commands.add_parser("report", help="print and rebuild the report of a results folder")
    report.add_argument("dir", metavar="DIR", type=_place, help="a folder or URL that adma compare or tune wrote")
    report.add_argument(
        "--metric", metavar="NAME",
        help="what to compare by (default: test_accuracy; test_mean_iou where the data have a label for each pixel)",
    )  # fmt: skip
    _add_verdict_options(report)
    report.set_defaults(run="commands:report")

    status = commands.add_parser("status", help="how far a results folder is, what runs and where, what failed and why")
    status.add_argument(
        "dir", metavar="DIR", type=_place, help="a folder or URL that adma compare, run, replay or tune writes"
    )
    status.add_argument(
        "--watch", type=_duration, nargs="?", const=5.0, metavar="TIME", help="again every 5 s, or after this time"
    )
    status.set_defaults(run="status:status")

    export = commands.add_parser("export", help="a results folder as tables: cells, epochs, traces")
    export.add_argument(
        "dir", metavar="DIR", type=_place, help="a folder or URL that adma compare, run, replay or tune wrote"
    )
    export.add_argument("--format", choices=("csv", "parquet", "duckdb"), default="csv", help="(default: %(default)s)")
    export.add_argument(
        "--out", type=Path, metavar="DIR", help="where the tables go (default: DIR/export; needed for a URL)"
    )
    export.set_defaults(run="export:export")

    curves = commands.add_parser(
        "curves", help="draw losses against the true class's probability (the paper's Figure 1)"
    )
    curves.add_argument("--loss", action="append", metavar="SPEC", help="a loss such as adma:a=0.26; again for more")
    curves.add_argument("--out", type=Path, default=Path("curves.png"), metavar="FILE", help=".png, .pdf or .svg")
    curves.set_defaults(run="commands:curves")

    doctor = commands.add_parser("doctor", help="say which engine computes the losses on this machine, and why")
    doctor.set_defaults(run="doctor")
    return parser


def _add_compare(commands: Any) -> None:
    from adma.spec import known

    compare = commands.add_parser(
        "compare",
        help="train a network with each loss on your data and compare them",
        description="Train one network per loss and seed, with everything else equal, and say which loss is best and "
        "whether the difference is real. Run the same command again to continue after an interruption.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  adma compare digits\n  adma compare photos/ --loss cce --loss adma:a=0.3 --seeds 10\n"
        "  adma compare table.npz --model mlp",
    )
    _add_data_argument(compare)
    add = compare.add_argument
    listing = f"(default: the paper's cce, adma:a=0.26, mse, squared_hinge; known: {', '.join(known())})"
    add(
        "--loss",
        action="append",
        metavar="SPEC",
        help="a loss such as adma:a=0.26; one whose shape changes in training such as adma:a=learn or "
        "adma:a=linear/0.01/0.4,normalize=true; anyone's by its place, package.module:name or "
        f"package.module:name:key=value; again for more {listing}",
    )
    add("--seeds", type=_runs, default=5, metavar="N", help="runs of each loss (default: %(default)s)")
    add("--lr", type=_above_zero, default=1e-3, metavar="X", help="learning rate (default: %(default)s)")
    _add_training_options(compare)
    _add_verdict_options(compare)
    add(
        "--until-decided",
        action="store_true",
        help="start with --seeds and add more until every loss is better than, worse than or equivalent to the "
        "baseline; false verdicts stay below 5%% however often it looks",
    )
    add("--step", type=_runs, metavar="N", help="seeds to add at a time, with --until-decided (default: 2)")
    add("--max-seeds", type=_runs, metavar="N", help="seeds at most, with --until-decided (default: 30)")
    add(
        "--out",
        type=_place,
        metavar="DIR",
        help="results folder, or a URL such as s3://bucket/folder (default: adma-runs/DATA-HASH, a new one for new "
        "settings)",
    )
    add(
        "--resume",
        action="store_true",
        help="use --out though it holds a study with other settings; its cells are kept",
    )
    _add_machine_options(compare)
    compare.set_defaults(run="compare:compare")


def _add_tune(commands: Any) -> None:
    from adma.spec import known

    tune = commands.add_parser(
        "tune",
        help="search each loss's parameters and the learning rate",
        description="Search the parameters of each loss and the learning rate with the same budget for every loss. "
        "Chosen on validation; then the winners are trained with fresh seeds and reported on test. Run the same "
        "command again to continue after an interruption; with more --trials it goes on.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  adma tune digits --loss adma --loss gce --loss focal --trials 30 --seeds 3\n"
        "  adma tune photos/ --loss adma:a=0.1..0.5,base=search --lr 1e-4..1e-2\n"
        "  adma tune digits --storage postgresql+psycopg://user@host/name --study ours",
    )
    _add_data_argument(tune)
    add = tune.add_argument
    add(
        "--loss",
        action="append",
        metavar="SPEC",
        help="a loss: adma searches its parameters, adma:a=0.1..0.5 in a range of yours, adma:base=search an optional "
        "one too, adma:a=0.26 the learning rate alone, as package.module:name does; again for more "
        f"(default: cce, adma; known: {', '.join(known())})",
    )
    add("--trials", type=_runs, default=30, metavar="N", help="points tried for each loss (default: %(default)s)")
    add("--seeds", type=_runs, default=3, metavar="N", help="runs of each trial (default: %(default)s)")
    add(
        "--final-seeds", type=_runs, default=5, metavar="N",
        help="runs of each winner, with fresh seeds (default: %(default)s)",
    )  # fmt: skip
    add(
        "--lr", metavar="X|LOW..HIGH",
        help="learning rate: one value, or a range to search (default: 1e-4..1e-2)",
    )  # fmt: skip
    add(
        "--pruner",
        default="auto",
        metavar="SPEC",
        help="none, or wilcoxon[:p=0.1]: give a trial up if its seeds are worse than the best trial's (default: "
        "wilcoxon if the seeds are enough for it, else none)",
    )
    add("--seed", type=_whole, default=0, metavar="N", help="of the search (default: %(default)s)")
    add("--round", type=_runs, default=4, metavar="N", help="trials proposed together (default: %(default)s)")
    add(
        "--rope", type=_above_zero, default=0.2, metavar="X",
        help="points of accuracy that make no difference, for the plateau (default: %(default)s)",
    )  # fmt: skip
    add("--storage", metavar="URL", help="a database that Optuna knows (default: a journal file in --out)")
    add("--study", metavar="NAME", help="name of the search in the storage (default: from data and settings)")
    _add_training_options(tune)
    add("--out", type=_place, metavar="DIR", help="results folder or URL (default: adma-runs/tune-DATA-HASH)")
    _add_machine_options(tune)
    tune.set_defaults(run="tune:search")


def _add_data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", metavar="DATA",
        help="digits, mnist or another known name (adma data list); a folder, .tar or .zip of CLASS/IMAGE or "
        "train|val|test/CLASS/IMAGE, or of images/ beside masks/; an .npz with x and y; package.module:function",
    )  # fmt: skip


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    """How one training runs, but for its loss, seed and learning rate."""
    add = parser.add_argument
    add("--epochs", type=_positive, default=10, metavar="N", help="passes over the data (default: %(default)s)")
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
        type=_not_negative,
        default=1e-4,
        metavar="X",
        help="L2 on the convolutions (default: %(default)s)",
    )
    add("--batch-size", type=_positive, default=64, metavar="N", help="(default: %(default)s)")
    add("--train-size", type=_positive, metavar="N", help="train on this many samples only, drawn by class")
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
    add("--eval-size", type=_positive, metavar="N", help="validate and test on at most this many samples each")
    add(
        "--by-sample",
        dest="grouped",
        action="store_false",
        help="let samples of one group (a lesion) stand in training and in test; by default groups stay whole",
    )
    _add_condition_options(parser)
    add("--augment", default="none", metavar="SPEC", help="such as rotate=30,shift=0.2,flip,warp=0.1 (default: none)")
    add("--image-size", type=_size, metavar="HxW", help="resize images, such as 32x32")


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run a study document: losses x data sets x variants x seeds",
        description="Run a study written as YAML. What is done is kept: the same command continues.",
    )
    run.add_argument("study", metavar="STUDY.yaml", help="a study document, such as those in studies/")
    _add_study_options(run)
    run.set_defaults(run="replay:run")


def _add_replay(commands: Any) -> None:
    replay = commands.add_parser(
        "replay",
        help="run the paper's experiments and print ours beside the printed numbers",
        description="Run the paper's experiments by name: table1 to table4, figure3, splits, low_lr, annealing, "
        "activations, structure, resnet34; and leak, shape, cifar100_sgd. They share one folder a "
        "scale: nothing is trained twice.",
    )
    replay.add_argument("names", metavar="NAME", nargs="*", help="an experiment, such as table1; again for more")
    replay.add_argument("--all", action="store_true", help="all of them")
    replay.add_argument(
        "--protocol",
        choices=("printed", "paper", "clean"),
        default="printed",
        help="Adma's a: as printed; or tuned over --a, on the reported part as the paper did (and samples of one "
        "group on both sides); or clean, on validation (default: %(default)s)",
    )
    replay.add_argument(
        "--a",
        dest="grid",
        type=_above_zero,
        action="extend",
        nargs="+",
        metavar="X",
        help="the grid that --protocol paper and clean choose from (default: 0.1 0.2 0.3 0.4 0.5; paper adds the "
        "printed a)",
    )
    replay.add_argument(
        "--stats",
        action="store_true",
        help="statistics over the data sets: without names of the four printed tables, training nothing; with table1 "
        "to table4 of the printed table and of ours",
    )
    _add_study_options(replay)
    replay.set_defaults(run="replay:replay")


def _add_study_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--scale", metavar="NAME", help="smoke, small or paper, or what the study has (default: its first)")
    add(
        "--datasets", action="extend", nargs="+", metavar="DATA",
        help="these data sets in the place of the study's",
    )  # fmt: skip
    add("--loss", action="append", metavar="SPEC", help="these losses in the place of the study's; again for more")
    add("--seeds", type=_runs, metavar="N", help="runs of each loss")
    add("--epochs", type=_positive, metavar="N")
    add("--max-train-size", type=_positive, metavar="N", help="train on at most so many samples, drawn by class")
    add("--eval-size", type=_positive, metavar="N", help="validate and test on at most so many samples each")
    add("--image-size", type=_size_text, metavar="HxW", help="resize images, such as 32x32")
    add("--model", metavar="SPEC")
    add("--optimizer", metavar="SPEC")
    add("--lr", type=_above_zero, metavar="X", help="learning rate")
    _add_condition_options(parser)
    add("--estimate", action="store_true", help="only say what would run and how long it would take")
    add("--out", type=_place, metavar="DIR", help="results folder or URL (default: adma-runs/...)")
    _add_machine_options(parser)


def _add_condition_options(parser: argparse.ArgumentParser) -> None:
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


def _add_verdict_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--baseline", metavar="SPEC", help="the loss that the others are held against (default: cce, or the first)")
    add(
        "--rope",
        type=_not_negative,
        metavar="X",
        help="differences below this are of no account: points of accuracy or ECE, the metric's own unit for others "
        "(default: 0.2 points; NLL 0.01; Brier 0.004)",
    )


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--skip-bad", action="store_true", help="leave out files that are no readable images, and list them")
    add("--data-dir", type=Path, metavar="DIR", help="where the known data sets lie (default: $ADMA_DATA)")
    add(
        "--import", dest="modules", action="append", default=[], metavar="MODULE",
        help="a module that registers losses of your own",
    )  # fmt: skip
    add(
        "--jobs", type=_jobs, metavar="N",
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
        "--devices", type=_positive, metavar="N",
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
        "--cpus-per-cell", type=_positive, metavar="N",
        help="cores of each training; the last digits of its numbers depend on it (default: here what --jobs "
        "leaves to each, at most OMP_NUM_THREADS; on a cluster 1)",
    )  # fmt: skip
    add(
        "--gpus-per-cell", type=_above_zero, metavar="X",
        help="GPUs of each training on a cluster, with Ray also 0.25 for four on one (default: with Ray 1 if there are "
        "any, with Slurm 0)",
    )  # fmt: skip
    add(
        "--slurm", type=_pairs, metavar="KEY=VALUE,...",
        help="options of sbatch for each training's job, such as partition=gpu,time=120 (time is needed; minutes)",
    )  # fmt: skip
    add(
        "--budget", type=_duration, metavar="TIME",
        help="stop by itself after this time, such as 90s, 30m or 2h, with a checkpoint of what is under way",
    )  # fmt: skip
    add(
        "--checkpoint-every", type=_duration, default=60.0, metavar="TIME",
        help="time from one checkpoint of a training to the next (default: 60s)",
    )  # fmt: skip
    add(
        "--keep-checkpoints", action=argparse.BooleanOptionalAction,
        help="keep the last state of each training, so that one with more epochs goes on from there (default: as long "
        "as those of the run take less than 2 GiB)",
    )  # fmt: skip
    add(
        "--hang-after", type=_duration, default=1800.0, metavar="TIME",
        help="a training that gives no sign of life for this time is ended and tried once more (default: 30m)",
    )  # fmt: skip
    add(
        "--take-over", action="store_true",
        help="take over at once what a process of another machine left running; else that takes a minute",
    )  # fmt: skip


def _add_data(commands: Any) -> None:
    data = commands.add_parser("data", help="list, get, check and show the known data sets")
    verbs = data.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)
    listing = verbs.add_parser("list", help="the known data sets, and where each is found")
    get = verbs.add_parser("get", help="load one, downloading it if it is not there")
    check = verbs.add_parser("check", help="hold one against what was published; exit 1 if it differs")
    show = verbs.add_parser("show", help="a contact sheet: pictures of each class, original and augmented")
    for verb, run in ((listing, "data_list"), (get, "data_get"), (check, "data_check"), (show, "data_show")):
        verb.set_defaults(run=f"data_commands:{run}")
        verb.add_argument(
            "--data-dir", type=Path, metavar="DIR", help="where the known data sets lie (default: $ADMA_DATA)"
        )
        if verb is listing:
            continue
        either = ", or DATA as for compare" if verb is show else ""
        verb.add_argument("name", metavar="NAME", help=f"a known data set{either}")
        verb.add_argument("--image-size", type=_size, metavar="HxW", help="default: as the paper used it")
        verb.add_argument("--skip-bad", action="store_true", help="leave out files that are no readable images")
    add = show.add_argument
    add("--out", type=Path, default=Path("sheet.png"), metavar="FILE", help="(default: %(default)s)")
    add("--augment", metavar="SPEC", help="(default: the paper's for this data set)")
    add("--seed", type=_whole, default=0, metavar="N", help="of pictures and augmentation (default: %(default)s)")
    add("--classes", type=_positive, default=10, metavar="N", help="at most so many (default: %(default)s)")
    add("--pictures", type=_positive, default=3, metavar="N", help="of each class (default: %(default)s)")
    add("--epochs", type=_positive, default=4, metavar="N", help="of augmentation (default: %(default)s)")
    add("--import", dest="modules", action="append", default=[], metavar="MODULE", help="imported first")


def _number(text: str, kind: type, test: Any, words: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not test(value):
        raise argparse.ArgumentTypeError(f"must be {words}, got {text!r}")
    return value


def _jobs(text: str) -> int | None:
    return None if text == "auto" else _positive(text)


def _positive(text: str, most: int = MOST) -> int:
    value = int(_number(text, int, lambda v: v >= 1, "a whole number from 1"))
    if value > most:
        raise argparse.ArgumentTypeError(f"must be at most {most}, got {text!r}")
    return value


def _runs(text: str) -> int:
    return _positive(text, MOST_RUNS)


def _whole(text: str) -> int:
    return int(_number(text, int, lambda v: v >= 0, "a whole number from 0"))


def _above_zero(text: str) -> float:
    return float(_number(text, float, lambda v: 0 < v < float("inf"), "a number above 0"))


def _not_negative(text: str) -> float:
    return float(_number(text, float, lambda v: 0 <= v < float("inf"), "a number from 0"))


def _place(text: str) -> Path | str:
    """A folder of this machine, or a URL."""
    path = text.removeprefix("file://")
    return path if "://" in path else Path(path)


def _pairs(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(key and equals and value for key, equals, value in pairs):
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE,..., got {text!r}")
    return {key: value for key, _, value in pairs}


def _duration(text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    words = "a time above 0 such as 90s, 30m, 2h or 1d"
    return unit * float(_number(number, float, lambda v: 0 < v < float("inf"), words))


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    return _positive(height), _positive(width or height)


def _size_text(text: str) -> str:
    return "{}x{}".format(*_size(text))
