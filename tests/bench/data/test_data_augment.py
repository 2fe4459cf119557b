"""Augmentation: specs, draws that belong to samples, and geometry to the pixel."""

from __future__ import annotations

import math

import pytest
import torch

from adma.bench.data.augment import NUM_DRAWS, Augment, parse
from adma.bench.errors import BenchError


def pictures(b=4, c=3, h=9, w=9, dtype=torch.float32):
    return torch.rand(b, c, h, w, generator=torch.Generator().manual_seed(0)).to(dtype)


def draws(b, rotate=0.0, right=0.0, down=0.0, flip=0.0):
    return torch.tensor([[rotate, right, down, flip]]).expand(b, -1)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("none", None),
        (" none ", None),
        ("rotate=30", Augment(rotate=30)),
        ("rotate=180", Augment(rotate=180)),
        ("shift=0.2,flip", Augment(shift=0.2, flip=True)),
        (" flip , rotate = 1e1 ", Augment(rotate=10, flip=True)),
        ("paper_mnist", Augment(rotate=30, shift=0.2)),
        ("paper_cifar100", Augment(rotate=15, shift=0.1, flip=True)),
    ],
)
def test_specs(spec, expected):
    got = parse(spec)
    assert got == expected
    if got is not None:
        assert parse(got.spec) == got


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("rotat=30", ["'rotat' is not known", "did you mean 'rotate'"]),
        ("paper_minst", ["did you mean 'paper_mnist'"]),
        ("", ["expected 'none'"]),
        ("flip,", ["'' is not known"]),
        ("rotate", ["(0, 180]"]),
        ("rotate=", ["(0, 180]"]),
        ("rotate=0", ["(0, 180]"]),
        ("rotate=181", ["'rotate=181'", "(0, 180]"]),
        ("rotate=-5", ["(0, 180]"]),
        ("rotate=nan", ["(0, 180]"]),
        ("rotate=ten", ["(0, 180]"]),
        ("shift=1", ["(0, 1)"]),
        ("shift=inf", ["(0, 1)"]),
        ("shift=0", ["(0, 1)"]),
        ("flip=1", ["flip takes no value"]),
        ("flip,flip", ["flip is given twice"]),
        ("rotate=10,rotate=20", ["rotate is given twice"]),
        ("none,flip", ["'none' stands alone"]),
        ("paper_mnist,flip", ["'paper_mnist' stands alone"]),
    ],
)
def test_specs_that_are_refused(spec, words):
    with pytest.raises(BenchError) as caught:
        parse(spec)
    for word in ["--augment", *words]:
        assert word in str(caught.value)


ALL = Augment(rotate=30, shift=0.2, flip=True)


@pytest.mark.parametrize(("h", "w"), [(9, 9), (8, 8), (6, 11), (1, 5), (28, 28)])
def test_zero_draws_change_nothing(h, w):
    x = pictures(h=h, w=w)
    torch.testing.assert_close(ALL(x, draws(4)), x, atol=2e-5, rtol=0)


def test_flip_alone_is_exact():
    x = pictures()
    coins = torch.tensor([[0, 0, 0, d] for d in (0.9, -0.9, 0.0, 0.1)])
    got = Augment(flip=True)(x, coins)
    assert torch.equal(got[0], x[0].flip(-1))
    assert torch.equal(got[1:3], x[1:3])
    assert torch.equal(got[3], x[3].flip(-1))


@pytest.mark.parametrize(("right", "down"), [(2, 0), (-2, 0), (0, 3), (1, -2)])
def test_shift_by_whole_pixels_repeats_the_edge(right, down):
    x = pictures(h=10, w=8)
    got = Augment(shift=0.5)(x, draws(4, right=right / 4, down=down / 5))  # 0.5 * 8 = 4 pixels at most, and 5
    rows = (torch.arange(10) - down).clamp(0, 9)
    columns = (torch.arange(8) - right).clamp(0, 7)
    torch.testing.assert_close(got, x[:, :, rows][..., columns], atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("quarters", [-1, 1, 2])
def test_quarter_turns(size, quarters):
    x = pictures(h=size, w=size)
    got = Augment(rotate=180)(x, draws(4, rotate=quarters / 2))
    torch.testing.assert_close(got, torch.rot90(x, quarters, dims=(2, 3)), atol=5e-5, rtol=0)


def test_an_angle_is_an_angle_in_a_picture_that_is_not_square():
    h, w = 41, 81
    x = torch.zeros(1, 1, h, w)
    x[0, 0, 20, 55] = 1.0  # 15 pixels right of the centre
    angle = 40.0
    got = Augment(rotate=angle)(x, draws(1, rotate=1.0))[0, 0]
    mass = got.sum()
    row = (got.sum(1) * torch.arange(h)).sum() / mass
    column = (got.sum(0) * torch.arange(w)).sum() / mass
    assert row.item() == pytest.approx(20 - 15 * math.sin(math.radians(angle)), abs=0.2)
    assert column.item() == pytest.approx(40 + 15 * math.cos(math.radians(angle)), abs=0.2)


def test_flip_comes_first_then_rotation_then_shift():
    x = pictures(h=8, w=8)
    one = Augment(rotate=180, shift=0.5, flip=True)(x, draws(4, rotate=0.5, right=0.5, flip=1.0))
    two = Augment(shift=0.5)(torch.rot90(x.flip(-1), 1, dims=(2, 3)), draws(4, right=0.5))
    torch.testing.assert_close(one, two, atol=5e-5, rtol=0)


def test_draws_depend_on_seed_and_index_alone():
    first = ALL.draws(1000, seed=5)
    assert first.shape == (1000, NUM_DRAWS)
    assert first.device.type == "cpu"
    assert torch.equal(first, Augment(flip=True).draws(1000, seed=5))
    assert not torch.equal(first, ALL.draws(1000, seed=6))
    assert -1 <= first.min() < -0.99
    assert 0.99 < first.max() < 1
    assert first.mean(0).abs().max() < 0.1
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    ALL.draws(10, seed=2**56 - 1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_sample_is_changed_alike_in_any_batch():
    x, d = pictures(b=20), ALL.draws(20, seed=3)
    whole = ALL(x, d)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    for batch in order.split(7):
        torch.testing.assert_close(ALL(x[batch], d[batch]), whole[batch], atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_dtype_and_input_are_kept(dtype):
    x = pictures(dtype=dtype)
    before = x.clone()
    got = ALL(x, ALL.draws(4, seed=0))
    assert got.dtype == dtype
    assert got.shape == x.shape
    assert torch.equal(x, before)
    assert not torch.equal(got, x)


def test_misuse():
    with pytest.raises(BenchError, match=r"--augment .*flip.*no images"):
        ALL(torch.zeros(4, 5), draws(4))
    with pytest.raises(ValueError, match="floating point"):
        ALL(torch.zeros(4, 1, 5, 5, dtype=torch.uint8), draws(4))
    with pytest.raises(ValueError, match="draws must have shape"):
        ALL(torch.zeros(4, 1, 5, 5), draws(3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_agrees_with_cpu():
    x, d = pictures(b=8, h=28, w=32), ALL.draws(8, seed=1)
    torch.testing.assert_close(ALL(x.cuda(), d).cpu(), ALL(x, d), atol=1e-4, rtol=0)
