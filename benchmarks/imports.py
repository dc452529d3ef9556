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
began, used = time.perf_counter(), time.process_time()
import {module}
seconds, cpu = time.perf_counter() - began, time.process_time() - used
import sys
print(seconds, cpu, len(sys.modules))
"""


def import_in_child(module: str) -> dict[str, float]:
    """Return what the import took, and how many modules there are then."""
    command = [sys.executable, "-c", CODE.format(module=module)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, cpu, modules = done.stdout.split()
    return {"import_s": float(seconds), "cpu_s": float(cpu), "modules": int(modules)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", default="minions")
    module = parser.parse_args().module
    import_in_child(module)
    print(json.dumps(import_in_child(module)))


if __name__ == "__main__":
    main()
