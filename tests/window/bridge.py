#!/usr/bin/python3
"""Stands for the programs of the backend where Blender lives in another root folder: asks the tests outside to start them. It
lies on the search path as `mvgamba-backend` and as `mvgamba`, with setting.json in the folder above.

To Blender it is a backend: it has the hello line on stdout, and leaves when stdin closes. The backend itself talks to
Blender over the same loopback address as it always does. Killed, it takes the backend with it.
"""

import json
import os
import socket
import sys
import threading
from pathlib import Path


def main() -> None:
    setting = json.loads((Path(__file__).resolve().parents[1] / "setting.json").read_text())
    request = {"key": setting["key"], "want": "command", "arguments": sys.argv[1:]}
    is_backend = Path(sys.argv[0]).name == "mvgamba-backend"
    if is_backend:
        request |= {"want": "backend", "token": os.environ["MVGAMBA_TOKEN"]}
    with socket.create_connection(("127.0.0.1", setting["port"])) as connection, connection.makefile("rw") as lines:
        lines.write(json.dumps(request) + "\n")
        lines.flush()
        if is_backend:
            threading.Thread(target=leave_with_stdin, args=(connection,), daemon=True).start()
        for line in lines:
            if line.startswith("exit ") and not is_backend:
                sys.exit(int(line.removeprefix("exit ")))
            print(line, end="", flush=True)


def leave_with_stdin(connection: socket.socket) -> None:
    """Pass the end of our stdin on as a word: a connection that ends without it was killed."""
    sys.stdin.read()
    connection.sendall(b"leave\n")


if __name__ == "__main__":
    main()
