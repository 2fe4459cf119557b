"""The bench: which loss is best on your data and model, and whether the difference is real."""
