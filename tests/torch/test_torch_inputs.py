"""Cross-entropy against torch's own, on the inputs that torch tests its own with."""

import warnings

import pytest
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db
from torch.testing._internal.common_utils import set_rng_seed

import adma
from adma import functional

DTYPES = [torch.float32, torch.float64]
MODULES = {torch.nn.CrossEntropyLoss: adma.CrossEntropyLoss, torch.nn.BCEWithLogitsLoss: adma.BinaryCrossEntropyLoss}
FUNCTIONS = {
    "nn.functional.cross_entropy": (torch.nn.functional.cross_entropy, functional.cross_entropy),
    "nn.functional.binary_cross_entropy_with_logits": (
        torch.nn.functional.binary_cross_entropy_with_logits,
        functional.binary_cross_entropy,
    ),
}


def agree(theirs, ours, input, rest):
    """Values and gradients of two losses; where torch's mean over nothing is NaN, ours is 0."""
    results = []
    for loss in (theirs, ours):
        x = input.detach().clone().requires_grad_()
        soft = [r.detach().clone().requires_grad_() if _wants(r) else r for r in rest]
        value = loss(x, *soft)
        leaves = [x, *(s for s in soft if _wants(s))]
        results.append((value, torch.autograd.grad(value, leaves, torch.ones_like(value))))
    (true, true_gradients), (value, gradients) = results
    assert value.dtype == true.dtype
    assert value.shape == true.shape
    if true.dim() == 0 and true.isnan():
        assert value == 0
        assert not gradients[0].any()
        return
    torch.testing.assert_close(value, true)
    for gradient, true_gradient in zip(gradients, true_gradients, strict=True):
        torch.testing.assert_close(gradient, true_gradient)


def _wants(x):
    return isinstance(x, torch.Tensor) and x.requires_grad


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("theirs", MODULES)
def test_modules_agree_on_torchs_inputs(theirs, dtype):
    (info,) = (i for i in module_db if i.module_cls is theirs)
    set_rng_seed(0)
    inputs = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=True)
    assert len(inputs) > 5
    for each in inputs:
        made = each.constructor_input
        modules = [cls(*made.args, **made.kwargs) for cls in (theirs, MODULES[theirs])]
        x, *rest = each.forward_input.args
        agree(*modules, x, rest)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree_on_torchs_inputs(name, dtype):
    (info,) = (o for o in op_db if o.name == name)
    theirs, ours = FUNCTIONS[name]
    set_rng_seed(0)
    count = 0
    for sample in info.sample_inputs("cpu", dtype, requires_grad=True):
        options = sample.kwargs
        agree(lambda *a, o=options: theirs(*a, **o), lambda *a, o=options: ours(*a, **o), sample.input, sample.args)
        count += 1
    assert count > 10


@pytest.mark.parametrize("theirs", MODULES)
def test_what_torch_refuses_in_its_own_tests_is_refused(theirs):
    (info,) = (i for i in module_db if i.module_cls is theirs)
    if info.module_error_inputs_func is None:
        return
    errors = info.module_error_inputs_func(info, device="cpu", dtype=torch.float32, requires_grad=False, training=True)
    assert errors
    for error in errors:
        made = error.module_error_input.constructor_input
        call = error.module_error_input.forward_input
        for cls in (theirs, MODULES[theirs]):
            with pytest.raises(Exception):  # noqa: B017  (torch's own kinds differ)
                cls(*made.args, **made.kwargs)(*call.args)


X = torch.zeros(4, 3)
BAD_CALLS = [
    (X, torch.tensor([0, 1, 2]), {}),
    (X, torch.tensor([0, 1, 2, 3]), {}),
    (X, torch.tensor([0, 1, -1, 2]), {}),
    (X, torch.tensor([0.0, 1.0, 2.0, 0.0]), {}),
    (X, torch.tensor([0, 1, 2, 0]).int(), {}),
    (X, torch.tensor([0, 1, 2, 0]).bool(), {}),
    (X, torch.zeros(4, 3, dtype=torch.long), {}),
    (X, torch.zeros(4, 1, dtype=torch.long), {}),
    (X, torch.zeros(4, 2), {}),
    (X, torch.zeros(3, 4), {}),
    (X, torch.tensor(0), {}),
    (X.long(), torch.tensor([0, 1, 2, 0]), {}),
    (torch.tensor(1.0), torch.tensor(0), {}),
    (torch.zeros(3), torch.tensor([0, 1]), {}),
    (X, torch.tensor([0, 1, 2, 0]), {"weight": torch.ones(4)}),
    (X, torch.tensor([0, 1, 2, 0]), {"weight": torch.ones(1)}),
    (X, torch.tensor([0, 1, 2, 0]), {"weight": torch.ones(3).double()}),
    (X, torch.tensor([0, 1, 2, 0]), {"weight": [1.0, 1.0, 1.0]}),
    (X, torch.tensor([0, 1, 2, 0]), {"reduction": "average"}),
    (X, torch.tensor([0, 1, 2, 0]), {"label_smoothing": 1.5}),
    (X, torch.softmax(X, 1), {"ignore_index": 1}),
    (X, torch.softmax(X, 1), {"weight": torch.ones(4)}),
    (torch.zeros(4, 3, 2), torch.zeros(4, 3, dtype=torch.long), {}),
    (torch.zeros(4, 3, 2), torch.zeros(4, dtype=torch.long), {}),
]


