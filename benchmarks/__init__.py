"""Latency, memory and accuracy, beside what people use today."""
