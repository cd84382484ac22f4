"""Which modules a piece of code loads, measured in a fresh interpreter."""

import json
import subprocess
import sys

PACKAGES = (
    "datasets", "h5py", "joblib", "jsonargparse", "lightning", "matplotlib", "optuna", "pandas", "pyarrow", "requests",
    "rich", "safetensors", "scipy", "sklearn", "torch", "torchmetrics", "transformers",
)  # fmt: skip
_FORKS = """
import contextlib, importlib, io, json, os, sys, traceback
codes, preload = json.load(sys.stdin)
for name in preload:
    importlib.import_module(name)
for name, code in codes.items():
    if os.fork() == 0:  # a child for each, since what one has loaded stays loaded
        before = set(sys.modules)
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
            try:
                exec(code, {})
            except Exception:
                traceback.print_exc()
                os._exit(1)
        new = sorted(module for module in set(sys.modules) - before if sys.modules[module] is not None)
        print(json.dumps([name, new, printed.getvalue()]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, name
"""


def run_each(codes, preload=()):
    """Run each code in a process of its own: name -> (modules it loads, what it prints).

    Args:
        codes: Python by name.
        preload: packages that are loaded beforehand; what they load themselves does not count.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORKS],
        input=json.dumps([codes, list(preload)]),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (set(modules), printed) for name, modules, printed in rows}


def packages(modules):
    """Of the packages in PACKAGES, those that are among modules."""
    return {module.partition(".")[0] for module in modules} & set(PACKAGES)


def layers(modules):
    """The folders and files of pase_msa that are among modules."""
    return {module.split(".")[1] for module in modules if module.startswith("pase_msa.")}
