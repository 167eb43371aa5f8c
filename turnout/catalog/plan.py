"""Execution plans of pipelines, checked against the catalog: routes, order and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from turnout.catalog.pipeline import Pipeline, Reference
from turnout.catalog.schema import CatalogEntries
from turnout.types import Signature, Task, TensorSpec


@dataclass(slots=True)
class Plan:
    """The execution plan of a pipeline.

    Attributes:
        pipeline: the pipeline.
        inputs: the request's tensors, by name.
        outputs: the answer's tensors, by name.
        order: its stages, each after those it reads.
        values: the values of each parameter that have a route.
        tasks: the task of each stage.
        one_row: whether a request holds one row only (it picks first rows, or writes text).
        problems: one line each, ``stages.rank.route: ...``; empty when the pipeline can run.
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
        """The pipeline's public tensors."""
        return Signature(tuple(self.inputs.values()), tuple(self.outputs.values()))


def plan(catalog: CatalogEntries, pipeline: Pipeline) -> Plan:
    """Check a pipeline against its catalog and plan its execution."""
    draft = Plan(pipeline)
    if pipeline.latency_class not in catalog.classes:
        draft.problems.append(f"latency_class: no class is named {pipeline.latency_class!r}")
    _order(draft)
    if draft.problems:
        return draft
    signatures: dict[str, Signature] = {}
    for name in draft.order:
        signature = _signature_of_stage(catalog, draft, name)
        if signature is None:
            return draft
        signatures[name] = signature
        _connect(draft, name, signatures)
    _bind_outputs(draft, signatures)
    idle = pipeline.stages.keys() - pipeline.needed()
    draft.problems += [f"stages.{n}: nothing in the answer comes from it" for n in sorted(idle)]
    return draft


def _order(draft: Plan) -> None:
    """Order the stages; report references to missing stages, and cycles."""
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
    stages = pipeline.stages.keys()
    for name, text in pipeline.out.items():
        if (stage := Reference.read(text).stage) not in stages:
            draft.problems.append(f"out.{name}: no stage is named {stage!r}")
    if draft.problems:
        return
    graph = {name: sorted(pipeline.needs(name)) for name in pipeline.stages}
    try:
        draft.order = tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        around = " -> ".join(error.args[1])
        draft.problems.append(f"stages: they wait for each other: {around}")


def _signature_of_stage(catalog: CatalogEntries, draft: Plan, name: str) -> Signature | None:
    """Return the signature shared by every route or model that a stage may call."""
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
        available = dict.fromkeys(values[word] for values in matching.values())
        earlier = draft.values.get(word)
        draft.values[word] = tuple(v for v in available if earlier is None or v in earlier)
        default = draft.pipeline.parameters[word].default
        if default is not None and default not in available:
            draft.problems.append(
                f"parameters.{word}.default: stage {name!r} has no route for {default!r}"
            )
    tasks = {_task(catalog, target) for target in matching}
    signatures = [catalog.signature_of(target) for target in matching]
    first = signatures[0]
    if len(tasks) > 1 or first is None or any(other != first for other in signatures):
        listed = ", ".join(list(matching)[:4])
        draft.problems.append(f"stages.{name}.route: they differ in task or dimensions: {listed}")
        return None
    draft.tasks[name] = tasks.pop()
    return first


def _connect(draft: Plan, name: str, signatures: Mapping[str, Signature]) -> None:
    """Check that each input of a stage comes from a tensor of the same kind."""
    stage = draft.pipeline.stages[name]
    if (draft.tasks[name] is Task.CHAT) != (stage.prompt is not None):
        need = "a prompt" if draft.tasks[name] is Task.CHAT else "in, not a prompt"
        draft.problems.append(
            f"stages.{name}: its route does {draft.tasks[name].value!r}: give {need}"
        )
        return
    if stage.prompt is not None:
        draft.one_row = True
        _check_prompt(draft, name, signatures)
        return
    inputs = {spec.name: spec for spec in signatures[name].inputs}
    for tensor in inputs.keys() - stage.inputs.keys():
        draft.problems.append(f"stages.{name}.in: input {tensor!r} of its route is missing")
    for tensor, text in stage.inputs.items():
        where = f"stages.{name}.in.{tensor}"
        spec = inputs.get(tensor)
        if spec is None:
            takes = ", ".join(inputs)
            draft.problems.append(f"{where}: its route has no such input (it takes {takes})")
            continue
        reference = Reference.read(text)
        draft.one_row |= reference.first
        if reference.stage is None:
            _bind_request_input(draft, where, reference.tensor, spec)
            continue
        source = _output(draft, where, reference, signatures)
        if source is not None and not _fits(source, spec):
            draft.problems.append(f"{where}: it takes {_shown(spec)}, {text} is {_shown(source)}")


