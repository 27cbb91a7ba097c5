#!/usr/bin/python3
"""Stands for xclip where Blender lives in another root folder: the one outside does it, on the same display.

It lies on the search path as `xclip`, with setting.json in the folder above.
"""

import base64
import json
import socket
import sys
from pathlib import Path


def main() -> int:
    setting = json.loads((Path(__file__).resolve().parents[1] / "setting.json").read_text())
    request = {"key": setting["key"], "want": "xclip", "arguments": sys.argv[1:]}
    with socket.create_connection(("127.0.0.1", setting["port"])) as connection, connection.makefile("rw") as lines:
        lines.write(json.dumps(request) + "\n")
        lines.flush()
        status, output = json.loads(lines.readline())
    sys.stdout.buffer.write(base64.b64decode(output))
    return status


if __name__ == "__main__":
    sys.exit(main())
