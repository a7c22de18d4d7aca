"""The commands of `python -m training`, one a file with its options."""
