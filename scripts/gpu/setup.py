"""What a run has to work with: cases, backends, folders; and the jobs that every group of measurements is made of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .backend_parts import backend_measures
from .cases import Case, Contender
from .engines import EngineJob, bundle_measures, engine_measures
from .peer import peer_measures
from .processes import Job
from .report import Report
from .subject import Subject

__all__ = ["DTYPES", "Setup"]

DTYPES = ("float32", "float16", "bfloat16")
_PREPARE_SECONDS = 90.0
_ENGINE_SECONDS = 120.0
_TORCH_SECONDS = 60.0
_OURS_SECONDS = 60.0
_COMPILE_SECONDS = 100.0


@dataclass(frozen=True)
class Setup:
    """`engines`: the labels of the backends that run engines of ours; where none can, of what stands in for them.
    `libraries`: those that engines are built with, for GPUs of `capability`. `providers`: the other backends, by label.
    `small`: a small case of each model."""

    dry: bool
    work: Path
    cases: tuple[Case, ...]
    small: tuple[Case, ...]
    engines: tuple[str, ...]
    libraries: tuple[str, ...]
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

    def libraries_of(self, dtype: str) -> tuple[str, ...]:
        """Those that build in a precision: in a dry run the others take the same steps as float16."""
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
        """`tensorrt` builds for the GPU that it finds."""
        return (self.capability,) if library == "tensorrt-rtx" else ()

    # Jobs

    def prepared(self, model: str, component: str = "decoder", *, meanwhile: bool = False) -> Job:
        """Random weights and a bundle of one component, in every precision."""
        case = self.first(model)
        export = ("export", component)
        asked = (
            (export,) if component == "encoder" else (("weights", "random"), export)
        )  # which the encoder's job finds
        arguments = (case, self.checkpoint(model), self.bundle(model, component), component, DTYPES)
        return Job(model, asked, bundle_measures, arguments, _PREPARE_SECONDS, alone=False, meanwhile=meanwhile)

    def built(self, engine: EngineJob, limit_seconds: float = _ENGINE_SECONDS) -> Job:
        case = engine.case.name
        return Job(case, ((engine.part, engine.by),), engine_measures, (engine,), limit_seconds, alone=False)

    def engine(self, case: Case, library: str, dtype: str, **options: Any) -> EngineJob:
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
        """What is asked of each contender; with `reference` that first."""
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
        """`parts` by one backend. Where it runs engines, these were to be built as `engine`."""
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
