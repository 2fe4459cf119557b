"""Anyone's loss by its place: its spellings, what is refused and why, real runs by every way that a loss goes in."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adma.bench import adapted, own_loss
from adma.bench.checkpoint import Keeper, course
from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.engines.ray_cluster import code_of
from adma.bench.engines.work import Worker
from adma.bench.errors import BenchError
from adma.bench.estimate import seconds_per_cell
from adma.bench.importing import current_folder_importable
from adma.bench.loss_specs import canonical_loss, canonical_losses
from adma.bench.models import check_model
from adma.bench.report.tables import paste_line
from adma.bench.result import DONE, FAILED
from adma.bench.search.space import parse_template
from adma.bench.shaping import Shaping
from adma.bench.study import Cell, Setting
from adma.bench.train import StoppedError, train
from adma.cli import main

MODULE = '''
import torch
from torch import nn
from torch.nn import functional as F

def cross_entropy():
    return F.cross_entropy

class Weighted(nn.Module):
    def __init__(self, power: float = 0.5, reduction: str = "mean"):
        super().__init__()
        self.power, self.reduction = power, reduction
    def forward(self, logits, target):
        loss = F.cross_entropy(logits, target, reduction="none")
        rows = loss.detach() ** self.power * loss
        return rows.mean() if self.reduction == "mean" else rows

class Eased(nn.Module):
    """Cross-entropy that comes in over its first 40 calls, and keeps their number as a buffer."""
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
    def forward(self, logits, target):
        if self.training and torch.is_grad_enabled():
            self.calls += 1
        return torch.clamp(self.calls / 40, max=1) * F.cross_entropy(logits, target)

class Outer:
    @staticmethod
    def make(scale=1.0):
        return lambda logits, target: scale * F.cross_entropy(logits, target)

class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
    def forward(self, logits, target):
        return self.scale * F.cross_entropy(logits, target)

number = 3
def gives_a_number(): return 3
def itself(logits, target): return F.cross_entropy(logits, target)
def broken(): raise KeyError("nothing here")
def shaped(): return lambda logits, target: logits.sum(1)
def of_numbers(): return lambda logits, target: 1.5
def infinite(): return lambda logits, target: (logits / 0).sum()
def nothing(): return lambda logits, target: (logits.argmax(1) == target).float().mean()
def flat(): return lambda logits, target: (0 * logits).sum() + 1
def steep(): return lambda logits, target: (logits - logits.detach()).abs().sqrt().sum()
def four(): return lambda logits, target: logits[:, :, 0, 0].sum()
def no_memory():
    def loss(logits, target):
        if len(logits) == 64:
            raise MemoryError("the loss wants it all")
        return F.cross_entropy(logits, target)
    return loss
'''


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which holds the module `their_losses`; forgotten afterwards."""
    (tmp_path / "their_losses.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "their_losses", raising=False)
    return tmp_path


def cell(digits: Dataset, loss: str, **setting: object) -> Cell:
    options = {"epochs": 2, "train_size": 300, "model": "mlp", **setting}
    return Cell(Setting("digits", digits.fingerprint, **options), loss, 0)  # type: ignore[arg-type]


# ---- spellings


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("their_losses:make", "their_losses:make"),
        ("a.b.c:Outer.make", "a.b.c:Outer.make"),
        ("m:F:gamma=2, alpha=0.50", "m:F:alpha=0.5,gamma=2"),
        ("m:F:reduction=mean,weight=None,on=TRUE", "m:F:on=true,reduction=mean,weight=none"),
        ("m:F:x=1e-3,y=-inf", "m:F:x=0.001,y=-inf"),
    ],
)
def test_a_place_has_one_spelling(text: str, canonical: str) -> None:
    assert canonical_loss(text) == canonical
    assert canonical_loss(canonical) == canonical


