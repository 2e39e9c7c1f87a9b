"""The build process: one graph in, one engine file out. Run as `python -m latentrt.export.engines.worker`.

A process of its own because Polygraphy decides once per process which of the two libraries it drives, because the
libraries write to the terminal past Python, and because only ending the process stops a build. The order comes as one
JSON object on standard input, which stays open. When it closes, the client has ended, so the process deletes its
unfinished file and ends too. Answers are JSON objects, one a line, on standard output. The library's messages go to the
log file.
"""

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["main"]

Say = Callable[..., None]
_STEPS = 1000
_ACTIVATION = re.compile(r"Total Activation Memory: (\d+) bytes")


def main() -> None:
    """Read the order, build, answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; ours ends this one
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    order = json.loads(sys.stdin.readline())
    log = Path(order["log"])
    output = Path(order["output"])
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

    def say(**answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    written = threading.Event()
    threading.Thread(target=_end_with_parent, args=(output, written), daemon=True).start()
    try:
        result = _build(order, say)
        written.set()
        say(event="done", **result)
    except Exception as error:  # the libraries' exceptions share no base class; their messages are in the log
        sys.stdout.flush()
        say(event="error", kind=type(error).__name__, message=str(error), log=_text_of(log))
    answers.close()


def _end_with_parent(output: Path, written: threading.Event) -> None:
    os.read(0, 1)  # nothing comes any more: it returns when the other end is closed
    if not written.is_set():
        output.unlink(missing_ok=True)
        os._exit(1)


def _build(order: dict[str, Any], say: Say) -> dict[str, Any]:
    rtx = order["library"] == "tensorrt_rtx"
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1" if rtx else "0"
    from polygraphy.backend.trt import engine_bytes_from_network, network_from_onnx_path
    from polygraphy.logger import G_LOGGER

    from .output_layers import add_outputs
    from .refitting import mark_weights

    G_LOGGER.module_severity = G_LOGGER.VERBOSE
    library: Any = __import__(order["library"])
    started = time.perf_counter()
    builder, network, parser = network_from_onnx_path(order["graph"], strongly_typed=True)
    add_outputs(network, library, order["settings"]["adds"])
    mark_weights(network, order["exchanged"])
    parsed = time.perf_counter()
    config = _config(order, library, say)
    content = engine_bytes_from_network(
        (builder, network, parser), config=config, save_timing_cache=order["timing_cache"]
    )
    built = time.perf_counter()
    with Path(order["output"]).open("xb") as file:
        file.write(memoryview(content))
    sys.stdout.flush()
    needs = [int(found) for found in _ACTIVATION.findall(_text_of(Path(order["log"])))]
    return {
        "library_version": library.__version__,
        "parse_seconds": round(parsed - started, 2),
        "build_seconds": round(built - parsed, 2),
        "activation_bytes": max(needs, default=None),
        "peak_bytes": _peak_bytes(),
    }


def _config(order: dict[str, Any], library: Any, say: Say) -> Callable[[Any, Any], Any]:
    from polygraphy.backend.trt import CreateConfig, Profile

    from .refitting import set_refit_flags

    flags = order["settings"]
    profiles = []
    for ranges in order["profiles"]:
        profile = Profile()
        for name, of in ranges.items():
            profile.add(name, tuple(of["min"]), tuple(of["opt"]), tuple(of["max"]))
        profiles.append(profile)
    options: dict[str, Any] = {
        "profiles": profiles,
        "builder_optimization_level": flags["optimization_level"],
        "progress_monitor": _monitor(library, say),
        "profiling_verbosity": library.ProfilingVerbosity.LAYER_NAMES_ONLY,
    }
    if flags["workspace_bytes"] is not None:
        options["memory_pool_limits"] = {library.MemoryPoolType.WORKSPACE: flags["workspace_bytes"]}
    if order["library"] == "tensorrt_rtx":
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

        pairs = [tuple(map(int, capability.split("."))) for capability in order["compute_capabilities"]]
        create: Any = CreateConfigRTX(compute_capabilities=pairs, **options)
    else:
        if flags["hardware_compatible"]:
            options["hardware_compatibility_level"] = library.HardwareCompatibilityLevel.AMPERE_PLUS
        create = CreateConfig(
            load_timing_cache=order["timing_cache"],
            version_compatible=flags["version_compatible"],
            **options,
        )

    def configured(builder: Any, network: Any) -> Any:
        config = create(builder, network)
        if not flags["tf32"]:  # on by default: it computes float32 graphs with 10 bits of mantissa
            config.clear_flag(library.BuilderFlag.TF32)
        set_refit_flags(config, library, flags)
        return config

    return configured


def _monitor(library: Any, say: Say) -> Any:
    """Reports the progress of the library's outermost phase, in thousandths."""

    class Monitor(library.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self._phases: dict[str, tuple[str | None, int]] = {}
            self._steps: dict[str, int] = {}
            self._reported = -1

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases[phase_name] = (parent_phase, max(num_steps, 1))
            self._steps[phase_name] = 0
            self._report()

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._steps[phase_name] = step + 1
            self._report()
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._phases.pop(phase_name, None)
            self._steps.pop(phase_name, None)

        def _report(self) -> None:
            share, width = 0.0, 1.0
            parent: str | None = None
            while (phase := next((name for name, (of, _) in self._phases.items() if of == parent), None)) is not None:
                steps = self._phases[phase][1]
                share += width * min(self._steps[phase], steps) / steps
                width /= steps
                parent = phase
            done = round(_STEPS * min(share, 1.0))
            if done > self._reported:  # a phase may begin again; the bar does not go back
                self._reported = done
                say(event="progress", done=done, total=_STEPS)

    return Monitor()


def _peak_bytes() -> int | None:
    """The peak memory of this process; None if the system does not report it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def _text_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    main()