def _check_prompt(draft: Plan, name: str, signatures: Mapping[str, Signature]) -> None:
    for reference in draft.pipeline.stages[name].references():
        where = f"stages.{name}.prompt"
        if reference.stage is None:
            _bind_request_input(draft, where, reference.tensor, TensorSpec("text", "BYTES", (-1,)))
            continue
        source = _output(draft, where, reference, signatures)
        if source is not None and source.datatype != "BYTES":
            draft.problems.append(f"{where}: {reference.tensor} is no text: {_shown(source)}")


def _bind_request_input(draft: Plan, where: str, tensor: str, spec: TensorSpec) -> None:
    """Give an input of the request the datatype and shape of the stage input that reads it."""
    earlier = draft.inputs.setdefault(tensor, TensorSpec(tensor, spec.datatype, spec.shape))
    if (earlier.datatype, earlier.shape) != (spec.datatype, spec.shape):
        draft.problems.append(
            f"{where}: input {tensor!r} is {_shown(earlier)} elsewhere, here {_shown(spec)}"
        )


def _output(
    draft: Plan, where: str, reference: Reference, signatures: Mapping[str, Signature]
) -> TensorSpec | None:
    """Return the spec of a stage's output, or of its first row."""
    signature = signatures[reference.stage or ""]
    spec = next((spec for spec in signature.outputs if spec.name == reference.tensor), None)
    if spec is None:
        out = ", ".join(spec.name for spec in signature.outputs)
        draft.problems.append(
            f"{where}: stage {reference.stage!r} has no output {reference.tensor!r} (it has {out})"
        )
        return None
    shape = spec.shape[1:] if reference.first else spec.shape
    if not shape:
        draft.problems.append(f"{where}: {reference.tensor} has one value a row; leave out .0")
        return None
    return TensorSpec(spec.name, spec.datatype, shape)


def _bind_outputs(draft: Plan, signatures: Mapping[str, Signature]) -> None:
    pipeline = draft.pipeline
    for name, text in pipeline.out.items():
        reference = Reference.read(text)
        draft.one_row |= reference.first
        spec = _output(draft, f"out.{name}", reference, signatures)
        if spec is not None:
            # A sorted answer is cut to as many rows as the request wants.
            shape = spec.shape if pipeline.sort_by is None else (-1, *spec.shape[1:])
            draft.outputs[name] = TensorSpec(name, spec.datatype, shape)
    for word, parameter in pipeline.parameters.items():
        if parameter.source is None:
            continue
        draft.one_row = True
        where = f"parameters.{word}.from"
        spec = _output(draft, where, Reference.read(parameter.source), signatures)
        if spec is not None and spec.datatype != "BYTES":
            draft.problems.append(f"{where}: it is no text: {_shown(spec)}")
    key = draft.outputs.get(pipeline.sort_by or "")
    if pipeline.sort_by is not None and (
        key is None or key.datatype == "BYTES" or len(key.shape) != 1
    ):
        draft.problems.append("sort_by: name an output of one number a row")


def _fits(source: TensorSpec, needed: TensorSpec) -> bool:
    return (
        source.datatype == needed.datatype
        and len(source.shape) == len(needed.shape)
        and all(-1 in (a, b) or a == b for a, b in zip(source.shape, needed.shape, strict=True))
    )


def _shown(spec: TensorSpec) -> str:
    return f"{spec.datatype} [{', '.join('n' if size == -1 else str(size) for size in spec.shape)}]"


def _task(catalog: CatalogEntries, name: str) -> Task:
    return (catalog.routes.get(name) or catalog.models[catalog.model_called(name) or name]).task