OTHERS = ("true", "none", "false", "nan", "inf", "infinity")  # that are no text
VALUES = st.one_of(
    st.booleans(), st.none(), st.integers(), st.floats(allow_nan=False),
    st.from_regex(r"[a-z]{3,9}", fullmatch=True).filter(lambda word: word not in OTHERS),
)  # fmt: skip


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), VALUES, max_size=4))
def test_parse_is_the_inverse_of_writing(options: dict[str, object]) -> None:
    found = own_loss.parse(str(own_loss.OwnLoss("pkg.mod:Name", options)))
    assert found.options == options
    assert [type(value) for _, value in sorted(found.options.items())] == [
        type(value) for _, value in sorted(options.items())
    ]


@pytest.mark.parametrize("text", ["adma:a=0.26", "cce", "ce:x", "bi_tempered:t1", "a b:c", "m:f(x)", "adma", "x:1"])
def test_a_loss_of_adma_or_no_name_is_no_place(text: str) -> None:
    assert not own_loss.is_own(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [("m:F:", "nothing stands behind"), ("m:F:alpha", "key=value"), ("m:F:a=1,a=2", "a is given twice"),
     ("m:F:=1", "key=value")],
)  # fmt: skip
def test_options_that_cannot_be_read_are_told(text: str, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        canonical_losses([text])
    with pytest.raises(BenchError, match=words):
        parse_template(text)


def test_a_search_has_nothing_to_search_in_it() -> None:
    template = parse_template("m:F:gamma=2,alpha=0.5")
    assert template.name == template.spec({}) == "m:F:alpha=0.5,gamma=2"
    assert not template.space
    for asked in ("alpha=search", "alpha=0.1..0.5"):
        with pytest.raises(BenchError, match="alpha cannot be searched"):
            parse_template(f"m:F:{asked}")


def test_the_line_to_paste_makes_the_loss(folder: Path) -> None:
    for spec, logits in (("their_losses:Weighted:power=1.5", 1.0), ("their_losses:Outer.make:scale=3.0", 2.0)):
        found: dict[str, object] = {}
        with current_folder_importable():
            exec(paste_line(spec), found)
        z, y = logits * torch.eye(4), torch.arange(4)
        assert found["loss_fn"](z, y) == adapted.build(spec)(z, y)  # type: ignore[operator]


# ---- what is refused


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("no_such_package.losses:Dice", r"no module named 'no_such_package'"),
        ("their_losses:Weigthed", r"no 'Weigthed' in their_losses.*did you mean 'Weighted'"),
        ("their_losses:number", r"number is int and cannot be called"),
        ("their_losses:gives_a_number", r"must give a loss to call with logits and targets, got 3 \(int\)"),
        ("their_losses:itself", r"with nothing, which must give the loss, failed: TypeError.*by another one"),
        ("their_losses:broken", r"KeyError: 'nothing here'"),
        ("their_losses:Weighted:powre=2", r"with powre=2.*unexpected keyword argument 'powre'"),
        (
            "their_losses:Weighted:reduction=none",
            r"a scalar.*got a tensor of torch.float32 and shape \(10,\)",
        ),
        ("their_losses:shaped", r"scalar.*shape \(10,\)"),
        ("their_losses:of_numbers", r"scalar.*got 1.5 \(float\)"),
        ("their_losses:infinite", r"must give a finite number, got (nan|inf|-inf)"),
        ("their_losses:nothing", r"has no gradient"),
        ("their_losses:flat", r"gradient in the logits is zero"),
        ("their_losses:steep", r"its gradient must be finite"),
        ("their_losses:four", r"fails for logits \(10, 10\) and class indices \(10,\): IndexError"),
        ("their_losses:Learned", r"its parameter 'scale' would stay as it is"),
    ],
)
def test_what_cannot_train_is_told_before_anything_runs(folder: Path, loss: str, words: str) -> None:
    with pytest.raises(BenchError, match=rf"(?s)--loss {re.escape(loss)}.*{words}"):
        check_model("mlp", (1, 8, 8), 10, ["cce", loss])


