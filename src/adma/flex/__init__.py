"""What flexibility is for: a shape that changes by a schedule, or is learned, while a network trains."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adma.flex.learn import ShapeTuner
    from adma.flex.precondition import adam, gradient_descent
    from adma.flex.schedule import Constant, Cosine, Geometric, Linear, Schedule, ShapeScheduler, Warmup
    from adma.flex.score import balanced_error
    from adma.flex.spec import FlexibleSpec

__all__ = [
    "Constant",
    "Cosine",
    "FlexibleSpec",
    "Geometric",
    "Linear",
    "Schedule",
    "ShapeScheduler",
    "ShapeTuner",
    "Warmup",
    "adam",
    "balanced_error",
    "gradient_descent",
]
_MODULES = {  # those that need torch are imported when they are asked for: a spec can be read without
    "FlexibleSpec": "spec",
    "ShapeTuner": "learn",
    "adam": "precondition",
    "balanced_error": "score",
    "gradient_descent": "precondition",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'schedule')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
