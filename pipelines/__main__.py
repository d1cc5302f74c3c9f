"""The console script `permafrost run|extract|…`: each command is the module of that name."""

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from pipelines.stopping import watch_signals

COMMANDS = {
    "run": "images in, the best classifier out",
    "tune": "the network trained further, measured against it frozen",
    "explore": "images without labels: clusters, a map, what to label first",
    "segment": "a class for each pixel, learnt from masks",
    "extract": "features alone, kept and exported",
    "predict": "labels for new images by a bundle",
    "export": "a trained classifier as one ONNX file",
    "report": "the page of a finished run, made again",
    "fetch": "a network's weights, brought once into a folder that can be carried",
    "cache": "what is kept, whether it is whole, and less of it",
    "doctor": "what this machine has, and how long a pass would take",
}
# commands that are run as a package
PACKAGES = {"report": "pipelines.report.__main__"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand the rest of the line to the command's own module -> exit code."""
    if arguments is None:
        watch_signals()
        # as `python -m` does it, so that --backbone my_networks:small is found by both; at the end,
        # where it hides nothing
        sys.path.append(os.getcwd())
        # the interpreter would go through every object of torch once more to end: half a second
        atexit.register(gc.freeze)
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments and arguments[0] in COMMANDS:
        home = PACKAGES.get(arguments[0], f"pipelines.{arguments[0]}")
        return import_module(home).main(arguments[1:])
    if arguments == ["--version"]:
        from pipelines.console import version

        print(version())
        return 0
    asked = not arguments or arguments[0] in ("-h", "--help")
    head = "usage: permafrost COMMAND …"
    if not asked:
        head = f"error: unknown command {arguments[0]!r}: expected one of"
    lines = [f"  permafrost {name:<8} {what}" for name, what in COMMANDS.items()]
    # what was asked for is the answer; without a command it is part of a wrong call
    print("\n".join([head, *lines]), file=sys.stdout if asked and arguments else sys.stderr)
    return 0 if asked and arguments else 2


if __name__ == "__main__":
    sys.exit(main())
