"""A line to PORT that breaks: python cut_relay.py PORT BYTES close|hang, as ssh's ProxyCommand.

After BYTES were sent it is closed at once, or swallows what comes.
"""

from __future__ import annotations

import os
import socket
import sys
import threading


def main(port: int, most: int, how: str) -> None:
    """Relay standard input and output until either side ends, or it breaks."""
    line = socket.create_connection(("127.0.0.1", port))

    def back() -> None:
        try:
            while chunk := line.recv(1 << 16):
                os.write(1, chunk)
        finally:
            os._exit(0)

    threading.Thread(target=back, daemon=True).start()
    sent = 0
    while chunk := os.read(0, 1 << 14):
        sent += len(chunk)
        if sent <= most:
            line.sendall(chunk)
        elif how == "close":
            break
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
