"""Speech of one's own as labelled clips: recorded by prompts, or kept by `run` and reviewed."""
