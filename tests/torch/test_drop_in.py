"""Everything that code around `nn.CrossEntropyLoss` does with it works with these losses."""

import copy
import inspect
import io
import itertools
import pickle
from dataclasses import dataclass
from typing import ClassVar

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import adma
from adma import functional, spec
from adma.family import Member

Z = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])
B = (Z > 0.3).float()
W = torch.tensor([0.5, 1.0, 2.0])

# module, function, a shape that is not the default
PAIRS = {
    "CrossEntropyLoss": ("cross_entropy", {}),
    "AdmaLoss": ("adma_loss", {"a": 0.3, "base": 2.0, "normalize": True}),
    "GeneralizedCrossEntropyLoss": ("generalized_cross_entropy", {"q": 0.4}),
    "MeanAbsoluteErrorLoss": ("mean_absolute_error", {}),
    "FocalLoss": ("focal_loss", {"gamma": 1.5}),
    "Poly1Loss": ("poly1_loss", {"epsilon": 2.0}),
    "TaylorCrossEntropyLoss": ("taylor_cross_entropy", {"order": 3}),
    "AsymmetricGeneralizedCrossEntropyLoss": ("asymmetric_generalized_cross_entropy", {"a": 0.6, "q": 0.6}),
    "AsymmetricUnhingedLoss": ("asymmetric_unhinged_loss", {"a": 5.5, "q": 3.0}),
    "AsymmetricExponentialLoss": ("asymmetric_exponential_loss", {"a": 3.5}),
    "MeanSquaredErrorLoss": ("mean_squared_error", {}),
    "SquaredHingeLoss": ("squared_hinge", {}),
    "BiTemperedLoss": ("bi_tempered_loss", {"t1": 0.7, "t2": 1.4}),
    "SmoothedCrossEntropyLoss": ("smoothed_cross_entropy", {"epsilon": 0.2}),
    "SymmetricCrossEntropyLoss": ("symmetric_cross_entropy", {"alpha": 6.0, "beta": 0.1, "clip": -9.0}),
    "ActivePassiveLoss": ("active_passive_loss", {"alpha": 10.0, "beta": 0.1, "clip": -9.0}),
    "SemanticCrossEntropyLoss": ("semantic_cross_entropy", {"strength": 0.5}),
}
BINARY_PAIRS = {
    "BinaryCrossEntropyLoss": ("binary_cross_entropy", {}),
    "BinaryAdmaLoss": ("binary_adma_loss", {"a": 0.3, "base": 2.0, "normalize": True}),
    "BinaryGeneralizedCrossEntropyLoss": ("binary_generalized_cross_entropy", {"q": 0.4}),
    "BinaryMeanAbsoluteErrorLoss": ("binary_mean_absolute_error", {}),
    "BinaryFocalLoss": ("binary_focal_loss", {"gamma": 1.5}),
    "BinaryPoly1Loss": ("binary_poly1_loss", {"epsilon": 2.0}),
    "BinaryTaylorCrossEntropyLoss": ("binary_taylor_cross_entropy", {"order": 3}),
    "BinaryAsymmetricGeneralizedCrossEntropyLoss": (
        "binary_asymmetric_generalized_cross_entropy",
        {"a": 0.6, "q": 0.6},
    ),
    "BinaryAsymmetricUnhingedLoss": ("binary_asymmetric_unhinged_loss", {"a": 5.5, "q": 3.0}),
    "BinaryAsymmetricExponentialLoss": ("binary_asymmetric_exponential_loss", {"a": 3.5}),
}
GENERAL = {"FlexibleLoss", "BinaryFlexibleLoss", "flexible_loss", "binary_flexible_loss"}  # the member goes first
# with a call of their own: test_semantic.py, test_large_margin.py
OTHERS = {"SemanticLoss", "semantic_loss", "LargeMarginSoftmaxLoss", "large_margin_logits"}


