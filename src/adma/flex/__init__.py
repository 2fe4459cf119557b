"""What flexibility is for: a shape that changes by a schedule, or is learned, while a network trains."""
