"""`edge-emotion run` as a service of systemd: its unit, and what installs, shows and removes it."""
