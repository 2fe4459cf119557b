"""Augmentation: specs, draws that belong to samples, and geometry to the pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from adma.bench.data.augment import NUM_DRAWS, PRESETS, Augment, parse
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
        ("warp=0.1", Augment(warp=0.1)),
        ("paper_cifar10", Augment(flip=True, warp=0.1, shift=0.2)),
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
        ("warp=0", ["(0, 0.25)"]),
        ("warp=0.25", ["'warp=0.25'", "(0, 0.25)"]),
        ("warp", ["(0, 0.25)"]),
        ("wrap=0.1", ["did you mean 'warp'"]),
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
EVERYTHING = Augment(rotate=30, shift=0.2, flip=True, warp=0.15)


@pytest.mark.parametrize(("h", "w"), [(9, 9), (8, 8), (6, 11), (1, 5), (28, 28)])
def test_zero_draws_change_nothing(h, w):
    x = pictures(h=h, w=w)
    torch.testing.assert_close(ALL(x, draws(4)), x, atol=2e-5, rtol=0)
    torch.testing.assert_close(EVERYTHING(x, torch.zeros(4, 12)), x, atol=5e-5, rtol=0)


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


# -- perspective --------------------------------------------------------------------------------------------


def homography(source, target) -> np.ndarray:
    """The 3 x 3 matrix that takes four points to four others, by solving for it."""
    rows, right = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    return np.append(np.linalg.solve(np.array(rows, dtype=float), np.array(right, dtype=float)), 1).reshape(3, 3)


def corners(h, w) -> np.ndarray:
    return np.array([[0, 0], [w, 0], [w, h], [0, h]], dtype=float)  # of the picture, not of its outer pixels' centres


EXTREME = [[1, 1, -1, 1, -1, -1, 1, -1], [-1, -1, 1, -1, 1, 1, -1, 1], [1, 1, -1, -1, -1, -1, -1, 1]]


@pytest.mark.parametrize(("h", "w"), [(32, 32), (20, 44)])
@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.249])
def test_a_warp_is_pillows_perspective_of_the_moved_corners(h, w, fraction):
    rng = np.random.default_rng(0)
    smooth = np.array(Image.fromarray(rng.random((6, 6)).astype(np.float32)).resize((w, h), Image.Resampling.BICUBIC))
    vary = Augment(warp=fraction)
    d = vary.draws(20, seed=3)
    d[:3, 4:] = torch.tensor(EXTREME)
    got = vary(torch.tensor(smooth)[None, None].expand(20, -1, -1, -1), d)[:, 0].numpy()
    compared = 0
    for n in range(20):
        moved = corners(h, w) + d[n, 4:].reshape(4, 2).double().numpy() * fraction * [w, h]
        back = homography(moved, corners(h, w))
        expected = np.array(
            Image.fromarray(smooth).transform(
                (w, h), Image.Transform.PERSPECTIVE, tuple(back.ravel()[:8]), Image.Resampling.BILINEAR
            )
        )
        rows, columns = np.mgrid[:h, :w] + 0.5
        u, v, weight = back @ np.stack([columns.ravel(), rows.ravel(), np.ones(h * w)])
        inside = (weight > 0) & (np.abs(u / weight - w / 2) < w / 2 - 1) & (np.abs(v / weight - h / 2) < h / 2 - 1)
        inside = inside.reshape(h, w)  # outside Pillow is black, where here the edge is repeated
        np.testing.assert_allclose(got[n][inside], expected[inside], atol=1e-5)
        compared += inside.sum()
    assert compared > 20 * h * w / 3


@pytest.mark.parametrize("corner", range(4))
def test_one_corner_moves_alone(corner):
    """Right and down by a tenth: what was in that corner is now there, the other corners stay."""
    h, w = 40, 60
    x = torch.zeros(1, 3, h, w)
    x[0, 0, :8, :8] = x[0, 1, -8:, :8] = x[0, 2, :8, -8:] = 1
    x[0, :, -8:, -8:] = 1
    moves = torch.zeros(1, 12)
    moves[0, 4 + 2 * corner : 6 + 2 * corner] = 1
    got = Augment(warp=0.1)(x, moves)
    for n, (column, row) in enumerate([(2, 2), (w - 3, 2), (w - 3, h - 3), (2, h - 3)]):
        to_column, to_row = (column + 6, row + 4) if n == corner else (column, row)
        if to_column < w and to_row < h:
            torch.testing.assert_close(got[0, :, to_row, to_column], x[0, :, row, column], atol=1e-3, rtol=0)


def test_what_lies_behind_the_horizon_repeats_the_edge():
    x = pictures(b=1, h=16, w=16)
    x[..., 0] = 0.25  # the left edge
    vary = Augment(warp=0.249, shift=0.9)
    d = torch.zeros(1, 12)
    d[0, 1] = 1.0  # far to the right, so that all that is seen lies left of the picture
    d[0, 4:] = torch.tensor([1, 1, 1, -1, 1, 1, 1, -1])  # the left side narrow: lines meet just outside of it
    got = vary(x, d)
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got[..., :10], torch.full_like(got[..., :10], 0.25), atol=1e-5, rtol=0)


def test_warp_comes_after_the_flip_and_before_rotation_and_shift():
    rng = np.random.default_rng(1)
    smooth = np.array(Image.fromarray(rng.random((5, 5)).astype(np.float32)).resize((64, 64), Image.Resampling.BICUBIC))
    x = torch.tensor(smooth)[None, None]
    d = Augment(warp=0.1).draws(1, seed=8)
    d[0, :4] = torch.tensor([0.5, 0.1, -0.2, 1.0])
    together = Augment(rotate=180, shift=0.2, flip=True, warp=0.1)(x, d)
    one = Augment(warp=0.1)(x.flip(-1), d)
    apart = Augment(rotate=180, shift=0.2)(one, d[:, :4])
    inner = (..., slice(16, 48), slice(16, 48))
    torch.testing.assert_close(together[inner], apart[inner], atol=0.02, rtol=0)  # apart is smoothed twice
    wrong = Augment(warp=0.1)(Augment(rotate=180, shift=0.2, flip=True)(x, d[:, :4]), d)
    assert (together[inner] - wrong[inner]).abs().max() > 0.05


def test_a_warp_draws_more_and_leaves_the_other_draws():
    """What was drawn is stored with each result: it may not change for augmentations without a warp."""
    plain, warped = Augment(flip=True), Augment(flip=True, warp=0.1)
    assert plain.num_draws == NUM_DRAWS == 4
    assert warped.num_draws == 12
    assert torch.equal(warped.draws(1000, seed=5)[:, :4], plain.draws(1000, seed=5))
    more = warped.draws(1000, seed=5)[:, 4:]
    assert more.shape == (1000, 8)
    assert -1 <= more.min() < -0.99
    assert np.abs(np.corrcoef(warped.draws(5000, seed=2).numpy().T) - np.eye(12)).max() < 0.06
    first = Augment(rotate=30).draws(3, seed=7)
    torch.testing.assert_close(
        first[0], torch.tensor([0.0698, -0.6024, 0.3184, 0.3138]), atol=1e-4, rtol=0
    )  # of version 0.1.0


def test_presets_are_those_of_the_paper():
    assert set(PRESETS) == {"paper_mnist", "paper_cifar10", "paper_cifar100"}


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
    x, d = pictures(b=20), EVERYTHING.draws(20, seed=3)
    whole = EVERYTHING(x, d)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    for batch in order.split(7):
        torch.testing.assert_close(EVERYTHING(x[batch], d[batch]), whole[batch], atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_dtype_and_input_are_kept(dtype):
    x = pictures(dtype=dtype)
    before = x.clone()
    got = EVERYTHING(x, EVERYTHING.draws(4, seed=0))
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
    with pytest.raises(ValueError, match=r"draws must have shape \(4, 12\)"):
        EVERYTHING(torch.zeros(4, 1, 5, 5), draws(4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_agrees_with_cpu():
    x, d = pictures(b=8, h=28, w=32), EVERYTHING.draws(8, seed=1)
    torch.testing.assert_close(EVERYTHING(x.cuda(), d).cpu(), EVERYTHING(x, d), atol=1e-4, rtol=0)