def test_the_command_says_so_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--model", "mlp", "--epochs", "1", "--seeds", "1", "--loss", "cce", "--loss"]
    assert main(["compare", "digits", *quick, "their_losses:shaped", "--out", "out"]) == 2
    assert "must give a scalar" in capsys.readouterr().err
    assert main(["tune", "digits", *quick, "their_losses:shaped", "--out", "out"]) == 2
    assert "must give a scalar" in capsys.readouterr().err
    two = ["--devices", "2", "--device", "cpu", "--out", "out"]
    assert main(["compare", "digits", *quick, "their_losses:Weighted", *two]) == 2
    assert "--devices 2 with --loss their_losses:Weighted" in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_a_batch_is_never_taken_in_parts(folder: Path, digits: Dataset) -> None:
    with pytest.raises(BenchError, match="need not be a mean over samples"):
        train(cell(digits, "their_losses:Weighted"), digits, pieces=2)
    found = Worker(lambda cell: digits).train(cell(digits, "their_losses:no_memory"), lambda number, row: None)
    assert found is not None
    assert found.status == FAILED
    assert re.search(r"the loss wants it all.*no half batches: try a smaller --batch-size", found.reason)
    assert "faults" not in found.env


# ---- what runs


def test_cross_entropy_by_its_place_trains_what_cross_entropy_trains(folder: Path, digits: Dataset) -> None:
    own, ours = (train(cell(digits, loss), digits) for loss in ("their_losses:cross_entropy", "cce"))
    assert own.status == DONE
    assert own.env["shared"] == ours.env["shared"]
    for name in ("train_loss", "test_accuracy", "test_nll", "test_ece"):
        np.testing.assert_allclose(own.epochs[name], ours.epochs[name], rtol=1e-3)
    assert all(np.isnan(values).all() for name, values in own.epochs.items() if name.endswith("_posterior"))
    assert own.trace == {}


def test_an_option_reaches_the_loss_and_the_key(folder: Path, digits: Dataset) -> None:
    cells = [cell(digits, canonical_loss(f"their_losses:Weighted:power={p}")) for p in ("0.0", "2.0")]
    assert cells[0].key != cells[1].key
    plain, squared, ours = (train(c, digits) for c in (*cells, cell(digits, "cce")))
    np.testing.assert_allclose(plain.epochs["train_loss"], ours.epochs["train_loss"], rtol=1e-3)
    assert not np.allclose(squared.epochs["train_loss"], ours.epochs["train_loss"], rtol=1e-2)
    assert seconds_per_cell(cells[0].setting, cells[0].loss, {"train": 300, "val": 9, "test": 9}, (1, 8, 8), 10) > 0


def test_a_training_goes_on_with_the_losss_buffers(folder: Path, digits: Dataset, tmp_path: Path) -> None:
    some = cell(digits, "their_losses:Eased", epochs=3)
    assert course(some) == course(cell(digits, "their_losses:Eased", epochs=9))  # it is told nothing of the length
    whole = train(some, digits)
    done: list[int] = []
    with pytest.raises(StoppedError):  # after a step of the second epoch
        train(
            some, digits, keeper=Keeper(tmp_path, some), on_epoch=lambda number, row: done.append(number),
            pulse=lambda: bool(done),
        )  # fmt: skip
    resumed = train(some, digits, keeper=Keeper(tmp_path, some))
    assert resumed.env["resumed_at"] == [2, 1]
    assert resumed.env["weights"] == whole.env["weights"]
    shaping = Shaping("their_losses:Eased")
    shaping.load_state_dict({**shaping.state_dict(), "own": {"loss_fn.calls": torch.tensor(7.0)}})
    assert float(shaping.loss_fn.loss_fn.calls) == 7  # type: ignore[union-attr]


