"""What flexibility is for: a shape that changes by a schedule, or is learned, while a network trains."""

from adma.flex.learn import ShapeTuner
from adma.flex.precondition import adam, gradient_descent
from adma.flex.score import balanced_error

__all__ = ["ShapeTuner", "adam", "balanced_error", "gradient_descent"]
