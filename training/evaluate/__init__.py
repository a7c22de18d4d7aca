"""How good a model is: metrics, cross-validation, the paper's table, plots."""
