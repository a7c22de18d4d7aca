"""Words: tokens and their embedding rows."""
