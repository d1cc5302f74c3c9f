"""The console script `permafrost run|extract|predict|doctor`: each command is the module of that name."""

import sys
from importlib import import_module

COMMANDS = {
    "run": "images in, the best classifier out",
    "extract": "features alone, kept and exported",
    "predict": "labels for new images by a bundle",
    "doctor": "what this machine has, and how long a pass would take",
}


def main(arguments=None) -> int:
    """Hand the rest of the line to the command's own module -> exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments and arguments[0] in COMMANDS:
        return import_module(f"pipelines.{arguments[0]}").main(arguments[1:])
    asked = not arguments or arguments[0] in ("-h", "--help")
    lines = [f"  permafrost {name:<8} {what}" for name, what in COMMANDS.items()]
    head = (
        "usage: permafrost COMMAND …"
        if asked
        else f"error: unknown command {arguments[0]!r}: expected one of"
    )
    print("\n".join([head, *lines]), file=sys.stdout if asked and arguments else sys.stderr)
    return 0 if asked and arguments else 2


if __name__ == "__main__":
    sys.exit(main())
