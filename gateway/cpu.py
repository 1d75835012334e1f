"""How many CPUs this process may really use."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = CGROUP) -> int:
    """CPUs by affinity and by the cgroup's quota, at least 1; a quota of 1.5 CPUs counts as 2.

    The node's core count is not asked: a container with a quota of one CPU on a node of
    64 cores would start 64 workers. The files are those of cgroup v2 (`cpu.max`) and v1
    (`cpu/cpu.cfs_quota_us`), as the kernel's admin guide describes them.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _quota(cgroup)
    return max(1, min(allowed or 1, math.ceil(quota) if quota else allowed or 1))


def _quota(cgroup: Path) -> float | None:
    """The quota in CPUs, or None where there is none."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
