"""A pipeline held against its catalog: which routes it calls, in what order, on what tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from turnout.catalog.pipeline import Pipeline, Reference, Stage
from turnout.catalog.schema import CatalogEntries
from turnout.types import Signature, Task, TensorSpec


@dataclass(slots=True)
class Plan:
    """What a pipeline amounts to.

    Attributes:
        pipeline: the pipeline.
        inputs: the request's tensors, by name.
        outputs: the answer's.
        order: its stages, each after those it reads.
        values: of each parameter, those that have a route.
        tasks: what each stage does.
        one_row: whether a request holds one row only (it picks first rows, or writes text).
        problems: what is wrong, ``stages.rank.route: ...`` each; none when it can run.
    """

    pipeline: Pipeline
    inputs: dict[str, TensorSpec] = field(default_factory=dict[str, TensorSpec])
    outputs: dict[str, TensorSpec] = field(default_factory=dict[str, TensorSpec])
    order: tuple[str, ...] = ()
    values: dict[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    one_row: bool = False
    problems: list[str] = field(default_factory=list[str])

    @property
    def signature(self) -> Signature:
        """Its public tensors."""
        return Signature(tuple(self.inputs.values()), tuple(self.outputs.values()))


def plan(catalog: CatalogEntries, pipeline: Pipeline) -> Plan:
    """Hold a pipeline against its catalog."""
    draft = Plan(pipeline)
    if pipeline.latency_class not in catalog.classes:
        draft.problems.append(f"latency_class: no class is named {pipeline.latency_class!r}")
    _order(draft)
    if draft.problems:
        return draft
    signatures: dict[str, Signature] = {}
    for name in draft.order:
        found = _called(catalog, draft, name)
        if found is None:
            return draft
        signatures[name] = found
        _connect(draft, name, found, signatures)
    _answer(draft, signatures)
    idle = pipeline.stages.keys() - pipeline.needed()
    draft.problems += [f"stages.{n}: nothing in the answer comes from it" for n in sorted(idle)]
    return draft


def _order(draft: Plan) -> None:
    """Every reference names a stage that is there, and no stage waits for itself."""
    pipeline = draft.pipeline
    for name, stage in pipeline.stages.items():
        draft.problems += [
            f"stages.{name}.route: {word!r} is no parameter; add it under parameters"
            for word in stage.words
            if word not in pipeline.parameters
        ]
        draft.problems += [
            f"stages.{name}: no stage is named {other!r}"
            for other in sorted(pipeline.needs(name))
            if other not in pipeline.stages
        ]
    used = {word for stage in pipeline.stages.values() for word in stage.words}
    unused = [name for name in pipeline.parameters if name not in used]
    draft.problems += [f"parameters.{name}: no stage's route has {{{name}}}" for name in unused]
    known = pipeline.stages.keys()
    for name, text in pipeline.out.items():
        if (stage := Reference.read(text).stage) not in known:
            draft.problems.append(f"out.{name}: no stage is named {stage!r}")
    if draft.problems:
        return
    graph = {name: sorted(pipeline.needs(name)) for name in pipeline.stages}
    try:
        draft.order = tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        around = " -> ".join(error.args[1])
        draft.problems.append(f"stages: they wait for each other: {around}")


def _called(catalog: CatalogEntries, draft: Plan, name: str) -> Signature | None:
    """The one signature of every route or model a stage may call."""
    stage = draft.pipeline.stages[name]
    matching = {
        target: values for target in catalog.names if (values := stage.matches(target)) is not None
    }
    routes = {target: values for target, values in matching.items() if target in catalog.routes}
    matching = routes or matching
    if not matching:
        draft.problems.append(f"stages.{name}.route: no route or model is named {stage.route!r}")
        return None
    for word in stage.words:
        known = dict.fromkeys(values[word] for values in matching.values())
        before = draft.values.get(word)
        draft.values[word] = tuple(v for v in known if before is None or v in before)
        default = draft.pipeline.parameters[word].default
        if default is not None and default not in known:
            draft.problems.append(
                f"parameters.{word}.default: stage {name!r} has no route for {default!r}"
            )
    tasks = {_task(catalog, target) for target in matching}
    signatures = [catalog.signature_of(target) for target in matching]
    first = signatures[0]
    if len(tasks) > 1 or first is None or any(other != first for other in signatures):
        shown = ", ".join(list(matching)[:4])
        draft.problems.append(f"stages.{name}.route: they differ in task or dimensions: {shown}")
        return None
    draft.tasks[name] = tasks.pop()
    return first


def _connect(draft: Plan, name: str, signature: Signature, known: Mapping[str, Signature]) -> None:
    """Each input of a stage comes from something of its kind."""
    stage = draft.pipeline.stages[name]
    if (draft.tasks[name] is Task.CHAT) != (stage.prompt is not None):
        need = "a prompt" if draft.tasks[name] is Task.CHAT else "in, not a prompt"
        draft.problems.append(
            f"stages.{name}: its route does {draft.tasks[name].value!r}: give {need}"
        )
        return
    if stage.prompt is not None:
        draft.one_row = True
        _prompted(draft, name, stage, known)
        return
    wanted = {spec.name: spec for spec in signature.inputs}
    for tensor in wanted.keys() - stage.inputs.keys():
        draft.problems.append(f"stages.{name}.in: input {tensor!r} of its route is missing")
    for tensor, text in stage.inputs.items():
        where = f"stages.{name}.in.{tensor}"
        spec = wanted.get(tensor)
        if spec is None:
            takes = ", ".join(wanted)
            draft.problems.append(f"{where}: its route has no such input (it takes {takes})")
            continue
        reference = Reference.read(text)
        draft.one_row |= reference.first
        if reference.stage is None:
            _given(draft, where, reference.tensor, spec)
            continue
        source = _output(draft, where, reference, known)
        if source is not None and not _fits(source, spec):
            draft.problems.append(f"{where}: it takes {_shown(spec)}, {text} is {_shown(source)}")


def _prompted(draft: Plan, name: str, stage: Stage, known: Mapping[str, Signature]) -> None:
    for reference in stage.references():
        where = f"stages.{name}.prompt"
        if reference.stage is None:
            _given(draft, where, reference.tensor, TensorSpec("text", "BYTES", (-1,)))
            continue
        source = _output(draft, where, reference, known)
        if source is not None and source.datatype != "BYTES":
            draft.problems.append(f"{where}: {reference.tensor} is no text: {_shown(source)}")


def _given(draft: Plan, where: str, tensor: str, spec: TensorSpec) -> None:
    """An input of the request takes the kind of what it is given to."""
    before = draft.inputs.setdefault(tensor, TensorSpec(tensor, spec.datatype, spec.shape))
    if (before.datatype, before.shape) != (spec.datatype, spec.shape):
        draft.problems.append(
            f"{where}: input {tensor!r} is {_shown(before)} elsewhere, here {_shown(spec)}"
        )


def _output(
    draft: Plan, where: str, reference: Reference, known: Mapping[str, Signature]
) -> TensorSpec | None:
    """The spec of a stage's output, or of its first row."""
    signature = known[reference.stage or ""]
    spec = next((spec for spec in signature.outputs if spec.name == reference.tensor), None)
    if spec is None:
        has = ", ".join(spec.name for spec in signature.outputs)
        draft.problems.append(
            f"{where}: stage {reference.stage!r} has no output {reference.tensor!r} (it has {has})"
        )
        return None
    shape = spec.shape[1:] if reference.first else spec.shape
    if not shape:
        draft.problems.append(f"{where}: {reference.tensor} has one value a row; leave out .0")
        return None
    return TensorSpec(spec.name, spec.datatype, shape)


