"""How long an import takes, in a fresh interpreter that has imported nothing else.

``python benchmarks/imports.py --module minions``

A first child compiles the modules, as an installation does, into a folder of the
program's own, and warms the file cache; a second one counts. That the caller's
environment may keep Python from writing compiled files must not count as import time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

CODE = """
import time
began, used = time.perf_counter(), time.process_time()
import {module}
seconds, cpu = time.perf_counter() - began, time.process_time() - used
import sys
print(seconds, cpu, len(sys.modules))
"""


def import_in_child(module: str, compiled: str) -> dict[str, float]:
    """Return what the import took, and how many modules there are then."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", CODE.format(module=module)]
    done = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    seconds, cpu, modules = done.stdout.split()
    return {"import_s": float(seconds), "cpu_s": float(cpu), "modules": int(modules)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", default="minions")
    module = parser.parse_args().module
    with tempfile.TemporaryDirectory() as compiled:
        import_in_child(module, compiled)
        print(json.dumps(import_in_child(module, compiled)))


if __name__ == "__main__":
    main()
