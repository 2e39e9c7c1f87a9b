"""The cases, backends and folders of a run, and the jobs that the groups of measurements consist of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .backend_parts import backend_measures
from .cases import Case, Contender
from .engines import EngineJob, bundle_measures, engine_measures
from .peer import peer_measures
from .processes import Job
from .report import Report
from .subject import Subject

if TYPE_CHECKING:  # gpu_check imports this module before it makes latentrt importable
    from latentrt.runtime.arrays.kinds import Dtype
    from latentrt.runtime.backends.names import EngineBackendName

__all__ = ["DTYPES", "Setup"]

DTYPES: "tuple[Dtype, ...]" = ("float32", "float16", "bfloat16")
_PREPARE_SECONDS = 90.0
_ENGINE_SECONDS = 120.0
_TORCH_SECONDS = 60.0
_OURS_SECONDS = 60.0
_COMPILE_SECONDS = 100.0


@dataclass(frozen=True)
class Setup:
    """The cases, backends and folders of a run.

    Attributes:
        dry: True for a dry run on the CPU.
        work: folder for weights, bundles and engines.
        cases: the cases.
        small: a small case of each model.
        engines: labels of the backends that run our engines, or of their stand-ins if none can run.
        libraries: libraries that engines are built with.
        providers: labels of the other backends.
        capability: compute capability of the GPU.
    """

    dry: bool
    work: Path
    cases: tuple[Case, ...]
    small: tuple[Case, ...]
    engines: tuple[str, ...]
    libraries: "tuple[EngineBackendName, ...]"
    providers: tuple[str, ...]
    capability: str

    @property
    def device(self) -> str:
        return "cpu" if self.dry else "cuda"

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(case.model for case in self.cases))

    @property
    def firsts(self) -> list[Case]:
        """The first case of each model."""
        return [self.first(model) for model in self.models]

    def first(self, model: str) -> Case:
        return next(case for case in self.cases if case.model == model)

    def libraries_of(self, dtype: "Dtype") -> "tuple[EngineBackendName, ...]":
        """Return the libraries that build in a precision. A dry run builds float16 only."""
        return () if self.dry and dtype != "float16" else self.libraries

    def folder(self, model: str) -> Path:
        return self.work / model

    def checkpoint(self, model: str) -> Path:
        return self.folder(model) / "checkpoint"

    def bundle(self, model: str, component: str = "decoder") -> Path:
        return self.folder(model) / component

    def wanted(self, case: Case, component: str = "decoder") -> Path:
        return self.work / f"{case.name} {component}.npy"

    def capabilities(self, library: str) -> tuple[str, ...]:
        """Return the compute capabilities to build for; none for `tensorrt`, which builds for the machine's GPU."""
        return (self.capability,) if library == "tensorrt-rtx" else ()

    # Jobs

    def prepared(self, model: str, component: str = "decoder", *, meanwhile: bool = False) -> Job:
        """Return the job that writes random weights and exports one component in each precision."""
        case = self.first(model)
        export = ("export", component)
        asked = (
            (export,) if component == "encoder" else (("weights", "random"), export)
        )  # the encoder's job uses the weights of the decoder's job
        arguments = (case, self.checkpoint(model), self.bundle(model, component), component, DTYPES)
        return Job(model, asked, bundle_measures, arguments, _PREPARE_SECONDS, alone=False, meanwhile=meanwhile)

    def built(self, engine: EngineJob, limit_seconds: float = _ENGINE_SECONDS) -> Job:
        case = engine.case.name
        return Job(case, ((engine.part, engine.by),), engine_measures, (engine,), limit_seconds, alone=False)

    def engine(self, case: Case, library: "EngineBackendName", dtype: "Dtype", **options: Any) -> EngineJob:
        component = options.get("component", "decoder")
        part = options.pop("part", "engine" if component == "decoder" else "engine of the encoder")
        bundle = self.bundle(case.model, component)
        return EngineJob(part, case, bundle, library, dtype, self.capabilities(library), **options)

    def by_torch(
        self,
        case: Case,
        asked: Mapping[Contender, tuple[str, ...]],
        component: str = "decoder",
        *,
        reference: bool = False,
    ) -> Job:
        """Return the job of the asked measurements; with `reference`, it writes the reference first."""
        parts = [(part, one.name) for one, of in asked.items() for part in of]
        parts = [("reference", "torch float32")] * reference + parts
        compiled = any(one.kind == "torch.compile" for one in asked)
        unless = "measured on a GPU only: on a CPU it needs a C++ compiler" if compiled and self.dry else None
        checkpoint, wanted = self.checkpoint(case.model), self.wanted(case, component)
        arguments = (case, component, tuple(asked), checkpoint, wanted, self.folder(case.model), self.device)
        limit = _COMPILE_SECONDS if compiled else _TORCH_SECONDS
        return Job(case.name, tuple(parts), peer_measures, arguments, limit, unless=unless)

    def by_us(
        self,
        case: Case,
        contender: Contender,
        parts: Iterable[str],
        report: Report,
        *,
        component: str = "decoder",
        engine: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> Job:
        """Return the job of `parts` of one backend. `engine` is the part that built its engines, if it has any."""
        part = engine or ("engine" if component == "decoder" else "engine of the encoder")
        state = report.status(part, case.name, contender.name)
        missing = contender.kind in self.libraries and state != "ok"
        bundle, wanted = self.bundle(case.model, component), self.wanted(case, component)
        subject = Subject(case, contender, bundle, wanted, self.device, component)
        return Job(
            case.name,
            tuple((one, contender.name) for one in parts),
            backend_measures,
            (subject, self.folder(case.model)),
            _OURS_SECONDS,
            unless=f"there is no engine ({part}: {state})" if missing else None,
            environment=environment or {},
        )
