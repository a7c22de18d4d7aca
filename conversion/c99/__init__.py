"""A bundle's audio branch as a C99 library for microcontrollers: tables, and what computes them."""
