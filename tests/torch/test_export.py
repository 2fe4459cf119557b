"""A network with posteriors at its end leaves Python: torch.export, ONNX, TorchScript; and a whole step is compiled."""

import io

import pytest
import torch
from torch import nn

import adma
import exact

WEIGHT = torch.tensor([1.0, 2.0, 0.5, 1.5])
MAPPED = [*(m for m in exact.EACH if not m.no_posterior), "sce:alpha=6,beta=0.1"]
# what saturates a softmax, or masks a class
HOSTILE = torch.tensor(
    [[1e3, 0.0, 0.0, -1e3], [3e38, -3e38, 0.0, 0.0], [0.0, 0.0, float("-inf"), 1.0], [40.0, 0.0, -40.0, 88.0]]
)


class EachPosterior(nn.Module):
    """The posteriors of every loss that has them, from the same logits."""

    def __init__(self, *more):
        super().__init__()
        losses = [*MAPPED, *more, adma.AdmaLoss(WEIGHT)]
        self.heads = nn.ModuleList(adma.posterior_head(nn.Identity(), loss) for loss in losses)
        self.eval()

    def forward(self, z):
        return torch.stack([head(z) for head in self.heads])


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()


def head():
    return adma.posterior_head(network(), adma.AdmaLoss(WEIGHT, a=0.3))


def images(number):
    return torch.randn(number, 1, 6, 5, generator=torch.Generator().manual_seed(number))


@pytest.mark.parametrize("strict", [False, True])
def test_torch_export(strict):
    model, shapes = head(), (({0: torch.export.Dim("batch")},),)
    program = torch.export.export(model, (images(3),), dynamic_shapes=shapes, strict=strict)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for number in (2, 7):
        torch.testing.assert_close(loaded(images(number)), model(images(number)))


def test_every_posterior_is_exported():
    model, z = EachPosterior("bi_tempered"), torch.cat([HOSTILE, torch.randn(3, 4)])
    exported = torch.export.export(model, (torch.randn(7, 4),)).module()
    assert not model(z).isnan().any()
    torch.testing.assert_close(exported(z), model(z))


def onnx_session(model, example, path):
    """The model by onnxruntime: from an array to an array."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: ONNX WAS NOT TRIED")
    import onnxruntime

    shapes = {"z": {0: "batch"}} if isinstance(model, EachPosterior) else (({0: "batch"},),)
    torch.onnx.export(model, (example,), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (name,) = (given.name for given in session.get_inputs())
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_every_posterior_by_onnxruntime(tmp_path):
    model = EachPosterior()  # without bi_tempered: an exporter takes a minute for its 26 steps
    run = onnx_session(model, torch.randn(5, 4), tmp_path / "posteriors.onnx")
    for z in (HOSTILE, 4 * torch.randn(9, 4, generator=torch.Generator().manual_seed(1))):
        torch.testing.assert_close(run(z), model(z), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("binary", [False, True])
def test_a_network_by_onnxruntime(tmp_path, binary):
    model = adma.posterior_head(network(), "adma:a=0.3", binary=True) if binary else head()
    run = onnx_session(model, images(3), tmp_path / "network.onnx")
    for number in (1, 8):
        torch.testing.assert_close(run(images(number)), model(images(number)), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_torchscript(tmp_path):
    model = head()
    traced = torch.jit.trace(model, (images(3),))
    torch.jit.save(traced, tmp_path / "traced.pt")
    scripted = adma.posterior_head(
        torch.jit.script(model.model), model.loss_fn
    )  # a scripted network has a head as well
    for run in (torch.jit.load(tmp_path / "traced.pt"), torch.jit.freeze(traced), scripted):
        for number in (2, 7):
            torch.testing.assert_close(run(images(number)), model(images(number)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_every_posterior_is_traced():
    model = EachPosterior("bi_tempered")
    traced = torch.jit.trace(model, (torch.randn(3, 4),))
    for z in (HOSTILE, torch.randn(9, 4)):
        torch.testing.assert_close(traced(z), model(z))


@pytest.mark.slow
def test_a_compiled_head():
    torch._dynamo.reset()
    model = head()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images(3)), model(images(3)))


def trained(step):
    """Weights after three steps of training, the first two classes alone to be seen."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4))
    loss_fn = adma.AdmaLoss(WEIGHT, a=0.3, label_smoothing=0.1)
    run = step(model, loss_fn)
    for _ in range(3):
        run(torch.randn(6, 5), torch.randint(2, (6,)))
    return nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.slow
def test_a_whole_step_is_one_graph():
    """Forward, loss, backward and update, with gradients by torch.func, which a graph can hold."""
    torch._dynamo.reset()

    def plain(model, loss_fn):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

        def step(x, y):
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()

        return step

    def whole(model, loss_fn):
        def cost(weights, x, y):
            return loss_fn(torch.func.functional_call(model, weights, (x,)), y)

        @torch.compile(fullgraph=True, backend="aot_eager")
        def update(weights, x, y):
            gradients = torch.func.grad(cost)(weights, x, y)
            return {name: weights[name] - 0.5 * gradients[name] for name in weights}

        def step(x, y):
            model.load_state_dict(update(dict(model.state_dict()), x, y))

        return step

    def with_autograd(model, loss_fn):
        return torch.compile(plain(model, loss_fn), backend="aot_eager")  # .backward() divides the graph

    expected = trained(plain)
    torch.testing.assert_close(trained(whole), expected)
    torch.testing.assert_close(trained(with_autograd), expected)
