"""What the bench says when it cannot go on: one exception, printed by the command without a traceback."""


class BenchError(Exception):
    """A mistake that the user can mend: the message names the argument, its value and what would be right."""
