"""The CPU kernel compiled for 64-bit Arm, under an emulator, against this machine's own kernel."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import adma
from adma.torch.kernels import native
from adma.torch.kernels.native import build, library
from adma.torch.kernels.native import dense as native_dense
from adma.torch.kernels.program import program_of

COMPILER, EMULATOR, ROOT = "aarch64-linux-gnu-g++", "qemu-aarch64", "/usr/aarch64-linux-gnu"
if shutil.which(COMPILER) is None or shutil.which(EMULATOR) is None:
    pytest.skip(
        "THE KERNEL FOR 64-BIT ARM WAS NOT RUN: install g++-aarch64-linux-gnu and qemu-user", allow_module_level=True
    )
LOADED = library.load()
if isinstance(LOADED, str):
    pytest.skip(f"THE KERNEL FOR 64-BIT ARM WAS NOT COMPARED: {LOADED}", allow_module_level=True)
SPECS = ("cce", "adma:a=0.26", "gce:q=0.7", "mae", "focal:gamma=2", "poly1:epsilon=1", "taylor:order=3", "agce", "aue")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((70, 10, 1), (300, 2, 1), (5, 1, 1), (40, 100, 1), (3, 129, 1), (2, 7001, 1), (2, 19, 300), (3, 5, 3))


@dataclass(frozen=True)
class Case:
    """A call: logits (N, C, M), class indices or probabilities of them, and a loss."""

    spec: str
    z: torch.Tensor
    target: torch.Tensor
    scale: torch.Tensor
    smoothing: float = 0.0
    weight: torch.Tensor | None = None

    @property
    def dense(self) -> bool:
        return self.target.dim() == 3 or self.smoothing > 0

    def here(self) -> tuple[np.ndarray, torch.Tensor]:
        """Rows and gradient by this machine's kernel."""
        out, rows = torch.empty_like(self.z), torch.empty(self.scale.shape, dtype=torch.float64)
        member = adma.make_loss(self.spec).member
        if self.dense:
            native_dense.rows_and_gradient(
                self.z, self.target, member, self.scale, smoothing=self.smoothing, weight=self.weight, out=out,
                rows=rows,
            )  # fmt: skip
        else:
            native.rows_and_gradient(self.z, self.target, member, self.scale, out=out, rows=rows)
        return rows.numpy(), out

    def packed(self) -> bytes:
        """As `emulated_kernel.cpp` reads it."""
        member = adma.make_loss(self.spec).member
        program = program_of(member)
        assert program is not None
        code = [n for s in program.code for n in (native._NUMBER[s.operation], *s.operands, 0, 0)[:4]]
        soft = self.target.dim() == 3
        return (
            struct.pack(
                "=18q2d", native._TYPE[self.z.dtype], *self.z.shape, *self.z.stride(), self.z.numel(),
                self.z.element_size(), True, len(program.code), len(program.constants), program.psi, program.slope,
                self.dense, soft, self.weight is not None, native_dense.identity(member), 1.0, self.smoothing,
            )
            + struct.pack(f"={len(code)}i", *code)
            + struct.pack(f"={len(program.constants)}d", *program.constants)
            + raw(self.z)
            + (b"" if soft else raw(self.target))
            + raw(self.scale)
            + (raw(self.target) if soft else b"")
            + (b"" if self.weight is None else raw(self.weight.double()))
        )  # fmt: skip


def raw(tensor: torch.Tensor) -> bytes:
    """A dense tensor's memory."""
    return bytes(tensor.untyped_storage())


def cases() -> list[Case]:
    draw = torch.Generator().manual_seed(0)
    found = []
    for number, shape in enumerate(SHAPES):
        for dtype in DTYPES:
            n, c, m = shape
            z = (torch.randn(n, c, m, generator=draw, dtype=torch.float64) * 5).to(dtype)
            if number % 3 == 2:  # classes last in memory, or another order
                z = z.permute(0, 2, 1).contiguous().permute(0, 2, 1)
            target = torch.randint(c, (n, m), generator=draw)
            scale = torch.rand(n, m, generator=draw, dtype=torch.float64) + 0.1
            scale.view(-1)[1::5] = 0
            weight = torch.rand(c, generator=draw, dtype=torch.float64)
            for spec in SPECS:
                found.append(Case(spec, z, target, scale))
            shares = torch.empty_like(z).copy_(torch.softmax(torch.randn(n, c, m, generator=draw), 1))
            for spec in SPECS[:2]:
                found.append(Case(spec, z, target, scale, 0.1))
                found.append(Case(spec, z, target, scale, 0.1, weight))
                found.append(Case(spec, z, shares, scale, 0.0, weight))
    hard = torch.tensor([[1e30, -1e30, 0.0], [float("-inf"), 0.0, 80.0], [3e4, 3e4, 3e4]]).unsqueeze(2)
    found += [Case(s, hard, torch.tensor([[1], [2], [0]]), torch.ones(3, 1, dtype=torch.float64)) for s in SPECS]
    return found


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, np.ndarray, torch.Tensor]]:
    """Every case with the rows and the gradient that the emulated kernel found."""
    folder = tmp_path_factory.mktemp("arm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", COMPILER)
        patch.setattr(build, "sets", lambda: {"baseline": ()})
        made = build.build(folder)
    program = folder / "emulated"
    source = Path(__file__).with_name("emulated_kernel.cpp")
    subprocess.run([COMPILER, "-std=c++17", "-O1", f"-I{build.HERE}", source, "-o", program], check=True)
    asked = cases()
    done = subprocess.run(
        [EMULATOR, "-L", ROOT, program, made], input=b"".join(case.packed() for case in asked), capture_output=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, at = [], 0
    for case in asked:
        rows, size = case.scale.numel(), case.z.numel() * case.z.element_size()
        values = np.frombuffer(done.stdout, np.float64, rows, at + 8).reshape(case.scale.shape)
        gradient = torch.empty_like(case.z)
        memory = torch.frombuffer(bytearray(done.stdout[at + 8 + 8 * rows :][:size]), dtype=case.z.dtype)
        gradient.as_strided((case.z.numel(),), (1,)).copy_(memory)
        found.append((case, values, gradient))
        at += 8 + 8 * rows + size
    assert at == len(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("targets", ["indices", "a weight for every class"])
def test_agrees_with_this_machines_kernel(emulated, dtype, targets):
    seen = 0
    for case, rows, gradient in emulated:
        if case.z.dtype == dtype and case.dense == (targets != "indices"):
            expected, slopes = case.here()
            eps = torch.finfo(dtype).eps
            np.testing.assert_allclose(rows, expected, rtol=1e-12 if dtype == torch.float64 else 2e-6, atol=0)
            rtol, atol = 4e-13 if dtype == torch.float64 else 2e-6, 8 * torch.finfo(dtype).smallest_normal
            if case.dense:  # where shares cancel, what is left is small beside what was taken apart
                atol = max(atol, eps * float(slopes.double().abs().max()))
            torch.testing.assert_close(gradient.double(), slopes.double(), rtol=max(rtol, 2 * eps), atol=atol)
            assert not gradient.isnan().any()
            seen += 1
    assert seen >= 30