def _answer(draft: Plan, known: Mapping[str, Signature]) -> None:
    pipeline = draft.pipeline
    for name, text in pipeline.out.items():
        reference = Reference.read(text)
        draft.one_row |= reference.first
        spec = _output(draft, f"out.{name}", reference, known)
        if spec is not None:
            # A sorted answer is cut to as many rows as the request wants.
            shape = spec.shape if pipeline.sort_by is None else (-1, *spec.shape[1:])
            draft.outputs[name] = TensorSpec(name, spec.datatype, shape)
    for word, parameter in pipeline.parameters.items():
        if parameter.source is None:
            continue
        draft.one_row = True
        spec = _output(draft, f"parameters.{word}.from", Reference.read(parameter.source), known)
        if spec is not None and spec.datatype != "BYTES":
            draft.problems.append(f"parameters.{word}.from: it is no text: {_shown(spec)}")
    key = draft.outputs.get(pipeline.sort_by or "")
    if pipeline.sort_by is not None and (
        key is None or key.datatype == "BYTES" or len(key.shape) != 1
    ):
        draft.problems.append("sort_by: name an output of one number a row")


def _fits(source: TensorSpec, wanted: TensorSpec) -> bool:
    return (
        source.datatype == wanted.datatype
        and len(source.shape) == len(wanted.shape)
        and all(-1 in (a, b) or a == b for a, b in zip(source.shape, wanted.shape, strict=True))
    )


def _shown(spec: TensorSpec) -> str:
    return f"{spec.datatype} [{', '.join('n' if size == -1 else str(size) for size in spec.shape)}]"


def _task(catalog: CatalogEntries, name: str) -> Task:
    return (catalog.routes.get(name) or catalog.models[catalog.model_called(name) or name]).task
