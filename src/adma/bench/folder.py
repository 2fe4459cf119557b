"""A results folder: its cells, and beside them what they were trained for.

DIR/study.json                the study that the folder holds, if it is one study's
DIR/plans/NAME.json           the plans that share the folder, if it is of plans
DIR/tune.json                 the search that the folder holds, if it is one of adma tune
DIR/cells/ and beside it      see `store`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from adma.bench.data.dataset import ACCURACY
from adma.bench.errors import BenchError
from adma.bench.index import Index
from adma.bench.result import CellResult
from adma.bench.store import Store
from adma.bench.study import Entry, Plan, Study
from adma.bench.whole import explained, write_json

UNTIL_DECIDED = "until_decided"  # what a study's `about` calls the plan by which its seeds are added


def measure_of(about: Mapping[str, Any]) -> str:
    """What losses are compared by on the data of which `about` speaks, such as "accuracy"."""
    return str((about.get("dataset") or {}).get("measure", ACCURACY))


def _about(header: Mapping[str, Any]) -> dict[str, Any]:
    """What a header notes beside what it is for.

    Raises:
        TypeError: something else stands in its place.
    """
    about = header.get("about", {})
    if not isinstance(about, dict) or not isinstance(about.get("dataset") or {}, dict):
        raise TypeError('"about", and "dataset" in it, must be objects')
    return about


@dataclass(frozen=True)
class Results:
    """A study with the results of all its cells, in the study's order."""

    study: Study
    cells: tuple[CellResult, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measure(self) -> str:
        """What its losses are compared by unless the user says otherwise, such as "accuracy"."""
        return measure_of(self.about)

    def of(self, loss: str) -> list[CellResult]:
        """The cells of one loss, in the order of the seeds."""
        return list(self._of_losses.get(loss, []))

    @cached_property
    def _of_losses(self) -> dict[str, list[CellResult]]:
        found: dict[str, list[CellResult]] = {}
        for result in self.cells:
            found.setdefault(result.cell.loss, []).append(result)
        return found


class Folder(Store):
    """A store with the headers of what it is for: one study, or plans, or a search."""

    def open(self, study: Study, *, about: Mapping[str, Any], resume: bool = False, grows: bool = False) -> None:
        """Claim the folder for a study; remove what interrupted runs left half made.

        Args:
            grows: the study's seeds are added in steps: a folder that holds it with fewer or with more seeds is its
                own, and keeps the larger number.

        Raises:
            BenchError: the folder holds another study (unless `resume`), or something that is no study.
        """
        path = self.root / "study.json"
        self._refuse_search()
        if path.exists():
            header = self.header()
            there = Study.from_config(header["study"])
            grew = bool(header.get("about", {}).get(UNTIL_DECIDED))
            if grows and there.grows_from(study):
                study = there
            differences = [] if grows and study.grows_from(there) else study.differences(there)
            if grew and not grows:  # as a number fixed in advance its seeds would promise too much
                differences.append("its seeds were added until it was decided")
            if differences and not resume:
                hint = "give --until-decided again, " if grew and not grows else ""
                raise BenchError(
                    f"--out {self.root}: this folder holds another study ({'; '.join(differences)}); {hint}choose "
                    "another folder, or pass --resume to continue there with the settings given now"
                )
        else:
            self._refuse_foreign()
        with explained(self.root):
            self.prepare()
            write_json(path, {"study": study.config(), "about": dict(about)})

    def open_plan(self, plan: Plan, *, about: Mapping[str, Any]) -> list[str]:
        """Put a plan into the folder, beside others that share its cells; remove what was left half made.

        A plan of the same name is replaced: its cells stay, and those that both hold do not run again.

        Returns:
            In words, how a plan of this name that was there differs.

        Raises:
            BenchError: the folder holds a single study, or something else.
        """
        if (self.root / "study.json").exists():
            raise BenchError(f"--out {self.root}: this folder holds a study of adma compare; choose another folder")
        self._refuse_search()
        if not (self.root / "plans").is_dir():
            self._refuse_foreign()
        replaced = self._replaced(plan)
        entries = [{"name": e.name, "data": e.data, "variant": e.variant, **e.study.config()} for e in plan.entries]
        with explained(self.root):
            self.prepare()
            (self.root / "plans").mkdir(exist_ok=True)
            write_json(self.root / "plans" / f"{plan.name}.json", {"entries": entries, "about": dict(about)})
        return replaced

    def _replaced(self, plan: Plan) -> list[str]:
        try:
            before = {e.name: e.study for e in self.plan(plan.name)[0].entries}
        except BenchError:
            return []
        now = {e.name: e.study for e in plan.entries}
        words = [f"{name} was in it" for name in before if name not in now]
        words += [f"{name}: {d}" for name in before if name in now for d in now[name].differences(before[name])]
        if not words:
            return []
        return [
            f"the tables of {plan.name} in this folder are replaced, all its trainings are kept; before: "
            f"{'; '.join(words)}"
        ]

    def plan(self, name: str) -> tuple[Plan, dict[str, Any]]:
        """A plan of the folder, and what was noted about it.

        Raises:
            BenchError: there is none of that name, or it cannot be read.
        """
        path = self.root / "plans" / f"{name}.json"
        if not path.is_file():
            raise BenchError(f"{self.root} holds no plan {name!r} (no {path})")
        try:
            header = json.loads(path.read_text())
            entries = tuple(Entry(e["name"], Study.from_config(e), e["data"], e["variant"]) for e in header["entries"])
            about = _about(header)
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{path} cannot be read as a plan ({error})") from error
        return Plan(name, entries), about

    def open_search(self, settings: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        """Claim the folder for a search of `adma tune`; remove what dead processes left half made.

        Args:
            settings: what must be the same for a search to go on.
            header: all that tune.json holds; `settings` among it.

        Raises:
            BenchError: the folder holds a search with other settings, or something else.
        """
        if (self.root / "tune.json").exists():
            there = self.search()["settings"]
            differences = [
                f"{name}: {there.get(name)!r} there, {settings.get(name)!r} now"
                for name in dict.fromkeys([*settings, *there])
                if there.get(name) != settings.get(name)
            ]
            if differences:
                raise BenchError(
                    f"--out {self.root}: this folder holds a search with other settings ({'; '.join(differences)}); "
                    "choose another folder, or give the settings that it was begun with"
                )
        else:
            for name, command in (("study.json", "a study of adma compare"), ("plans", "plans of adma run or replay")):
                if (self.root / name).exists():
                    raise BenchError(f"--out {self.root}: this folder holds {command}; choose another folder")
            self._refuse_foreign()
        with explained(self.root):
            self.prepare()
            write_json(self.root / "tune.json", header)

    def note(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a file of the search beside its cells, whole or not at all."""
        with explained(self.root):
            write_json(self.root / name, value)

    def search(self) -> dict[str, Any]:
        """What tune.json holds.

        Raises:
            BenchError: there is none, or it cannot be read.
        """
        path = self.root / "tune.json"
        try:
            header: dict[str, Any] = json.loads(path.read_text())
            header["settings"], header["about"]
            _about(header)
        except FileNotFoundError:
            raise BenchError(f"{self.root} holds no search (no {path.name} there)") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{path} cannot be read as a search ({error})") from error
        return header

    @property
    def holds_search(self) -> bool:
        return (self.root / "tune.json").exists()

    def _refuse_search(self) -> None:
        if self.holds_search:
            raise BenchError(f"--out {self.root}: this folder holds a search of adma tune; choose another folder")

    def _refuse_foreign(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise BenchError(f"--out {self.root}: this is a file; choose another name for the results folder")
        if self.root.exists() and any(self.root.iterdir()):
            raise BenchError(f"--out {self.root}: this folder is not empty and holds no study; choose another folder")

    def header(self) -> dict[str, Any]:
        """What study.json holds.

        Raises:
            BenchError: there is none, or it cannot be read.
        """
        path = self.root / "study.json"
        if (self.root / "plans").is_dir():
            raise BenchError(
                f"{self.root} holds plans of adma run or replay; give that command again to rebuild its tables, what "
                "is done is not trained again"
            )
        if self.holds_search:
            raise BenchError(f"{self.root} holds a search of adma tune, not a study of adma compare")
        if not path.is_file():
            raise BenchError(
                f"{self.root} holds no study (no {path.name} there); name a folder that adma compare wrote"
            )
        try:
            header = json.loads(path.read_text())
            Study.from_config(header["study"])
            _about(header)
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{path} cannot be read as a study ({error})") from error
        return header

    def study(self) -> Study:
        """The study that the folder holds."""
        return Study.from_config(self.header()["study"])

    def results(self) -> Results:
        """The folder's study with all that is known of its cells."""
        header = self.header()
        return self.results_of(Study.from_config(header["study"]), header.get("about", {}))

    def results_of(self, study: Study, about: Mapping[str, Any]) -> Results:
        """What the folder's cells say of any study."""
        return Results(study, tuple(Index(self).read(study.cells())), about)
