"""The network: its shape, its layers, its int8 arithmetic, what it costs."""
