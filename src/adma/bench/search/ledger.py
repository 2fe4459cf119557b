"""One loss's trials in the storage: who runs which, what came out, what the next ones are.

Several processes may share a study. Optuna numbers what is added, atomically and in order, and that decides: of the
trials of one index the one with the lowest number counts, unless it was abandoned; a process whose trial came second
drops it. A trial that a dead process left running is told as failed, and its index is free again. Whether a process of
another machine lives is seen by its beat, a number in the study that it changes every few seconds while it runs a
trial: one that has stood still for `PATIENCE` seconds, by the clock of whoever looks, is a dead one's.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from adma.bench import owner
from adma.bench.errors import BenchError
from adma.bench.lease import BEAT, PATIENCE
from adma.bench.search import propose
from adma.bench.search.space import Space
from adma.bench.search.storage import Place, told
from adma.bench.search.trials import COMPLETE, FAILED, PRUNED, RUNNING, Trial
from adma.bench.study import digest

_REFRESH_SECONDS = 0.5  # how old what was read from the storage may be
_STATES = {
    TrialState.COMPLETE: COMPLETE,
    TrialState.PRUNED: PRUNED,
    TrialState.FAIL: FAILED,
    TrialState.RUNNING: RUNNING,
    TrialState.WAITING: RUNNING,
}
# why a trial in the storage does not count: another process had its index first; its process ended before it
SURPLUS, ABANDONED = "surplus", "abandoned"
_COMING = -1  # the number of a trial that is being entered
_HELD: set[str] = set()  # the claims of trials that this process is running, in all its ledgers


@dataclass(frozen=True)
class Rules:
    """What must be the same for a search to go on, but for the space.

    shared: as plain data, such as the setting of the training and the data's fingerprint.
    """

    seeds: tuple[int, ...]
    seed: int
    round: int
    pruner: str
    shared: Mapping[str, Any]

    def config(self) -> dict[str, Any]:
        return {
            **self.shared,
            "seeds": len(self.seeds),
            "seed": self.seed,
            "round": self.round,
            "pruner": self.pruner,
        }


class Ledger:
    """The trials of one loss.

    Args:
        storage: an open storage.
        place: what it is called in messages.
        study: the name of the search in the storage; the loss's name is added.
        space: what is searched.
        rules: what else must agree.
        budget: how many trials; one is enough where nothing is searched.
        take_over: whether trials that a process of another machine has been running so far are taken from it at once.
        beat: seconds between two beats of this process.
        patience: see above; several beats.

    Raises:
        BenchError: the storage fails, or holds this study with other settings.
    """

    def __init__(
        self,
        storage: BaseStorage,
        place: Place,
        study: str,
        space: Space,
        rules: Rules,
        budget: int,
        take_over: bool = False,
        *,
        beat: float = BEAT,
        patience: float = PATIENCE,
    ) -> None:
        self.space, self.rules = space, rules
        self.budget = budget if space.ranges else 1
        self.pruner = propose.choose_pruner(rules.pruner, len(rules.seeds))[1]
        self._place = place
        settings = {**rules.config(), "loss": space.template.name, "space": space.config()}
        self._mark = digest(settings)
        self._rounds: dict[int, list[dict[str, float]]] = {}
        self._read_at = -1.0
        self._trials: list[FrozenTrial] = []
        self._heart = _Heart(beat)
        self._patience = patience
        self._seen: dict[str, tuple[int, float]] = {}  # owner -> its last beat, when that was first seen here
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with told(place):
            self._study = optuna.create_study(
                study_name=f"{study}/{space.template.name}",
                storage=storage,
                direction="maximize",
                sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: see `propose`
                pruner=optuna.pruners.NopPruner(),
                load_if_exists=True,
            )
            there = self._study.user_attrs.get("settings")
            if there is None:
                self._study.set_user_attr("settings", settings)
            elif there != settings:
                raise BenchError(_differences(place, self._study.study_name, there, settings))
        self._read(fresh=True)
        # what had failed before this command began is tried once more; what another machine runs may be dead
        self._before = max((t.number for t in self._trials), default=-1)
        self._take_over = take_over

    # -- reading ---------------------------------------------------------------------------------------

    def _read(self, *, fresh: bool = False) -> list[FrozenTrial]:
        if fresh or time.monotonic() - self._read_at > _REFRESH_SECONDS:
            with told(self._place):
                self._trials = self._study.get_trials(deepcopy=False)
            self._read_at = time.monotonic()
            strangers = [t.number for t in self._trials if t.user_attrs.get("settings") != self._mark]
            if strangers:
                raise BenchError(
                    f"--storage {self._place}: trial {strangers[0]} of study {self._study.study_name!r} was made with "
                    "other settings; choose another --study"
                )
        return self._trials

    def trials(self, *, fresh: bool = False) -> dict[int, Trial]:
        """Index -> the trial that counts, within the budget: failed ones too, abandoned ones not."""
        found: dict[int, Trial] = {}
        for frozen in self._read(fresh=fresh):
            trial = _plain(frozen)
            if trial.index >= self.budget or trial.reason in (SURPLUS, ABANDONED):
                continue
            before = found.get(trial.index)
            if before is None or before.state == FAILED:  # one that failed was tried again
                found[trial.index] = trial
        return found

    def _settled(self, trial: Trial | None) -> bool:
        """Whether nothing more comes of an index in this command."""
        if trial is None or trial.state == RUNNING:
            return False
        return trial.state != FAILED or trial.number > self._before

    @property
    def done(self) -> bool:
        trials = self.trials()
        return all(self._settled(trials.get(index)) for index in range(self.budget))

    def settled(self) -> int:
        """How many trials have ended."""
        trials = self.trials()
        return sum(self._settled(trials.get(index)) for index in range(self.budget))

    def round_of(self, index: int) -> int:
        return index // self.rules.round

    def history(self, index: int) -> list[Trial]:
        """The trials of all rounds before this index's, in their order."""
        start = self.round_of(index) * self.rules.round
        trials = self.trials()
        return [trials[i] for i in range(start) if i in trials]

    # -- claiming --------------------------------------------------------------------------------------

    def claim(self) -> Trial | None:
        """The next trial for this process to run, entered as running; None if there is none to begin now."""
        self._bury_the_dead()
        trials = self.trials()
        for index in range(self.budget):
            if index % self.rules.round == 0 and not all(self._settled(trials.get(i)) for i in range(index)):
                return None  # the round's points depend on all earlier rounds
            trial = trials.get(index)
            if trial is None or (trial.state == FAILED and not self._settled(trial)):
                claimed = self._enter(index)
                if claimed is not None:
                    return claimed
                trials = self.trials()
        return None

    def _enter(self, index: int) -> Trial | None:
        token = uuid.uuid4().hex
        params = self._params(index)
        attrs = {"index": index, "owner": str(owner.me()), "settings": self._mark, "claim": token}
        known = propose.distributions(self.space.ranges)
        try:
            with told(self._place):
                self._heart.begin(self._study)
                self._study.add_trial(
                    create_trial(state=TrialState.RUNNING, params=params, distributions=known, user_attrs=attrs)
                )
            self._read(fresh=True)
            mine = next(t for t in self._trials if t.user_attrs.get("claim") == token)
            first = self.trials()[index]
            if first.number == mine.number:
                _HELD.add(token)
                self._heart.hold(mine.number)
                return first
            self._end(mine.number, TrialState.FAIL, SURPLUS)
            return None
        finally:
            self._heart.let_go(_COMING)

    def _params(self, index: int) -> dict[str, float]:
        """What an earlier try of this index had, or what the round proposes."""
        for frozen in self._trials:
            if frozen.user_attrs.get("index") == index:
                return dict(frozen.params)
        number = self.round_of(index)
        start = number * self.rules.round
        if number not in self._rounds:
            self._rounds[number] = propose.proposals(
                self.space.ranges,
                self.space.defaults,
                self.history(index),
                start=start,
                count=self.rules.round,
                seed=self.rules.seed,
                label=self.space.template.name,
            )
        return self._rounds[number][index - start]

    def _bury_the_dead(self) -> None:
        """Tell as abandoned what dead processes left running, so that its index is free."""
        for frozen in self._read():
            trial = _plain(frozen)
            if trial.state != RUNNING:
                continue
            holder = owner.parse(trial.owner)
            if holder == owner.me():  # else it was cut off from a storage that went away
                alive: bool | None = frozen.user_attrs.get("claim") in _HELD
            else:
                alive = holder.alive if holder is not None else None
            if alive is None and self._stands_still(trial.owner):
                alive = False
            if alive is False or (alive is None and self._take_over and trial.number <= self._before):
                self._end(trial.number, TrialState.FAIL, ABANDONED)

    def _stands_still(self, holder: str) -> bool:
        """Whether a process of another machine has had no beat for too long; one that never had any is waited for."""
        with told(self._place):
            beat = self._study.user_attrs.get(_beat_of(holder))
        if beat is None:
            return False
        last, since = self._seen.get(holder, (None, 0.0))
        if last != beat:
            self._seen[holder] = (beat, time.monotonic())
            return False
        return time.monotonic() - since > self._patience

    # -- telling ---------------------------------------------------------------------------------------

    def report(self, trial: Trial, seed: int, value: float) -> None:
        """Note a replicate of a running trial, for whoever watches the study."""
        with told(self._place):
            frozen = self._frozen(trial.number)
            if not frozen.state.is_finished() and seed not in frozen.intermediate_values:
                self._live(frozen).report(value, step=seed)

    def complete(self, trial: Trial) -> None:
        """Tell what came out: the trial is complete, pruned or failed, as its state says.

        If another process has taken the trial over meanwhile, nothing happens.
        """
        self._let_go(trial)
        with told(self._place):
            frozen = self._frozen(trial.number)
            if frozen.state.is_finished():
                return
            live = self._live(frozen)
            live.set_user_attr("epochs", trial.epochs)
            live.set_user_attr("diverged", list(trial.diverged))
            if trial.state == FAILED:
                live.set_user_attr("reason", trial.reason)
            state = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED, FAILED: TrialState.FAIL}[trial.state]
            value = trial.value if trial.state == COMPLETE else None
            self._study.tell(trial.number, value, state=state, skip_if_finished=True)
        self._read(fresh=True)

    def abandon(self, trial: Trial) -> None:
        """Leave a running trial to whoever comes next; also if the storage cannot be told."""
        self._let_go(trial)
        self._end(trial.number, TrialState.FAIL, ABANDONED)

    def _let_go(self, trial: Trial) -> None:
        self._heart.let_go(trial.number)
        _HELD.difference_update(t.user_attrs.get("claim") for t in self._trials if t.number == trial.number)

    def _end(self, number: int, state: TrialState, reason: str) -> None:
        with told(self._place):
            frozen = self._frozen(number)
            if not frozen.state.is_finished():
                self._live(frozen).set_user_attr("reason", reason)
                self._study.tell(number, state=state, skip_if_finished=True)
        self._read(fresh=True)

    def _frozen(self, number: int) -> FrozenTrial:
        return next(t for t in self._read(fresh=True) if t.number == number)

    def _live(self, frozen: FrozenTrial) -> optuna.Trial:
        return optuna.Trial(self._study, frozen._trial_id)


