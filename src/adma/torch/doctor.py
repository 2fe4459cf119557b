"""What `adma doctor` says: which engines there are on this machine, which one serves a call, and why.

It asks the same functions that a call asks, with small tensors, so it says what would happen and not what should.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator

import torch

from adma.family import Adma
from adma.torch.kernels import fused, native, triton
from adma.torch.kernels.choose import Choice, choose_dense, choose_rows, in_a_graph
from adma.torch.kernels.native import library
from adma.torch.kernels.program import parameters


def report() -> str:
    """The whole answer, in lines of text."""
    system = f"{platform.system()} {platform.machine()}"
    lines = [
        f"torch {torch.__version__}, Python {platform.python_version()}, {system}",
        "",
        "engines",
        *(f"  {name:<9} {said}" for name, said in _engines()),
        "",
        "calls",
        *(f"  {call:<45} {choice.engine:<9} {choice.reason}" for call, choice in _calls()),
    ]
    return "\n".join(lines)


def _engines() -> Iterator[tuple[str, str]]:
    loaded = library.load()
    if isinstance(loaded, str):
        yield "native", f"not here: {loaded}"
    else:
        able, used = native.instruction_sets(loaded), library.SETS[loaded.number]
        yield "native", f"compiled C++ for the CPU; of {', '.join(able)} it runs {used} ({library.VARIABLE} forces one)"
        yield "", f"{torch.get_num_threads()} threads: {loaded.threads}"
    against = triton.why_not(torch.device("cuda")) if torch.cuda.is_available() else "torch finds no GPU"
    yield "triton", f"not here: {against}" if against else f"kernels for {torch.cuda.get_device_name()}"
    yield "eager", "torch's operators with a gradient by hand, in blocks that fit the cache"
    yield "composed", "plain operators, for torch.func, forward mode, torch.compile and double backward"


def _told(choice: Choice) -> Choice:
    return Choice(choice.engine, "every class's loss, in the same walks") if choice.engine == "native" else choice


def _calls() -> Iterator[tuple[str, Choice]]:
    member, y = Adma(), torch.zeros(2, 1, dtype=torch.long)
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        z = torch.zeros(2, 3, 1, dtype=dtype)
        choice = choose_rows(z, y, member)
        if choice.engine == "native":
            reason = (
                "loss and gradient in one walk over the logits"
                if fused.one_walk(choice.engine, dtype)
                else "a walk in each pass: a gradient that waits for its loss scale could vanish"
            )
            choice = Choice(choice.engine, reason)
        yield f"{str(dtype).removeprefix('torch.')}, class indices, mean or sum", choice
    z = torch.zeros(2, 3, 1)
    choice = choose_rows(z, y, member)
    if choice.engine == "native":
        choice = Choice(choice.engine, "a walk in each pass: the rows' factors are not known before")
    yield 'class indices, reduction="none"', choice
    yield "class indices, label smoothing", _told(choose_dense(z, y, member))
    yield "class probabilities", _told(choose_dense(z, z, member))
    if torch.cuda.is_available():
        yield "on cuda, label smoothing or probabilities", choose_dense(z.cuda(), y.cuda(), member)
    yield "a loss outside the family", choose_dense(z)
    yield "a parameter that is learned by autograd", choose_rows(z, y, member.bind(a=torch.tensor(0.3)))
    found: list[Choice] = []

    def mapped(row: torch.Tensor) -> torch.Tensor:
        found.append(choose_rows(row.unsqueeze(0), y[:1], member))
        return row

    torch.func.vmap(mapped)(z)
    yield "inside torch.func (vmap, grad, jvp, hessian)", found[0]
    yield "inside torch.compile", _compiled("cpu", member)
    if torch.cuda.is_available():
        z, y = z.cuda(), y.cuda()
        yield "on cuda, class indices", choose_rows(z, y, member)
        yield "on cuda, inside torch.compile", _compiled("cuda", member)


def _compiled(device: str, member: Adma) -> Choice:
    return Choice(*in_a_graph(device, torch.float32, type(member), parameters(member) or ()))