def test_every_public_loss_is_tested_here():
    # the last layer and the loss together are held to torch's in test_linear.py
    named = {name for name in dir(adma) if name.endswith("Loss") and not name.startswith("Linear")}
    assert named == {*PAIRS, *BINARY_PAIRS, "FlexibleLoss", "BinaryFlexibleLoss"} | {
        n for n in OTHERS if n[0].isupper()
    }
    functions = {pair[0] for pair in [*PAIRS.values(), *BINARY_PAIRS.values()]}
    here = {name for name in functional.__all__ if not name.startswith("linear_") and name not in OTHERS}
    assert {*functions, "flexible_loss", "binary_flexible_loss", "posterior", "binary_posterior"} == here


def arguments(function):
    return [
        (p.name, p.default) for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY
    ]


@pytest.mark.parametrize(
    "name", [*PAIRS, *BINARY_PAIRS, "FlexibleLoss", "BinaryFlexibleLoss", "LargeMarginSoftmaxLoss"]
)
def test_a_module_is_called_as_torchs(name):
    torchs = nn.BCEWithLogitsLoss if name.startswith("Binary") else nn.CrossEntropyLoss
    own = arguments(getattr(adma, name))[name in GENERAL :]
    assert own == arguments(torchs)
    assert arguments(getattr(adma, name).forward) == arguments(torchs.forward)


@pytest.mark.parametrize(
    "name",
    [n for n in functional.__all__ if "posterior" not in n and not n.startswith("linear_") and n not in OTHERS],
)
def test_a_function_is_called_as_torchs(name):
    torchs = F.binary_cross_entropy_with_logits if name.startswith("binary") else F.cross_entropy
    own = arguments(getattr(functional, name))[name in GENERAL :]
    assert own == arguments(torchs)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("from_probabilities", [False, True])
def test_module_and_function_are_the_same(name, from_probabilities):
    function, shape = PAIRS[name]
    if from_probabilities and name == "SemanticCrossEntropyLoss":
        pytest.skip("it is of the logits alone")
    x = Z.softmax(1) if from_probabilities else Z
    for options in (
        {},
        {"weight": W},
        {"reduction": "none", "weight": W},
        {"reduction": "sum", "label_smoothing": 0.1},
        {"ignore_index": 1},
    ):
        options = {**options, **shape, "from_probabilities": from_probabilities}
        module, value = getattr(adma, name)(**options), getattr(functional, function)(x, Y, **options)
        assert torch.equal(module(x, Y), value)
    assert torch.equal(getattr(adma, name)(W)(Z, Y), getattr(functional, function)(Z, Y, W))
    soft = Z.flip(0).softmax(1)
    assert torch.equal(getattr(adma, name)(W, **shape)(Z, soft), getattr(functional, function)(Z, soft, W, **shape))


@pytest.mark.parametrize("name", BINARY_PAIRS)
def test_binary_module_and_function_are_the_same(name):
    function, shape = BINARY_PAIRS[name]
    for options in ({}, {"weight": W}, {"pos_weight": W, "reduction": "none"}, {"reduction": "sum"}):
        module = getattr(adma, name)(**options, **shape)
        assert torch.equal(module(Z, B), getattr(functional, function)(Z, B, **options, **shape))
    positional = getattr(adma, name)(W, None, None, "sum", W)(Z, B)
    assert torch.equal(positional, getattr(functional, function)(Z, B, W, None, None, "sum", W))


def build(name, **options):
    return getattr(adma, name)(**options, **{**PAIRS, **BINARY_PAIRS}[name][1])


def call(module):
    return module(Z, B if type(module).__name__.startswith("Binary") else Y)


