"""A finished run gets classes of one's own: a head on what its encoder pools."""
