"""Words: vectors, a teacher, an engine's confusions."""