@pytest.mark.parametrize("name", [*PAIRS, *BINARY_PAIRS])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_state_is_torchs(name, weighted):
    options = {"weight": W.clone()} if weighted else {}
    if weighted and name in BINARY_PAIRS:
        options["pos_weight"] = W.clone()
    ours = build(name, **options)
    theirs = (nn.BCEWithLogitsLoss if name in BINARY_PAIRS else nn.CrossEntropyLoss)(
        **{k: torch.ones(3) for k in options}
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert list(ours.parameters()) == []
    theirs.load_state_dict(ours.state_dict())
    if weighted:
        assert torch.equal(theirs.weight, W)
        theirs.weight.fill_(3.0)
        ours.load_state_dict(theirs.state_dict())
        assert torch.equal(ours.weight, torch.full((3,), 3.0))
    else:
        ours.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize("name", [*PAIRS, *BINARY_PAIRS])
def test_copies_are_the_same_loss(name):
    module = build(name, weight=W, reduction="none")
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    state = io.BytesIO()
    torch.save(module.state_dict(), state)
    state.seek(0)
    loaded = build(name, weight=torch.ones(3), reduction="none")
    loaded.load_state_dict(torch.load(state, weights_only=True))
    copies = [
        copy.copy(module),
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(file, weights_only=False),
        loaded,
    ]
    for other in copies:
        assert repr(other) == repr(module)
        assert torch.equal(call(other), call(module))


@pytest.mark.parametrize("name", PAIRS)
def test_learned_class_weights_may_be_set_later(name):
    """An `nn.Parameter` that is assigned is no buffer any more."""
    given = getattr(adma, name)(weight=nn.Parameter(W.clone()))
    later = getattr(adma, name)(weight=W.clone())
    later.weight = nn.Parameter(W.clone())
    assert torch.equal(later(Z, Y), given(Z, Y))
    later(Z, Y).backward()
    assert later.weight.grad.abs().sum() > 0


def test_repr_says_what_is_not_default():
    assert repr(adma.CrossEntropyLoss()) == "CrossEntropyLoss()"
    assert repr(adma.FocalLoss(gamma=1.0)) == "FocalLoss(gamma=1.0)"
    module = adma.AdmaLoss(W, ignore_index=0, reduction="sum", label_smoothing=0.1, a=0.3, base=2.0)
    expected = "a=0.3, base=2.0, normalize=False, weight=(3,), ignore_index=0, reduction='sum', label_smoothing=0.1"
    assert repr(module) == f"AdmaLoss({expected})"
    assert repr(adma.BiTemperedLoss()) == "BiTemperedLoss(t1=0.8, t2=1.2)"
    assert "adma" in repr(adma.FlexibleLoss(spec.parse("adma:a=0.3")))
    assert repr(adma.BinaryAdmaLoss(reduction="sum")).startswith("BinaryAdmaLoss(a=0.26")


@pytest.mark.parametrize("name", PAIRS)
def test_a_module_moves_to_another_type(name):
    module = build(name, weight=W).to(torch.float64)
    assert module.weight.dtype == torch.float64
    value = module(Z.double(), Y)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, build(name, weight=W)(Z, Y).double())