@pytest.mark.parametrize(("x", "y", "options"), BAD_CALLS)
def test_what_torch_refuses_is_refused(x, y, options):
    for loss in (torch.nn.functional.cross_entropy, functional.cross_entropy):
        with pytest.raises((TypeError, ValueError, IndexError, RuntimeError)):
            loss(x, y, **options)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_combination_of_options_agrees(smoothing, dtype):
    g = torch.Generator().manual_seed(2)
    for shape in [(3,), (5, 3), (5, 3, 2), (4, 3, 2, 2), (2, 3, 1, 2, 3), (5, 1), (0, 3), (3, 3, 0)]:
        x = torch.randn(shape, generator=g, dtype=dtype)
        rest = shape[:-1] if len(shape) == 1 else shape[:1] + shape[2:]
        classes = shape[0] if len(shape) == 1 else shape[1]
        index = torch.randint(classes, rest, generator=g)
        holed = index.clone()
        holed.view(-1)[::2] = -100
        soft = torch.softmax(torch.randn(shape, generator=g, dtype=dtype), min(1, len(shape) - 1))
        for y in (index, holed, soft.requires_grad_()):
            for weight in (
                None,
                torch.rand(classes, generator=g, dtype=dtype) + 0.1,
                torch.zeros(classes, dtype=dtype),
            ):
                for reduction in ("none", "mean", "sum"):
                    options = {"weight": weight, "reduction": reduction, "label_smoothing": smoothing}
                    agree(
                        lambda *a, o=options: torch.nn.functional.cross_entropy(*a, **o),
                        lambda *a, o=options: functional.cross_entropy(*a, **o),
                        x,
                        [y],
                    )


@pytest.mark.parametrize("size_average", [None, True, False])
@pytest.mark.parametrize("reduce", [None, True, False])
def test_the_deprecated_pair_means_what_it_meant(size_average, reduce):
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args = (None, size_average, -100, reduce)
        true = torch.nn.functional.cross_entropy(x, y, *args)
        torch.testing.assert_close(functional.cross_entropy(x, y, *args), true)
        torch.testing.assert_close(adma.CrossEntropyLoss(*args)(x, y), true)
        labels = (x > 0).float()
        true = torch.nn.BCEWithLogitsLoss(None, size_average, reduce)(x, labels)
        torch.testing.assert_close(adma.BinaryCrossEntropyLoss(None, size_average, reduce)(x, labels), true)


OF_MORE_THAN_LOGITS_AND_TARGETS = {"LargeMarginSoftmaxLoss", "SemanticLoss"}  # their own tests say it of them
WITHOUT_LAYER = [
    name
    for name in adma.__all__
    if name.endswith("Loss") and "Flexible" not in name and not name.startswith("Linear")
    if name not in OF_MORE_THAN_LOGITS_AND_TARGETS
]


@pytest.mark.parametrize("loss", WITHOUT_LAYER)
def test_a_mean_over_nothing_is_zero_with_zero_gradients(loss):
    """The documented difference from torch, whose mean is NaN."""
    loss_fn = getattr(adma, loss)()
    if loss.startswith("Binary"):
        calls = [(torch.zeros(0, 3), torch.zeros(0, 3))]
    else:
        calls = [
            (torch.randn(2, 3), torch.tensor([-100, -100])),
            (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)),
            (torch.zeros(0, 3), torch.zeros(0, 3)),
            (torch.zeros(2, 3, 0), torch.zeros(2, 0, dtype=torch.long)),
        ]
    for x, y in calls:
        x.requires_grad_()
        value = loss_fn(x, y)
        (gradient,) = torch.autograd.grad(value, x)
        assert value.item() == 0
        assert gradient.shape == x.shape
        assert not gradient.any()


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_an_index_in_a_list_of_one_is_taken_for_unbatched_logits(reduction):
    logits, target = torch.randn(4, dtype=torch.float64), torch.tensor([2])
    expected = torch.nn.functional.cross_entropy(logits, target, reduction=reduction)
    torch.testing.assert_close(functional.cross_entropy(logits, target, reduction=reduction), expected)
