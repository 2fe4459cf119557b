"""The memory of CUDA devices (`packing.Meter`)."""

from __future__ import annotations

import gc

import torch

from adma.bench.engines.packing import Reading


class CudaMeter:
    """Asks CUDA's driver, and PyTorch's allocator. The process that asks gets a context on the device by that."""

    def memory(self, device: str) -> tuple[int, int]:
        return torch.cuda.mem_get_info(device)

    def read(self, device: str) -> Reading:
        free = torch.cuda.mem_get_info(device)[0]
        return Reading(torch.cuda.memory_reserved(device), torch.cuda.max_memory_reserved(device), free)

    def reset(self, device: str) -> None:
        gc.collect()  # an error's frames hold tensors
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
