"""What flexibility is for: a shape that changes by a schedule, or is learned, while a network trains."""

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
