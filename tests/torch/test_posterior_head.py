"""A trained network made one of probabilities: values, what is refused and why, modes, saved weights."""

import io
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import adma
import exact
from adma import family, functional, spec

LOSSES = [*(m for m in exact.EACH if not m.no_posterior), *exact.CLASSICS_MAPPED]


def network(*last):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), *(last or (nn.Linear(8, 3),)))


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_it_is_the_losses_posterior_of_the_networks_logits(loss):
    model, x = network(), torch.randn(5, 4)
    head = adma.posterior_head(model, loss)
    assert torch.equal(head(x), adma.make_loss(loss).posterior(model(x)))
    torch.testing.assert_close(head(x).sum(1), torch.ones(5))


def test_a_spec_a_member_and_a_module_are_the_same():
    model, x = network(), torch.randn(5, 4)
    expected = functional.posterior(family.Adma(a=0.3), model(x))
    for loss in ("adma:a=0.3", family.Adma(a=0.3), adma.AdmaLoss(a=0.3), adma.GlobalMean(adma.AdmaLoss(a=0.3))):
        assert torch.equal(adma.posterior_head(model, loss)(x), expected)


def test_class_weights_are_those_of_the_module():
    weight, x = torch.tensor([1.0, 2.0, 0.5]), torch.randn(5, 4)
    model = network()
    found = adma.posterior_head(model, adma.AdmaLoss(weight, a=0.3))(x)
    torch.testing.assert_close(found, functional.posterior(family.Adma(a=0.3), model(x), weight=weight))
    assert not torch.allclose(found, adma.posterior_head(model, "adma:a=0.3")(x), atol=0.05)


def test_images_of_classes():
    x = torch.randn(2, 1, 4, 4)
    model = nn.Conv2d(1, 3, 3)
    p = adma.posterior_head(model, "focal")(x)
    assert p.shape == (2, 3, 2, 2)
    torch.testing.assert_close(p.sum(1), torch.ones(2, 2, 2))
    torch.testing.assert_close(p[1, :, 0, 1], adma.FocalLoss().posterior(model(x)[1, :, 0, 1]))


def test_one_logit_a_label():
    model, x = network(nn.Linear(8, 2)), torch.randn(5, 4)
    expected = functional.binary_posterior(family.Adma(a=0.3), model(x))
    assert torch.equal(adma.posterior_head(model, "adma:a=0.3", binary=True)(x), expected)
    pos_weight = torch.tensor([1.0, 3.0])
    found = adma.posterior_head(model, adma.BinaryAdmaLoss(pos_weight=pos_weight, a=0.3))(x)
    assert torch.equal(found[:, 0], expected[:, 0])
    odds = expected[:, 1] / (1 - expected[:, 1]) / 3
    torch.testing.assert_close(found[:, 1], odds / (1 + odds))


def test_a_loss_with_the_last_layer_in_it():
    model, loss_fn = network(nn.Linear(8, 6)), adma.LinearAdmaLoss(6, 3, a=0.3)
    x = torch.randn(5, 4)
    head = adma.posterior_head(model, loss_fn)
    assert torch.equal(head(x), functional.posterior(family.Adma(a=0.3), loss_fn.logits(model(x))))
    assert "loss_fn.linear.weight" in head.state_dict()


def test_a_model_whose_output_holds_logits():
    class Wrapped(nn.Module):
        def __init__(self, give):
            super().__init__()
            self.inner, self.give = network(), give

        def forward(self, *, features):
            return self.give(self.inner(features))

    x = torch.randn(5, 4)
    model = Wrapped(lambda z: SimpleNamespace(logits=z, loss=None))
    torch.testing.assert_close(adma.posterior_head(model, "cce")(features=x), model.inner(x).softmax(1))
    with pytest.raises(TypeError, match=r"must give a tensor of logits.* got tuple"):
        adma.posterior_head(Wrapped(lambda z: (z, None)), "cce")(features=x)


def test_modes_are_the_networks():
    model = network(nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model[3].eval()  # frozen, while the rest trains
    head = adma.posterior_head(model, "adma")
    assert head.training
    assert model[2].training
    assert not model[3].training
    head.eval()
    assert not any(module.training for module in model.modules())
    assert not adma.posterior_head(model, "adma").training
    x = torch.randn(5, 4)
    assert torch.equal(head(x), head(x))


def test_weights_are_saved_and_loaded():
    weight, x = torch.tensor([1.0, 2.0, 0.5]), torch.randn(5, 4)
    model = network()
    head = adma.posterior_head(model, adma.AdmaLoss(weight))
    assert set(head.state_dict()) == {*(f"model.{key}" for key in model.state_dict()), "loss_fn.weight"}
    torch.manual_seed(1)
    other = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    twin = adma.posterior_head(other, adma.AdmaLoss(torch.ones(3)))
    twin.load_state_dict(head.state_dict())
    assert torch.equal(twin(x), head(x))
    assert list(adma.posterior_head(model, "adma").parameters()) == list(model.parameters())  # shared, not copied
    file = io.BytesIO()
    torch.save(head, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), head(x))
    assert head.double()(x.double()).dtype == torch.float64


@pytest.mark.filterwarnings("ignore:Adma with a")
@pytest.mark.parametrize("loss", ["mae", "adma:a=0.8", "squared_hinge", "taylor:order=5", "nce_rce", "l_softmax"])
def test_refused_for_the_losses_own_reason(loss):
    reason = spec.parse(loss).no_posterior
    assert reason
    with pytest.raises(ValueError) as refused:
        adma.posterior_head(network(), loss)
    assert str(refused.value) == f"no posteriors: {reason}"


@pytest.mark.parametrize(
    "loss",
    [
        adma.AdmaLoss(torch.tensor([1.0, 0.0, 1.0])),
        adma.MeanSquaredErrorLoss(torch.tensor([1.0, 0.0, 1.0])),
        adma.SymmetricCrossEntropyLoss(torch.tensor([1.0, 0.0, 1.0])),
        adma.BinaryAdmaLoss(pos_weight=torch.tensor([1.0, 0.0, 1.0])),
        adma.LinearAdmaLoss(3, 3, weight=torch.tensor([1.0, 0.0, 1.0])),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_a_class_without_weight_is_refused_at_once(loss):
    assert "weight 0" in loss.no_posterior
    with pytest.raises(ValueError, match="weight 0 leaves no trace"):
        adma.posterior_head(network(), loss)
    with pytest.raises(ValueError, match="weight 0 leaves no trace"):
        loss.posterior(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: adma.posterior_head("model", "adma"), TypeError, "model must be a torch.nn.Module, got str"),
        (lambda: adma.posterior_head(network(), nn.CrossEntropyLoss()), TypeError, "got CrossEntropyLoss; .* 'cce'"),
        (lambda: adma.posterior_head(network(), 0.26), TypeError, "loss must be a spec .* got float"),
        (lambda: adma.posterior_head(network(), "amda"), ValueError, "'amda' is not known.*adma"),
        (lambda: adma.posterior_head(network(), adma.AdmaLoss(), binary=True), ValueError, "binary=True belongs to"),
        (lambda: adma.posterior_head(network(), "mse", binary=True), ValueError, "mse has no binary form"),
    ],
)
def test_what_is_wrong_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
