import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gateway.deadline import Deadline
from gateway.scoring.contract_document import Preprocessing
from gateway.scoring.decode_memory import memory_needed
from gateway.scoring.picture_file import open_picture
from tests.support.pictures import KINDS, Size

ROOT = Path(__file__).parents[3]
MEASURES = Path("/proc/self/clear_refs").exists()


def needed(kind: str, size: Size, wanted: Preprocessing) -> int:
    data = KINDS[kind](np.random.default_rng(0), size)
    with open_picture(data, Deadline.after(60)) as reader:
        return memory_needed(reader, wanted)


@pytest.mark.skipif(not MEASURES, reason="only Linux tells a process the peak of its memory")
def test_no_kind_of_file_takes_more_memory_than_was_foretold() -> None:
    measured = subprocess.run(
        [sys.executable, "-m", "tests.support.decode_peaks"],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in measured.stdout.splitlines()]

    assert len(rows) > 100
    assert [row for row in rows if row[2] > row[3]] == []


def test_a_progressive_picture_needs_more_than_a_baseline_one() -> None:
    wanted = Preprocessing(299, 299, "tf")

    baseline = needed("jpeg 4:4:4", (2000, 2000), wanted)
    progressive = needed("jpeg progressive 4:4:4", (2000, 2000), wanted)

    assert progressive > 2 * baseline


def test_a_tall_picture_needs_room_for_all_its_rows_at_the_new_width() -> None:
    wanted = Preprocessing(299, 4000, "tf", resampling="bilinear")

    assert needed("png grey", (1, 3000), wanted) > 3000 * 4000


def test_a_picture_held_the_other_way_needs_room_to_be_turned() -> None:
    as_it_is = Preprocessing(299, 299, "tf")
    upright = Preprocessing(299, 299, "tf", exif_orientation=True)

    assert needed("jpeg 4:2:0", (500, 500), upright) == needed("jpeg 4:2:0", (500, 500), as_it_is)
    assert needed("png rgb", (500, 500), upright) > needed("png rgb", (500, 500), as_it_is)
