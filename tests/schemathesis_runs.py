"""Schemathesis against a running side: requests made up from its OpenAPI document, each answer held against it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.patience import patient

CONTRACTS = Path(__file__).parent / "contracts"
LONG = bool(os.environ.get("FOOTFALL_LONG"))
SEEDS = range(1, 6) if LONG else [1]
RUN_WITHIN = patient(500 if LONG else 100)  # seconds


def cases_without_deviation(document: str, config: str, seed: int, examples: int, *options: str, cwd: Path) -> int:
    """How many cases it made of the document at this URL, `examples` at most for each operation; fails on a finding.

    `config`: a file of tests/contracts. `cwd`: where it may leave files.
    """
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={CONTRACTS / config}",
        "run",
        document,
        "--phases=examples,coverage,fuzzing",
        f"--max-examples={examples}",
        f"--seed={seed}",
        "--no-color",
        *options,
    ]
    hooks = {"SCHEMATHESIS_HOOKS": str(CONTRACTS / "schemathesis_ndjson.py")}
    run = subprocess.run(
        command, cwd=cwd, env={**os.environ, **hooks}, capture_output=True, text=True, check=False, timeout=RUN_WITHIN
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr
    cases = re.search(r"(\d+) generated, (\d+) passed", run.stdout)
    assert cases is not None, run.stdout[-2000:]
    assert "skipped" not in run.stdout, run.stdout[-2000:]
    return int(cases[1])
