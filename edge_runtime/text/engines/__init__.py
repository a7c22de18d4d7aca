"""Engines that hear words, one a file."""
