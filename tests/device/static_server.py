"""A static web server, real as http.server is: python static_server.py FOLDER; says its port.

A file `FOLDER/.half` makes it promise a bundle whole, send half of it, and close; a file
`FOLDER/.other` makes it send as many other bytes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address at which a process of its own serves a folder."""
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


class Handler(SimpleHTTPRequestHandler):
    """Serves files; bundles as it is told."""

    def copyfile(self, source: object, outputfile: object) -> None:
        """Send the content of a file, or what is asked for in its place."""
        content = source.read()  # type: ignore[attr-defined]
        if self.path.endswith(".bundle.zip"):
            folder = Path(self.directory)
            if (folder / ".half").exists():
                content = content[: len(content) // 2]
            elif (folder / ".other").exists():
                content = bytes(len(content))
        outputfile.write(content)  # type: ignore[attr-defined]


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=sys.argv[1])) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
