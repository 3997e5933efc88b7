"""The environment: platform, processor, memory, graphics processors, Python, environment variables, builds of libraries.

What is kept here is the same for every trial until something is changed: no free memory, no load, no process id.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ledger.capture.masking import mask_variables
from ledger.capture.programs import run_program

#: Environment variables that change how programs run. A name that ends with * stands for all that begin so.
VARIABLES = (
    "LANG", "LC_ALL", "TZ", "PYTHONHASHSEED", "PYTHONPATH", "PYTHONOPTIMIZE", "PYTHONMALLOC", "PYTHON_GIL", "VIRTUAL_ENV",
    "CONDA_DEFAULT_ENV", "OMP_*", "MKL_*", "OPENBLAS_*", "BLIS_*", "GOTO_NUM_THREADS", "KMP_*", "NUMEXPR_*", "NUMBA_*",
    "VECLIB_MAXIMUM_THREADS", "MALLOC_*", "LD_PRELOAD", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_LAUNCH_BLOCKING", "CUBLAS_*",
    "CUDNN_*", "NCCL_*", "NVIDIA_TF32_OVERRIDE", "HIP_*", "ROCM_*", "TORCH_*", "PYTORCH_*",
    "TF_CPP_*", "TF_CUDNN_*", "TF_DETERMINISTIC_*", "TF_ENABLE_*",
    "TF_FORCE_*", "TF_GPU_*", "TF_NUM_*", "TF_XLA_FLAGS", "XLA_*", "JAX_*",
    "TOKENIZERS_PARALLELISM", "RAY_*", "DASK_*",
)  # fmt: skip
_MOST_VARIABLES = 200
_MOST_CHARACTERS = 4_096
_NVIDIA = ("name", "driver_version", "memory.total", "compute_cap")


def capture_environment(variables: Iterable[str]) -> dict[str, Any]:
    """Return platform, processor, memory, Python, and the variables that are well known or named here."""
    return {
        "platform": capture_platform(),
        "cpu": capture_cpu(),
        "memory": capture_memory(),
        "python": capture_python(),
        "variables": select_variables((*VARIABLES, *variables)),
    }


def capture_platform() -> dict[str, Any]:
    """Return operating system, kernel, architecture and C library."""
    system = os.uname()
    found = {"system": system.sysname, "release": system.release, "version": system.version, "machine": system.machine}
    library = " ".join(platform.libc_ver())
    release = _os_release()
    return found | ({"distribution": release} if release else {}) | ({"libc": library} if library.strip() else {})


def _os_release() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def capture_cpu() -> dict[str, Any]:
    """Return model, cores and features of the processor, and how much of it a container may use."""
    found: dict[str, Any] = {"logical_cores": os.cpu_count()}
    lines = [line.partition(":") for line in _read("/proc/cpuinfo").splitlines()]
    said = [(name.strip(), value.strip()) for name, _, value in lines]
    first = dict(reversed(said))  # of several processors the first
    for name, key in (("model name", "model"), ("vendor_id", "vendor"), ("cpu family", "family"), ("model", "model_number"),
                      ("stepping", "stepping"), ("microcode", "microcode"), ("cache size", "cache")):  # fmt: skip
        if first.get(name):
            found[key] = first[name]
    physical = {(package, core) for package, core in _cores(said)}
    if physical:
        found["physical_cores"] = len(physical)
    frequency = _read("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").strip()
    if frequency.isdigit():
        found["max_mhz"] = int(frequency) // 1000
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        found["container_cores"] = int(quota[0]) / int(quota[1])
    features = first.get("flags") or first.get("Features")
    return found | ({"features": " ".join(sorted(features.split()))} if features else {})


def _cores(said: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    package = ""
    for name, value in said:
        if name == "physical id":
            package = value
        elif name == "core id":
            yield package, value


def capture_memory() -> dict[str, Any]:
    """Return the memory of the machine, to 0.1 GiB (it differs by pages from start to start), and what a container may use."""
    found: dict[str, Any] = {"total_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)}
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("SwapTotal:"):
            found["swap_gib"] = round(int(line.split()[1]) / 2**20, 1)
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    return found | ({"container_bytes": int(limit)} if limit.isdigit() else {})


def capture_python() -> dict[str, Any]:
    """Return the interpreter: version, build, and how it was started."""
    return {
        "implementation": platform.python_implementation(),
        "version": platform.python_version(),
        "build": " ".join(platform.python_build()),
        "compiler": platform.python_compiler(),
        "mode": python_mode(),
        "is_virtual": sys.prefix != sys.base_prefix,
        "optimize": sys.flags.optimize,
        "hash_randomization": bool(sys.flags.hash_randomization),
        "byte_order": sys.byteorder,
        "encoding": sys.getfilesystemencoding(),
    }


def python_mode() -> str:
    """Say how Python runs: a notebook, IPython, interactive, a module, code of the command line or standard input, a script."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        return "notebook" if type(shell).__name__ == "ZMQInteractiveShell" else "ipython"
    main = sys.modules.get("__main__")
    if getattr(main, "__spec__", None) is not None:
        return "module"
    if sys.argv[:1] in (["-c"], ["-"]):
        return "command" if sys.argv[0] == "-c" else "standard input"
    return "script" if getattr(main, "__file__", None) else "interactive"