class _Heart:
    """Changes this process's beat in a study while it holds trials."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._held: set[int] = set()  # numbers of trials
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, study: optuna.Study) -> None:
        """The first beat, which is there before a trial is; the others follow while any is held."""
        self._beat(study)
        self.hold(_COMING)
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(target=self._go_on, args=(study,), name="beat", daemon=True)
                self._thread.start()

    def hold(self, number: int) -> None:
        with self._guard:
            self._held.add(number)

    def let_go(self, number: int) -> None:
        with self._guard:
            self._held.discard(number)

    def _go_on(self, study: optuna.Study) -> None:
        while True:
            time.sleep(self._seconds)
            with self._guard:
                if not self._held:
                    self._thread = None
                    return
            with suppress(Exception):  # the storage is away: perhaps it is there at the next beat
                self._beat(study)

    def _beat(self, study: optuna.Study) -> None:
        study.set_user_attr(_beat_of(str(owner.me())), time.time_ns())  # compared with itself alone


def _beat_of(holder: str) -> str:
    return f"beat of {holder}"


def _plain(frozen: FrozenTrial) -> Trial:
    attrs = frozen.user_attrs
    return Trial(
        index=attrs["index"],
        params=dict(frozen.params),
        state=_STATES[frozen.state],
        values=dict(frozen.intermediate_values),
        diverged=tuple(attrs.get("diverged", ())),
        epochs=attrs.get("epochs", 0),
        reason=attrs.get("reason", ""),
        owner=attrs.get("owner", ""),
        number=frozen.number,
    )


def _differences(place: Place, name: str, there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    words = [
        f"{key}: {there.get(key)!r} there, {now.get(key)!r} now"
        for key in dict.fromkeys([*now, *there])
        if there.get(key) != now.get(key)
    ]
    return (
        f"--storage {place}: its study {name!r} has other settings ({'; '.join(words)}); give these, or choose another "
        "--study or --out"
    )
