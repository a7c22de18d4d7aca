"""From a training run to a verified int8 bundle."""
