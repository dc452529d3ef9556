"""How long an import takes, in a fresh interpreter that has imported nothing else.

``python benchmarks/imports.py --module minions``

A first child makes the compiled files and warms the file cache; a second one counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

CODE = """
import time
began = time.perf_counter()
import {module}
seconds = time.perf_counter() - began
import sys
print(seconds, len(sys.modules))
"""


def import_in_child(module: str) -> tuple[float, int]:
    """Return the seconds that the import took, and how many modules there are then."""
    command = [sys.executable, "-c", CODE.format(module=module)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, modules = done.stdout.split()
    return float(seconds), int(modules)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", default="minions")
    module = parser.parse_args().module
    import_in_child(module)
    seconds, modules = import_in_child(module)
    print(json.dumps({"import_s": seconds, "modules": modules}))


if __name__ == "__main__":
    main()
