"""From corpora to quantization-aware models."""
