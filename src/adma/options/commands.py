"""The parser of `adma`: each command, with what it alone may be told."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from adma import __version__
from adma._check import nearest
from adma.options.groups import (
    add_data_argument,
    add_machine_options,
    add_study_options,
    add_training_options,
    add_verdict_options,
)
from adma.options.values import above_zero, duration, place, positive, runs, size, whole


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
    report.add_argument("dir", metavar="DIR", type=place, help="a folder or URL that adma compare or tune wrote")
    report.add_argument(
        "--metric", metavar="NAME",
        help="what to compare by (default: test_accuracy; test_mean_iou where the data have a label for each pixel)",
    )  # fmt: skip
    add_verdict_options(report)
    report.set_defaults(run="commands:report")

    status = commands.add_parser("status", help="how far a results folder is, what runs and where, what failed and why")
    status.add_argument(
        "dir", metavar="DIR", type=place, help="a folder or URL that adma compare, run, replay or tune writes"
    )
    status.add_argument(
        "--watch", type=duration, nargs="?", const=5.0, metavar="TIME", help="again every 5 s, or after this time"
    )
    status.set_defaults(run="status:status")

    export = commands.add_parser("export", help="a results folder as tables: cells, epochs, traces")
    export.add_argument(
        "dir", metavar="DIR", type=place, help="a folder or URL that adma compare, run, replay or tune wrote"
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
    add_data_argument(compare)
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
    add("--seeds", type=runs, default=5, metavar="N", help="runs of each loss (default: %(default)s)")
    add("--lr", type=above_zero, default=1e-3, metavar="X", help="learning rate (default: %(default)s)")
    add_training_options(compare)
    add_verdict_options(compare)
    add(
        "--until-decided",
        action="store_true",
        help="start with --seeds and add more until every loss is better than, worse than or equivalent to the "
        "baseline; false verdicts stay below 5%% however often it looks",
    )
    add("--step", type=runs, metavar="N", help="seeds to add at a time, with --until-decided (default: 2)")
    add("--max-seeds", type=runs, metavar="N", help="seeds at most, with --until-decided (default: 30)")
    add(
        "--out",
        type=place,
        metavar="DIR",
        help="results folder, or a URL such as s3://bucket/folder (default: adma-runs/DATA-HASH, a new one for new "
        "settings)",
    )
    add(
        "--resume",
        action="store_true",
        help="use --out though it holds a study with other settings; its cells are kept",
    )
    add_machine_options(compare)
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
    add_data_argument(tune)
    add = tune.add_argument
    add(
        "--loss",
        action="append",
        metavar="SPEC",
        help="a loss: adma searches its parameters, adma:a=0.1..0.5 in a range of yours, adma:base=search an optional "
        "one too, adma:a=0.26 the learning rate alone, as package.module:name does; again for more "
        f"(default: cce, adma; known: {', '.join(known())})",
    )
    add("--trials", type=runs, default=30, metavar="N", help="points tried for each loss (default: %(default)s)")
    add("--seeds", type=runs, default=3, metavar="N", help="runs of each trial (default: %(default)s)")
    add(
        "--final-seeds", type=runs, default=5, metavar="N",
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
    add("--seed", type=whole, default=0, metavar="N", help="of the search (default: %(default)s)")
    add("--round", type=runs, default=4, metavar="N", help="trials proposed together (default: %(default)s)")
    add(
        "--rope", type=above_zero, default=0.2, metavar="X",
        help="points of accuracy that make no difference, for the plateau (default: %(default)s)",
    )  # fmt: skip
    add("--storage", metavar="URL", help="a database that Optuna knows (default: a journal file in --out)")
    add("--study", metavar="NAME", help="name of the search in the storage (default: from data and settings)")
    add_training_options(tune)
    add("--out", type=place, metavar="DIR", help="results folder or URL (default: adma-runs/tune-DATA-HASH)")
    add_machine_options(tune)
    tune.set_defaults(run="tune:search")


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run a study document: losses x data sets x variants x seeds",
        description="Run a study written as YAML. What is done is kept: the same command continues.",
    )
    run.add_argument("study", metavar="STUDY.yaml", help="a study document, such as those in studies/")
    add_study_options(run)
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
        type=above_zero,
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
    add_study_options(replay)
    replay.set_defaults(run="replay:replay")


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
        verb.add_argument("--image-size", type=size, metavar="HxW", help="default: as the paper used it")
        verb.add_argument("--skip-bad", action="store_true", help="leave out files that are no readable images")
    add = show.add_argument
    add("--out", type=Path, default=Path("sheet.png"), metavar="FILE", help="(default: %(default)s)")
    add("--augment", metavar="SPEC", help="(default: the paper's for this data set)")
    add("--seed", type=whole, default=0, metavar="N", help="of pictures and augmentation (default: %(default)s)")
    add("--classes", type=positive, default=10, metavar="N", help="at most so many (default: %(default)s)")
    add("--pictures", type=positive, default=3, metavar="N", help="of each class (default: %(default)s)")
    add("--epochs", type=positive, default=4, metavar="N", help="of augmentation (default: %(default)s)")
    add("--import", dest="modules", action="append", default=[], metavar="MODULE", help="imported first")
