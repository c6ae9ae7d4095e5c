"""The archive's files in engines of analysts: docs/archive.md's lines for Spark and Iceberg, as they stand there.

FOOTFALL_LONG=1 fetches the engines. The lines for DuckDB and pandas are run by test_archive.py.
"""

import re
import subprocess
from pathlib import Path

import pytest

from tests import foreign_clients
from tests.architecture.repository import ROOT
from tests.conftest import Footfall
from tests.drivers.archiving import archive, archive_json, files
from tests.drivers.rebuilding import a_day
from tests.patience import patient
from tests.producing import produce

SESSION = "from pyspark.sql import SparkSession\nspark = SparkSession.builder.master('local[1]').getOrCreate()\n"
FEW = {"ARCHIVE_FILE_RECORDS": "100"}


def lines_for(engine: str) -> str:
    """The block of the page whose code names the engine."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "archive.md").read_text(), re.DOTALL)
    [found] = [block for block in blocks if engine in block]
    return str(found)


def printed(engine: str, program: str, directory: Path) -> str:
    """What a program prints in the engine's environment, below the directory of the archive."""
    foreign_clients.needed(engine)
    command = [str(foreign_clients.python_of(engine)), "-c", program]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=patient(200), check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    return done.stdout


@pytest.mark.timeout(patient(900))
def test_spark_reads_the_archive(footfall: Footfall, tmp_path: Path) -> None:
    foreign_clients.needed("spark")
    produce(footfall, a_day(1_000))
    archive(footfall, tmp_path / "archive", "run", given=FEW)
    told = printed("spark", SESSION + lines_for("spark.read"), tmp_path)
    counts = [(kind, int(count)) for kind, count in re.findall(r"\|\s*(\w+)\|\s*(\d+)\|\n", told)]
    assert sum(count for _, count in counts) == 1_000
    assert {kind for kind, _ in counts} == {"LOGIN", "PRODUCT_VIEW", "LOGOUT"}


@pytest.mark.timeout(patient(900))
def test_iceberg_has_a_table_of_the_same_files(footfall: Footfall, tmp_path: Path) -> None:
    foreign_clients.needed("iceberg")
    produce(footfall, a_day(400))
    place, program = tmp_path / "archive", lines_for("pyiceberg")
    archive(footfall, place, "run", given=FEW)
    assert printed("iceberg", program, tmp_path).split()[-1] == "400"
    produce(footfall, a_day(300))
    archive(footfall, place, "run", given=FEW)
    before = {path: path.stat().st_mtime_ns for path in files(place)}
    assert printed("iceberg", program, tmp_path).split()[-1] == "700", "files that are new since then are added"
    assert printed("iceberg", program, tmp_path).split()[-1] == "700", "none is added twice"
    assert {path: path.stat().st_mtime_ns for path in files(place)} == before
    assert not list((tmp_path / "iceberg").rglob("*.parquet")), "the table has no copy"
    found = archive_json(footfall, place, "verify")
    assert (found["sound"], found["strangers"]) == (True, 0)
