"""The whole model as one graph over a fixed window: in float, and in int8."""