def select_variables(names: Iterable[str]) -> dict[str, str]:
    """Return the environment variables of these names that are set, the values of secret ones masked."""
    exact = {name for name in names if not name.endswith("*")}
    prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
    found = {name: value for name, value in os.environ.items() if name in exact or name.startswith(prefixes)}
    chosen = dict(sorted(found.items())[:_MOST_VARIABLES])
    return {name: value[:_MOST_CHARACTERS] for name, value in mask_variables(chosen).items()}


def capture_gpus(seconds: float) -> dict[str, Any] | None:
    """Return the graphics processors that NVIDIA's driver names; None where there is no driver, or it answers nothing."""
    query = ["nvidia-smi", f"--query-gpu={','.join(_NVIDIA)}", "--format=csv,noheader,nounits"]
    try:
        answer = run_program(query, seconds=seconds)
    except FileNotFoundError:
        return None
    if answer.code is None:
        return {"problem": f"nvidia-smi took longer than {seconds:g} s"}
    if answer.code != 0:
        return None  # installed, with no driver or no processor behind it
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.out.decode(errors="replace").splitlines()]
    gpus = [
        {"name": row[0], "driver": row[1], "memory_mb": row[2], "compute_capability": row[3]}
        for row in rows
        if len(row) == len(_NVIDIA)
    ]
    return {"gpus": gpus} if gpus else None


# ------------------------------------------------------------------------------------------------------- libraries


def capture_build(name: str) -> dict[str, Any]:
    """Return version and build of numpy, scipy or pandas as it is loaded; nothing is imported for it."""
    module = sys.modules[name]
    found: dict[str, Any] = {"version": str(getattr(module, "__version__", "unknown"))}
    commit = getattr(module, "__git_version__", None) or getattr(getattr(module, "version", None), "git_revision", None)
    if commit:
        found["commit"] = str(commit)
    if name != "pandas":  # whose show_versions imports everything that it could use
        config = getattr(module, "__config__", None)
        build = getattr(config, "CONFIG", None)
        if isinstance(build, dict):
            found["build"] = {key: value for key, value in build.items() if key != "Python Information"}
    return found


def is_loaded(name: str) -> bool:
    """Say whether a library is imported, to its end."""
    return hasattr(sys.modules.get(name), "__version__")


def capture_conda() -> dict[str, Any] | None:
    """Return the conda environment that Python runs in, with the builds of its packages; None without."""
    place = Path(sys.prefix) / "conda-meta"
    if not place.is_dir():
        return None
    names = sorted(each.name.removesuffix(".json") for each in place.glob("*-*-*.json"))
    packages = {name: f"{version} {build}" for name, version, build in (each.rsplit("-", 2) for each in names[:5_000])}
    return {"name": os.environ.get("CONDA_DEFAULT_ENV", ""), "packages": packages}


def _read(path: str) -> str:
    """Return a file of the system's, or nothing where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
