"""Several processes, each with its share of a batch, have the loss and the gradients of one process with all of it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import adma
from adma.family import Member
from adma.spec import known

N, FEATURES, CLASSES = 11, 5, 4
# how the batch is divided: unequal, with nobody's targets all ignored; and with a process that has nothing
SHARES = {2: (7, 4), 3: (8, 0, 3)}
WEIGHT = torch.tensor([0.5, 2.0, 0.0, 1.25], dtype=torch.float64)

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="this build of torch has no gloo")


@dataclass
class Case:
    """A loss, its targets of the whole batch, and options of each call."""

    make: Callable[[], Callable[..., Tensor]]
    target: Tensor
    outputs: int = CLASSES
    options: dict[str, Any] = field(default_factory=dict)


class Network(nn.Module):
    """A linear layer, three maps wide if the targets are, and its loss: what DDP wraps."""

    def __init__(self, case: Case, loss_fn: Callable[..., Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(FEATURES, case.outputs).double()
        self.loss_fn, self.options = loss_fn, case.options
        inner = getattr(loss_fn, "loss_fn", loss_fn)
        if hasattr(inner, "linear"):
            torch.manual_seed(1)
            nn.init.normal_(inner.linear.weight)

    def forward(self, x: Tensor, target: Tensor, **count: Tensor) -> Tensor:
        z = self.body(x)
        if not target.is_floating_point():
            z = z.unflatten(1, (-1, *target.shape[1:]))
        return self.loss_fn(z, target, **self.options, **count)


def samples() -> Tensor:
    return torch.randn(N, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def indices(ignored: tuple[int, ...] = (1, 2, 8)) -> Tensor:
    target = torch.randint(CLASSES, (N,), generator=torch.Generator().manual_seed(4))
    target[list(ignored)] = -1
    return target


def shares_of_classes(*shape: int) -> Tensor:
    return torch.softmax(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)), 1)


def cases() -> dict[str, Case]:
    weighed = {"weight": WEIGHT, "ignore_index": -1}
    found = {}
    for name, kind in known().items():
        if name == "l_softmax":  # which has a layer, see test_large_margin.py
            continue
        found[name] = Case(partial(adma.make_loss, name, **weighed), indices())
        found[f"{name}, smoothed"] = Case(partial(adma.make_loss, name, label_smoothing=0.2, **weighed), indices())
        if issubclass(kind, Member):
            target = shares_of_classes(N, 3)
            found[f"binary {name}"] = Case(
                partial(adma.make_loss, name, binary=True, pos_weight=torch.tensor(1.5).double()), target, 3
            )
            found[f"linear {name}"] = Case(
                partial(adma.LinearFlexibleLoss, 6, CLASSES, name, dtype=torch.float64, bias=True, **weighed),
                indices(), 6,
            )  # fmt: skip
    linear = partial(adma.LinearAdmaLoss, 6, CLASSES, dtype=torch.float64)
    maps = torch.randint(CLASSES, (N, 1, 3), generator=torch.Generator().manual_seed(6))[:, 0]
    maps[:, 1:][indices() == -1] = -1
    adma_loss = adma.functional.adma_loss
    return found | {
        "nobody counts": Case(partial(adma.AdmaLoss, ignore_index=-1), torch.full((N,), -1)),
        "the first has all ignored": Case(partial(adma.AdmaLoss, ignore_index=-1), indices(tuple(range(8)))),
        "only weight 0": Case(partial(adma.AdmaLoss, weight=WEIGHT, label_smoothing=0.1), torch.full((N,), 2)),
        "probabilities": Case(partial(adma.AdmaLoss, weight=WEIGHT), shares_of_classes(N, CLASSES)),
        "linear, probabilities": Case(partial(linear, weight=WEIGHT), shares_of_classes(N, CLASSES), 6),
        "linear, z-loss": Case(partial(linear, z_loss=0.1, ignore_index=-1), indices(), 6),
        "linear, z-loss and weight": Case(partial(linear, z_loss=0.1, softcap=5.0, **weighed), indices(), 6),
        "a map of targets": Case(partial(adma.AdmaLoss, **weighed), maps, 3 * CLASSES),
        "in place": Case(partial(adma.AdmaLoss, inplace=True, **weighed), indices()),
        "a function": Case(lambda: adma_loss, indices(), options={**weighed, "a": 0.4}),
        "a partial function": Case(lambda: partial(adma_loss, **weighed), indices()),
        "a binary function": Case(lambda: adma.functional.binary_adma_loss, shares_of_classes(N, 3), 3),
    }


def numbers(network: nn.Module, loss: Tensor) -> list[Tensor]:
    """The loss and every gradient."""
    return [loss.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]


def alone(case: Case) -> list[Tensor]:
    network = Network(case, case.make())
    loss = network(samples(), case.target)
    loss.backward()
    return numbers(network, loss)


def mine(rank: int, world: int) -> slice:
    return slice(sum(SHARES[world][:rank]), sum(SHARES[world][: rank + 1]))


def with_ddp(case: Case, part: slice) -> list[Tensor]:
    network = Network(case, adma.GlobalMean(case.make()))
    model = DistributedDataParallel(network)
    loss = model(samples()[part], case.target[part])
    loss.backward()
    return numbers(network, loss)


def accumulated(case: Case, part: slice) -> list[Tensor]:
    """A step in two batches of unequal size, the second one empty where the share is small."""
    network = Network(case, adma.GlobalMean(case.make()))
    model = DistributedDataParallel(network)
    x, target = samples()[part], case.target[part]
    pieces = [(x[:3], target[:3]), (x[3:], target[3:])]
    count = network.loss_fn.count(*(y for _, y in pieces), **{k: v for k, v in case.options.items() if k != "a"})
    with model.no_sync():
        first = model(*pieces[0], count=count)
        first.backward()
    second = model(*pieces[1], count=count)
    second.backward()
    return numbers(network, first + second)


def with_fsdp(case: Case, part: slice) -> list[Tensor]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    network = Network(case, adma.GlobalMean(case.make()))
    fully_shard(network, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    loss = network(samples()[part], case.target[part])
    loss.backward()
    return [loss.detach(), *(p.grad.full_tensor() for p in network.parameters())]


FSDP = ("adma", "adma, smoothed", "linear adma", "bi_tempered", "binary adma", "the first has all ignored")
ACCUMULATED = ("adma", "mse", "linear, z-loss and weight", "binary focal", "a function", "only weight 0")


def run(rank: int, world: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    part, every = mine(rank, world), cases()
    found: dict[str, Any] = {name: with_ddp(case, part) for name, case in every.items()}
    found |= {f"accumulated, {name}": accumulated(every[name], part) for name in ACCUMULATED}
    found |= {f"fsdp, {name}": with_fsdp(every[name], part) for name in FSDP}
    group = dist.new_group([0, 1])
    two = slice(*((0, 7), (7, 11), (0, 0))[rank])
    try:
        network = Network(every["adma"], adma.GlobalMean(every["adma"].make(), group))
        model = DistributedDataParallel(network, process_group=group)
        loss = model(samples()[two], every["adma"].target[two])
        loss.backward()
        found["of two"] = numbers(network, loss)
    except ValueError as error:
        found["of two"] = str(error)
    return found


def worker(rank: int, world: int, port: int, folder: str) -> None:
    store = dist.TCPStore("127.0.0.1", port, world, is_master=rank == 0)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        torch.save(run(rank, world), Path(folder, str(rank)))
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module", params=SHARES)
def every_rank(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(worker, (request.param, port, str(folder)), nprocs=request.param)
    return [torch.load(folder / str(rank)) for rank in range(request.param)]


def check(case: Case, ranks: list[list[Tensor]]) -> None:
    loss, *gradients = alone(case)
    assert torch.stack([found[0] for found in ranks]).mean().item() == pytest.approx(loss.item(), rel=1e-13, abs=1e-15)
    for found in ranks:
        assert len(found) == len(gradients) + 1
        for mine, whole in zip(found[1:], gradients, strict=True):
            torch.testing.assert_close(mine, whole, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", list(cases()))
def test_the_gradients_that_ddp_averages_are_those_of_the_whole_batch(
    every_rank: list[dict[str, Any]], name: str
) -> None:
    case = cases()[name]
    check(case, [found[name] for found in every_rank])
    assert name == "nobody counts" or any(
        g.abs().max() > 1e-4 for g in alone(case)[1:]
    )  # there is something to compare


@pytest.mark.parametrize("name", ACCUMULATED)
def test_batches_that_are_accumulated_add_up_to_the_mean_of_them_all(
    every_rank: list[dict[str, Any]], name: str
) -> None:
    check(cases()[name], [found[f"accumulated, {name}"] for found in every_rank])


@pytest.mark.parametrize("name", FSDP)
def test_sharded_weights_have_the_same_gradients(every_rank: list[dict[str, Any]], name: str) -> None:
    check(cases()[name], [found[f"fsdp, {name}"] for found in every_rank])


def test_the_plain_mean_is_another_one() -> None:
    """Or else nothing above would be shown: the average of the shares' own means is far off."""
    case = cases()["adma"]
    means = [Network(case, case.make())(samples()[mine(r, 2)], case.target[mine(r, 2)]) for r in range(2)]
    assert abs(float(sum(means).detach()) / 2 - alone(case)[0].item()) > 0.01


