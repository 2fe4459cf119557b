"""The search for a loss's parameters and its learning rate (`adma tune`), over the same cells as a comparison.

One Optuna study a loss. A trial is a spec and a learning rate; its replicates are seeds, the same for all trials; its
value is the mean validation accuracy after the last epoch. No part of the search reads what was measured on test.
"""