@pytest.mark.parametrize("learned", [False, True], ids=["forward alone", "with a gradient"])
@pytest.mark.parametrize(
    "options",
    [{}, {"weight": W}, {"label_smoothing": 0.1}, {"reduction": "none"}, {"reduction": "none", "label_smoothing": 0.1}],
    ids=lambda o: ",".join(o) or "plain",
)
@pytest.mark.parametrize("name", [*PAIRS, "LinearAdmaLoss"])
def test_a_default_device_is_not_where_anything_lies(name, options, learned):
    """After `torch.set_default_device("cuda")` a kernel of the CPU would write to an address of the GPU's."""
    loss_fn = getattr(adma, name)(*((3, 3) if name.startswith("Linear") else ()), **options)
    found = []
    for place in ("cpu", "meta"):
        x = Z.clone().requires_grad_(learned)
        with torch.device(place):
            loss = loss_fn(x, Y)
            if learned:
                loss.sum().backward()
        found.append((loss.detach(), x.grad))
    assert found[1][0].device.type == "cpu"
    assert torch.equal(found[0][0], found[1][0])
    assert not learned or torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("name", [*PAIRS, *BINARY_PAIRS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_type_of_the_result_is_torchs(name, dtype):
    ours = build(name)
    binary = name in BINARY_PAIRS
    theirs = nn.BCEWithLogitsLoss() if binary else nn.CrossEntropyLoss()
    z, y = Z.clone().to(dtype).requires_grad_(), B if binary else Y
    assert ours(z, y).dtype == theirs(z, y.to(dtype) if binary else y).dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(z, y).dtype == theirs(z, y.to(dtype) if binary else y).dtype == torch.float32
        (gradient,) = torch.autograd.grad(ours(z, y), z)
    assert gradient.dtype == dtype


def test_autocast_of_a_network():
    network = nn.Linear(5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.randn(6, 5))
        assert logits.dtype == torch.bfloat16
        loss = adma.AdmaLoss(W)(logits, Y)
    assert loss.dtype == torch.float32
    loss.backward()
    assert network.weight.grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore:size_average and reduce args will be deprecated")
@pytest.mark.parametrize(
    ("size_average", "reduce"), list(itertools.product([None, True, False], [None, True, False]))[1:]
)
def test_the_deprecated_pair(size_average, reduce):
    theirs = nn.CrossEntropyLoss(size_average=size_average, reduce=reduce)
    module = adma.CrossEntropyLoss(None, size_average, -100, reduce)
    assert module.reduction == theirs.reduction
    torch.testing.assert_close(module(Z, Y), theirs(Z, Y))
    value = functional.cross_entropy(Z, Y, None, size_average, -100, reduce)
    torch.testing.assert_close(value, theirs(Z, Y))
    binary = functional.binary_cross_entropy(Z, B, None, size_average, reduce)
    torch.testing.assert_close(binary, F.binary_cross_entropy_with_logits(Z, B, None, size_average, reduce))


@pytest.mark.parametrize(
    ("name", "key", "good", "bad"),
    [
        ("AdmaLoss", "a", 0.1, 0.0),
        ("AdmaLoss", "base", 3.0, 1.0),
        ("AdmaLoss", "normalize", True, "yes"),
        ("BinaryAdmaLoss", "a", 0.1, -1.0),
        ("GeneralizedCrossEntropyLoss", "q", 0.2, 2.0),
        ("FocalLoss", "gamma", 0.5, -1.0),
        ("BinaryFocalLoss", "gamma", 0.5, -1.0),
        ("Poly1Loss", "epsilon", -0.5, -3.0),
        ("TaylorCrossEntropyLoss", "order", 4, 0),
        ("TaylorCrossEntropyLoss", "order", 4, 2.5),
        ("BinaryTaylorCrossEntropyLoss", "order", 4, 1001),
        ("AsymmetricGeneralizedCrossEntropyLoss", "a", 0.2, 0.0),
        ("AsymmetricGeneralizedCrossEntropyLoss", "q", 0.2, -1.0),
        ("AsymmetricUnhingedLoss", "a", 3.0, 1.0),
        ("AsymmetricUnhingedLoss", "q", 3.0, 0.0),
        ("AsymmetricExponentialLoss", "a", 3.0, 0.0),
        ("SmoothedCrossEntropyLoss", "epsilon", 0.3, 1.5),
        ("SymmetricCrossEntropyLoss", "alpha", 6.0, -1.0),
        ("SymmetricCrossEntropyLoss", "beta", 0.1, -1.0),
        ("ActivePassiveLoss", "clip", -9.0, 1.0),
        ("BiTemperedLoss", "t1", 0.2, 1.2),
        ("BiTemperedLoss", "t2", 2.0, 0.0),
    ],
)
def test_a_shape_is_set_and_checked(name, key, good, bad):
    module = getattr(adma, name)()
    before = call(module)
    setattr(module, key, good)
    assert getattr(module, key) == good
    assert f"{key}={good}" in repr(module)
    assert not torch.equal(call(module), before)
    assert torch.equal(call(module), call(getattr(adma, name)(**{key: good})))
    value = call(module)
    with pytest.raises((ValueError, TypeError), match=key):
        setattr(module, key, bad)
    assert getattr(module, key) == good
    assert torch.equal(call(module), value)


def test_a_shape_past_the_convex_range_warns():
    module = adma.AdmaLoss()
    with pytest.warns(UserWarning, match="convex"):
        module.a = 0.9
    assert module.a == 0.9


@pytest.mark.parametrize("name", [name for name in spec.known() if name != "l_softmax"])  # it has a layer
def test_make_loss_of_every_known_spec(name):
    module = adma.make_loss(name, weight=W, label_smoothing=0.1, reduction="sum", ignore_index=2)
    assert isinstance(module, nn.Module)
    assert module.member == spec.parse(name)
    assert (module.label_smoothing, module.reduction, module.ignore_index) == (0.1, "sum", 2)
    assert torch.equal(module.weight, W)
    assert torch.equal(adma.make_loss(spec.parse(name))(Z, Y), adma.make_loss(name)(Z, Y))
    if isinstance(spec.parse(name), Member):
        binary = adma.make_loss(name, binary=True, pos_weight=W)
        assert binary(Z, B).isfinite()
        assert torch.equal(binary.pos_weight, W)
        assert spec.parse(module.spec) == module.member
    else:
        with pytest.raises(ValueError, match="no binary form"):
            adma.make_loss(name, binary=True)


def test_make_loss_reads_the_shape():
    module = adma.make_loss("adma:a=0.3,base=2,normalize=true")
    assert (type(module), module.a, module.base, module.normalize) == (adma.AdmaLoss, 0.3, 2.0, True)
    assert module.spec == "adma:a=0.3,base=2.0,normalize=true"
    assert adma.make_loss("bi_tempered:t2=2").t2 == 2.0
    with pytest.raises(TypeError, match="smoothing"):
        adma.make_loss("adma", smoothing=0.1)


@dataclass(frozen=True)
class Damped(Member):
    rate: float = 0.5
    name: ClassVar[str] = "damped_in_a_test"

    def psi(self, t, xp=numpy):
        return xp.log1p(self.rate * t) / self.rate

    def slope(self, t, xp=numpy):
        return 1.0 / (1.0 + self.rate * t)


@pytest.fixture
def damped(monkeypatch):
    """`Damped` is registered, for this test alone."""
    monkeypatch.setattr(spec, "_REGISTRY", dict(spec._REGISTRY))
    adma.register(Damped)


@pytest.mark.usefixtures("damped")
def test_a_member_of_ones_own():
    module = adma.make_loss("damped_in_a_test:rate=0.3", weight=W, label_smoothing=0.1)
    assert isinstance(module, adma.FlexibleLoss)
    assert module.spec == "damped_in_a_test:rate=0.3"
    module = adma.make_loss("damped_in_a_test:rate=0.3", reduction="none")
    expected = torch.log1p(0.3 * F.cross_entropy(Z, Y, reduction="none")) / 0.3
    torch.testing.assert_close(module(Z, Y), expected)
    z, x = (Z.clone().requires_grad_() for _ in range(2))
    module(z, Y).sum().backward()
    (torch.log1p(0.3 * F.cross_entropy(x, Y, reduction="none")) / 0.3).sum().backward()
    torch.testing.assert_close(z.grad, x.grad)
    assert module.posterior(Z).shape == Z.shape
    assert repr(module) == "FlexibleLoss(damped_in_a_test, rate=0.3, reduction='none')"
    binary = adma.make_loss("damped_in_a_test:rate=0.3", binary=True)
    expected = torch.log1p(0.3 * F.binary_cross_entropy_with_logits(Z, B, reduction="none")) / 0.3
    torch.testing.assert_close(binary(Z, B), expected.mean())
    assert torch.equal(pickle.loads(pickle.dumps(module))(Z, Y), module(Z, Y))


@pytest.mark.usefixtures("damped")
def test_a_member_of_ones_own_compiles():
    module = adma.make_loss("damped_in_a_test:rate=0.3")
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    z, x = (Z.clone().requires_grad_() for _ in range(2))
    value, expected = compiled(z, Y), module(x, Y)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, z), torch.autograd.grad(expected, x))