def test_a_group_is_what_is_averaged_over(every_rank: list[dict[str, Any]]) -> None:
    check(cases()["adma"], [found["of two"] for found in every_rank[:2]])
    for found in every_rank[2:]:
        assert "not of the group" in found["of two"]


@pytest.mark.parametrize("name", ["adma", "linear, z-loss and weight", "a function", "nobody counts"])
def test_without_a_process_group_it_is_the_plain_mean(name: str) -> None:
    case = cases()[name]
    network = Network(case, adma.GlobalMean(case.make()))
    loss = network(samples(), case.target)
    loss.backward()
    check(case, [numbers(network, loss)])


@pytest.mark.parametrize("weight", [None, torch.full((200,), 2.0)], ids=["plain", "weighted"])
def test_the_class_that_minus_100_is_in_uint8_counts(weight: torch.Tensor | None) -> None:
    target = torch.tensor([156, 3, 156, 199], dtype=torch.uint8)
    loss_fn = adma.GlobalMean(adma.AdmaLoss(weight=weight))
    each = 1.0 if weight is None else 2.0
    assert loss_fn.count(target).tolist() == [4 * each, 4]


def test_what_it_does_not_take() -> None:
    for wrong in (nn.CrossEntropyLoss(), "adma", lambda z, y: z.sum()):
        with pytest.raises(TypeError, match="loss of adma"):
            adma.GlobalMean(wrong)  # type: ignore[arg-type]
    for reduction in ("none", "sum"):
        with pytest.raises(ValueError, match="reduction"):
            adma.GlobalMean(adma.AdmaLoss(reduction=reduction))
    z, y = torch.randn(3, 4), torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match="reduction"):
        adma.GlobalMean(adma.functional.adma_loss)(z, y, reduction="sum")
    with pytest.raises(ValueError, match="weight requires a gradient"):
        adma.GlobalMean(adma.functional.adma_loss)(z, y, torch.ones(4, requires_grad=True))
    with pytest.raises(ValueError, match="targets of this process"):
        adma.GlobalMean(adma.AdmaLoss()).count()


def test_it_carries_its_loss() -> None:
    wrapped = adma.GlobalMean(adma.AdmaLoss(weight=torch.ones(4)))
    assert set(wrapped.state_dict()) == {"loss_fn.weight"}
    assert "AdmaLoss(a=" in repr(wrapped)
    assert "adma_loss" in repr(adma.GlobalMean(adma.functional.adma_loss))
