"""Wyoming, the protocol of Home Assistant's voice services: what both of its ends need here.

https://github.com/OHF-Voice/wyoming. Events are made and written by its own package; they are read
by `edge_runtime.wyoming.protocol`, because the package's readers take any length at its word.
"""
