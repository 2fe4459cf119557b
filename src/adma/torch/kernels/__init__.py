"""How the losses get their speed. A kernel knows rows and weights, never a loss by name."""
