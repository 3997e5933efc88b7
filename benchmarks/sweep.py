"""A sweep as MLXP leaves it on the disk: a directory for each run."""

from __future__ import annotations

import json
from pathlib import Path

_CONFIG = """\
seed: {seed}
num_epoch: {steps}
model:
  num_units: {units}
data:
  d_int: 10
  device: cpu
optimizer:
  lr: {rate}
"""
_INFO = """\
status: COMPLETE
current_file_path: /srv/sweep/main.py
executable: /usr/bin/python3
hostname: benchmark
process_id: {number}
start_date: 21/11/2026
start_time: '18:11:54'
end_date: 21/11/2026
end_time: '18:11:55'
work_dir: /srv/sweep
logger:
  log_id: {number}
  log_dir: {directory}
  metrics_dir: {directory}/metrics
  metadata_dir: {directory}/metadata
  artifacts_dir: {directory}/artifacts
scheduler: null
version_manager: null
"""
KEYS = ("loss", "epoch", "accuracy", "rate")


def write_sweep(directory: Path, runs: int, steps: int) -> None:
    """Write the directories of some runs, each with as many lines of four metrics."""
    for number in range(1, runs + 1):
        write_run(directory, number, steps)


def write_run(directory: Path, number: int, steps: int) -> None:
    """Write the directory of one run."""
    run = directory / str(number)
    for place in ("metadata", "metrics/.keys", "artifacts/.keys"):
        (run / place).mkdir(parents=True)
    config = _CONFIG.format(seed=number % 7, steps=steps, units=2 + number % 3, rate=10.0 / (1 + number % 5))
    (run / "metadata" / "config.yaml").write_text(config)
    (run / "metadata" / "info.yaml").write_text(_INFO.format(number=number, directory=run))
    lines = (dict(zip(KEYS, (1 / (step + number), step, step / (step + 1), step * 0.5), strict=True)) for step in range(steps))
    (run / "metrics" / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "metrics" / ".keys" / "train.yaml").write_text("".join(f"{key}: ''\n" for key in KEYS))