@pytest.mark.slow
def test_from_the_command_to_the_report_and_its_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "digits", "--model", "mlp", "--epochs", "1", "--seeds", "2", "--train-size", "200",
               "--jobs", "1", "--loss", "cce", "--loss", "their_losses:Weighted:power=0.5", "--out", "out"]  # fmt: skip
    assert main(command) == 0
    capsys.readouterr()
    assert main(command) == 0  # all is there
    assert "estimate" not in capsys.readouterr().out
    configs = [json.loads(path.read_text()) for path in (folder / "out").rglob("config.json")]
    assert sorted(c["loss"] for c in configs) == ["cce"] * 2 + ["their_losses:Weighted:power=0.5"] * 2
    (folder / "their_losses.py").unlink()  # a report needs no code
    assert main(["report", "out", "--baseline", "their_losses:Weighted:power=0.5"]) == 0
    told = capsys.readouterr().out
    assert "their_losses:Weighted:power=0.5" in re.sub(r"\s", "", told)
    page = (folder / "out" / "report.html").read_text()
    assert "from their_losses import Weighted" in page
    assert "Not drawn, as no known function of p alone: their_losses:Weighted:power=0.5" in page


@pytest.mark.slow
def test_tune_gives_it_one_trial(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tune", "digits", "--model", "mlp", "--epochs", "1", "--seeds", "2", "--final-seeds", "2", "--lr",
               "0.001", "--train-size", "200", "--jobs", "1", "--trials", "2", "--loss", "adma", "--loss",
               "their_losses:cross_entropy", "--out", "out"]  # fmt: skip
    assert main(command) == 0
    assert "their_losses:cross_entropy: nothing to search, so 1 trial" in capsys.readouterr().out
    trials = (folder / "out" / "trials.csv").read_text().splitlines()
    assert sum(line.startswith("their_losses") for line in trials) == 1


@pytest.mark.slow
def test_a_study_document_takes_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "s.yaml").write_text(
        "title: t\ndata: [digits]\nmodel: mlp\nepochs: 1\nseeds: 2\nmax_train_size: 200\n"
        "losses: [cce, 'their_losses:cross_entropy']\n"
    )
    assert main(["run", "s.yaml", "--jobs", "1", "--out", "out"]) == 0, capsys.readouterr().err
    done = [json.loads(p.read_text())["loss"] for p in (folder / "out").rglob("config.json")]
    assert done.count("their_losses:cross_entropy") == 2


def test_its_module_goes_to_other_machines(folder: Path) -> None:
    check_model("mlp", (1, 8, 8), 10, ["their_losses:Weighted"])
    assert folder / "their_losses.py" in code_of(())


# ---- kornia's


def kornia() -> None:
    if importlib.util.find_spec("kornia") is None:
        pytest.skip("kornia is not installed: its losses WERE NOT RUN by their places")


def test_kornias_focal_loss_is_ours(digits: Dataset) -> None:
    kornia()
    spec = canonical_loss("kornia.losses:FocalLoss:alpha=none,gamma=2.0,reduction=mean")
    check_model("mlp", (1, 8, 8), 10, [spec])
    theirs, ours = (train(cell(digits, loss), digits) for loss in (spec, "focal:gamma=2"))
    assert theirs.status == DONE
    assert theirs.epochs["test_accuracy"][-1] > 0.6
    z = torch.randn(6, 10)
    y = torch.randint(10, (6,))
    # kornia's mean is over samples and classes
    torch.testing.assert_close(10 * adapted.build(spec)(z, y), Shaping("focal:gamma=2").loss_fn(z, y))
    assert ours.env["shared"] == theirs.env["shared"]


def test_kornias_dice_loss_is_for_images_of_labels(folder: Path, digits: Dataset) -> None:
    kornia()
    adapted.check_own_losses(["kornia.losses:DiceLoss"], 5, (6, 7))
    with pytest.raises(BenchError, match=r"--loss kornia.losses:DiceLoss fails for logits \(10, 10\)"):
        check_model("mlp", (1, 8, 8), 10, ["kornia.losses:DiceLoss"])
    (folder / "flat_dice.py").write_text(
        "from kornia.losses import DiceLoss\n"
        "def make():\n"
        "    dice = DiceLoss()\n"
        "    return lambda logits, target: dice(logits.mT[None, :, :, None], target[None, :, None])\n"
    )
    found = train(cell(digits, "flat_dice:make", epochs=4), digits)
    assert found.epochs["test_accuracy"][-1] > 0.6
