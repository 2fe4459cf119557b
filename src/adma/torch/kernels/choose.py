"""Which engine serves a call, and why: the one place where that is decided."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from adma.torch.kernels import native, triton
from adma.torch.kernels.native import dense as native_dense
from adma.torch.kernels.program import constant_in_a_graph, member_of, parameters
from adma.torch.kernels.terms import Shape


class Choice(NamedTuple):
    """An engine's name ("native", "triton", "eager" or "composed") and the reason in words."""

    engine: str
    reason: str


# where this torch does not tell, there is nothing to tell
_functorch_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
_dispatch_mode = getattr(torch._C, "_get_dispatch_mode", lambda key: None)
_early_mode = getattr(torch._ops, "_get_dispatch_mode_pre_dispatch", lambda key: None)
_PROXY = getattr(getattr(torch._C, "_TorchDispatchModeKey", None), "PROXY", None)
_is_batched = getattr(torch._C._functorch, "is_legacy_batchedtensor", lambda tensor: False)

PLAIN = Choice("eager", "plain autograd")
NATIVE = Choice("native", "plain autograd on the CPU")
TRITON = Choice("triton", "plain autograd on a GPU")
COMPILED = Choice("composed", "torch.compile fuses plain operators")
_TELLS_CONSTANTS = torch.__version__ >= "2.8"  # of a graph


def choose(*tensors: Tensor) -> Choice:
    """Whether plain autograd serves a call on these tensors ("eager"), or plain operators must ("composed").

    Where plain autograd does, gradients are written by hand; every transformation of PyTorch understands plain
    operators.
    """
    if torch.compiler.is_compiling():
        return COMPILED
    if transforming():
        return Choice("composed", "torch.func transforms need plain operators")
    if recording() or torch.jit.is_scripting():
        return Choice("composed", "torch.jit and make_fx record plain operators")
    for tensor in tensors:
        if type(tensor) not in (Tensor, torch.nn.Parameter):
            return Choice("composed", f"{type(tensor).__name__} is a tensor subclass")
        if lazy(tensor):
            return Choice("composed", "a tensor's memory does not hold its values, as that of x.conj().imag")
        if in_dual_level() and forward_ad.unpack_dual(tensor).tangent is not None:
            return Choice("composed", "forward-mode differentiation needs plain operators")
    return PLAIN


def lazy(tensor: Tensor) -> bool:
    """Whether a tensor's values are not what its memory holds, which a kernel reads: negated when read, or all zero."""
    return tensor.is_neg() or tensor._is_zerotensor()


def ordinary() -> bool:
    """Whether PyTorch transforms, records and compiles nothing here: then plain autograd serves every plain tensor."""
    return not (torch.compiler.is_compiling() or transforming() or recording() or in_dual_level())


def choose_rows(z: Tensor, target: Tensor, shape: Shape) -> Choice:
    """The engine for the rows of a member on logits (N, C, M) and class indices (N, M).

    "native" is compiled and walks over tiles of rows that fit the cache; "triton" is a kernel on the GPU; "eager" walks
    over blocks by torch's operators; "composed" is plain operators.
    """
    if torch.compiler.is_compiling():
        return _in_a_graph(z, shape)
    plain = choose(z, target)
    if plain.engine == "composed":
        return plain
    on_gpu = z.device.type == "cuda"
    against = triton.reason_against(z, shape) if on_gpu else native.reason_against(z, shape)
    if not against:  # a member that has a program has plain parameters
        return TRITON if on_gpu else NATIVE
    if any(isinstance(value, Tensor) for value in vars(shape).values()):
        return Choice("composed", f"a parameter of {type(shape).__name__} is a tensor, and may want a gradient")
    return Choice("eager", against)


