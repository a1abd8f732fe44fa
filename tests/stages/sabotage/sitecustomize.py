"""Put on PYTHONPATH by a test: every Python process then listens to its own audit events and, once in the whole run, is
killed at the moment named by SABOTAGE, or sleeps there until somebody kills it. "a slow disk" is no moment: everything
done to a file below the folder of the notes then takes a while.

Each block begun is noted in `<SABOTAGE_NOTES>/begun`, a line each; the marker `<SABOTAGE_NOTES>/<moment>` says that the
moment came.
"""

import os
import signal
import sys
import time
from pathlib import Path

MOMENT, HOLD = os.environ.get("SABOTAGE", ""), "SABOTAGE_HOLD" in os.environ
NOTES = Path(os.environ.get("SABOTAGE_NOTES", ""))
SLOW = "a slow disk"
receipt_moved = False


def listen(event: str, args: tuple) -> None:
    global receipt_moved
    if event not in ("open", "os.rename", "os.link", "os.remove"):
        return
    path = str(args[1] if event in ("os.rename", "os.link") else args[0])
    if MOMENT == SLOW and path.startswith(str(NOTES)):
        if not path.endswith(SLOW):
            (NOTES / SLOW).touch()
        time.sleep(0.1)
        return
    if "/activations/" not in path:
        return
    folder, _, name = path.rpartition("/")
    created = event == "open" and isinstance(args[1], str) and "x" in args[1]
    temporary = event == "open" and name.startswith(".") and name.endswith(".tmp")
    block = ".parquet" in name
    if temporary and created and block:
        at("before the write")
        with (NOTES / "begun").open("a") as file:
            file.write(f"{folder.rpartition('/')[2]}/{name}\n")
    elif temporary and block:
        at("during the write", path)
    elif event == "os.rename" and block:
        at("before the rename")
    elif temporary and created and "manifest" not in name:
        at("before the receipt")
    elif event == "os.rename":
        receipt_moved = True
    elif event == "open" and receipt_moved:  # the folder, to flush it
        at("after the receipt")
    elif event == "os.link":
        at("before the manifest")
    elif event == "os.remove" and "manifest" in name:
        at("after the manifest")


def at(moment: str, path: str | None = None) -> None:
    if moment != MOMENT:
        return
    try:
        (NOTES / moment).touch(exist_ok=False)
    except FileExistsError:
        return
    if path is not None:  # as it is in the middle of being written
        os.truncate(path, os.stat(path).st_size // 2)
    if HOLD:
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGKILL)


if MOMENT:
    sys.addaudithook(listen)