def _in_a_graph(z: Tensor, shape: Shape) -> Choice:
    """`choose_rows` inside torch.compile: a kernel is an operator of the graph, made for one value of each parameter.

    When a parameter changes, torch.compile makes a graph for any value of it, and that has plain operators.
    """
    if not _TELLS_CONSTANTS:
        return Choice("composed", "torch before 2.8 does not tell in a graph whether a parameter is constant")
    from torch.fx.experimental.symbolic_shapes import has_static_value  # imports sympy, which takes long

    if torch.compiler.is_exporting():
        return Choice("composed", "an exported graph is to run anywhere")
    if in_dual_level() or _transforming_in_a_graph():
        return Choice("composed", "torch.func transforms need plain operators")
    values = parameters(shape)
    if values is None:
        return Choice("composed", f"{type(shape).__name__} is no dataclass: its parameters are not known")
    for value in values:
        if type(value) not in (float, int, bool, str):
            return Choice("composed", f"a parameter of {type(shape).__name__} is a {type(value).__name__}")
        if isinstance(value, (float, int)) and not has_static_value(value):
            return Choice("composed", f"a parameter of {type(shape).__name__} changes from call to call")
    engine, reason = in_a_graph(z.device.type, z.dtype, type(shape), values)
    return Choice(engine, reason)


@constant_in_a_graph
def in_a_graph(device: str, dtype: torch.dtype, kind: type, values: tuple[Any, ...]) -> tuple[str, str]:
    """The engine for a member of a kind with these parameters inside torch.compile, and why."""
    shape = member_of(kind, values)
    example = torch.empty(0, 1, 1, dtype=dtype, device=device)
    by_triton = device == "cuda" or not triton.why_not(example.device)
    against = triton.reason_against(example, shape) if by_triton else native.reason_against(example, shape)
    if against:
        return "composed", against
    return "triton" if by_triton else "native", "one operator of the compiled graph"


@constant_in_a_graph
def _transforming_in_a_graph() -> bool:
    return transforming()


def choose_dense(
    z: Tensor, target: Tensor | None = None, member: Shape | None = None, weight: Tensor | None = None
) -> Choice:
    """The engine for a loss that needs every class's probability: "native", "triton", "eager" in blocks, or "composed".

    Args:
        z: logits (N, C, M), or probabilities.
        target: class indices (N, M), smoothed later, or class probabilities (N, C, M).
        member: psi and slope; None for a loss outside the family, or one of probabilities.
        weight: (C), of the classes.
    """
    plain = choose(*(tensor for tensor in (z, target, weight) if tensor is not None))
    if plain.engine == "composed":
        return plain
    if weight is not None and weight.requires_grad:
        return Choice("composed", "the class weights want a gradient")
    if member is None or target is None:
        return Choice("eager", "every class's loss is needed: torch's operators, block by block")
    if target.requires_grad:
        return Choice("eager", "the class probabilities want a gradient: torch's operators, block by block")
    on_gpu = z.device.type == "cuda"
    against = triton.reason_against(z, member) if on_gpu else native_dense.reason_against(z, target, member)
    if not against:
        return TRITON if on_gpu else NATIVE
    if any(isinstance(value, Tensor) for value in vars(member).values()):
        return Choice("composed", f"a parameter of {type(member).__name__} is a tensor, and may want a gradient")
    return Choice("eager", against)


def transforming() -> bool:
    """Whether a torch.func transform (vmap, grad, jvp, ...) is active."""
    return bool(_functorch_active())


def recording() -> bool:
    """Whether `torch.jit.trace` or `make_fx` records what is done to plain tensors: a kernel would go unseen."""
    return torch.jit.is_tracing() or (_dispatch_mode(_PROXY) or _early_mode(_PROXY)) is not None


def batched(tensor: Tensor) -> bool:
    """Whether a tensor is batched by the older vmap (`is_grads_batched=True`), which allows no in-place writes."""
    return bool(_is_batched(tensor))


def keeps_graph() -> bool:
    """Whether the backward pass that runs now keeps its graph (`retain_graph=True`); True where torch does not say."""
    asked = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return bool(asked()) if asked is not None else True


def in_dual_level() -> bool:
    """Whether a forward-mode level is open."""
    return bool(getattr(forward_ad, "_current_level", 0) >= 0)
