"""A pipeline held against its catalog: which routes it calls, in what order, on what tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from turnout.catalog.pipeline import Pipeline, Reference, Stage
from turnout.types import Signature, Task, TensorSpec

if TYPE_CHECKING:
    from turnout.catalog.schema import Catalog


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


def plan(catalog: Catalog, pipeline: Pipeline) -> Plan:
    """Hold a pipeline against its catalog."""
    made = Plan(pipeline)
    if pipeline.latency_class not in catalog.classes:
        made.problems.append(f"latency_class: no class is named {pipeline.latency_class!r}")
    _order(made)
    if made.problems:
        return made
    signatures: dict[str, Signature] = {}
    for name in made.order:
        found = _called(catalog, made, name)
        if found is None:
            return made
        signatures[name] = found
        _connect(made, name, found, signatures)
    _answer(made, signatures)
    idle = pipeline.stages.keys() - pipeline.needed()
    made.problems += [f"stages.{n}: nothing in the answer comes from it" for n in sorted(idle)]
    return made


def _order(made: Plan) -> None:
    """Every reference names a stage that is there, and no stage waits for itself."""
    pipeline = made.pipeline
    for name, stage in pipeline.stages.items():
        made.problems += [
            f"stages.{name}.route: {word!r} is no parameter; add it under parameters"
            for word in stage.words
            if word not in pipeline.parameters
        ]
        made.problems += [
            f"stages.{name}: no stage is named {other!r}"
            for other in sorted(pipeline.needs(name))
            if other not in pipeline.stages
        ]
    used = {word for stage in pipeline.stages.values() for word in stage.words}
    unused = [name for name in pipeline.parameters if name not in used]
    made.problems += [f"parameters.{name}: no stage's route has {{{name}}}" for name in unused]
    known = pipeline.stages.keys()
    for name, text in pipeline.out.items():
        if (stage := Reference.read(text).stage) not in known:
            made.problems.append(f"out.{name}: no stage is named {stage!r}")
    if made.problems:
        return
    graph = {name: sorted(pipeline.needs(name)) for name in pipeline.stages}
    try:
        made.order = tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        around = " -> ".join(error.args[1])
        made.problems.append(f"stages: they wait for each other: {around}")


def _called(catalog: Catalog, made: Plan, name: str) -> Signature | None:
    """The one signature of every route or model a stage may call."""
    stage = made.pipeline.stages[name]
    matching = {
        target: values for target in catalog.names if (values := stage.matches(target)) is not None
    }
    routes = {target: values for target, values in matching.items() if target in catalog.routes}
    matching = routes or matching
    if not matching:
        made.problems.append(f"stages.{name}.route: no route or model is named {stage.route!r}")
        return None
    for word in stage.words:
        known = dict.fromkeys(values[word] for values in matching.values())
        before = made.values.get(word)
        made.values[word] = tuple(v for v in known if before is None or v in before)
        default = made.pipeline.parameters[word].default
        if default is not None and default not in known:
            made.problems.append(
                f"parameters.{word}.default: stage {name!r} has no route for {default!r}"
            )
    tasks = {_task(catalog, target) for target in matching}
    signatures = [catalog.signature_of(target) for target in matching]
    first = signatures[0]
    if len(tasks) > 1 or first is None or any(other != first for other in signatures):
        shown = ", ".join(list(matching)[:4])
        made.problems.append(f"stages.{name}.route: they differ in task or dimensions: {shown}")
        return None
    made.tasks[name] = tasks.pop()
    return first


def _connect(made: Plan, name: str, signature: Signature, known: Mapping[str, Signature]) -> None:
    """Each input of a stage comes from something of its kind."""
    stage = made.pipeline.stages[name]
    if (made.tasks[name] is Task.CHAT) != (stage.prompt is not None):
        need = "a prompt" if made.tasks[name] is Task.CHAT else "in, not a prompt"
        made.problems.append(
            f"stages.{name}: its route does {made.tasks[name].value!r}: give {need}"
        )
        return
    if stage.prompt is not None:
        made.one_row = True
        _prompted(made, name, stage, known)
        return
    wanted = {spec.name: spec for spec in signature.inputs}
    for tensor in wanted.keys() - stage.inputs.keys():
        made.problems.append(f"stages.{name}.in: input {tensor!r} of its route is missing")
    for tensor, text in stage.inputs.items():
        where = f"stages.{name}.in.{tensor}"
        spec = wanted.get(tensor)
        if spec is None:
            takes = ", ".join(wanted)
            made.problems.append(f"{where}: its route has no such input (it takes {takes})")
            continue
        reference = Reference.read(text)
        made.one_row |= reference.first
        if reference.stage is None:
            _given(made, where, reference.tensor, spec)
            continue
        source = _output(made, where, reference, known)
        if source is not None and not _fits(source, spec):
            made.problems.append(f"{where}: it takes {_shown(spec)}, {text} is {_shown(source)}")


def _prompted(made: Plan, name: str, stage: Stage, known: Mapping[str, Signature]) -> None:
    for reference in stage.references():
        where = f"stages.{name}.prompt"
        if reference.stage is None:
            _given(made, where, reference.tensor, TensorSpec("text", "BYTES", (-1,)))
            continue
        source = _output(made, where, reference, known)
        if source is not None and source.datatype != "BYTES":
            made.problems.append(f"{where}: {reference.tensor} is no text: {_shown(source)}")


def _given(made: Plan, where: str, tensor: str, spec: TensorSpec) -> None:
    """An input of the request takes the kind of what it is given to."""
    before = made.inputs.setdefault(tensor, TensorSpec(tensor, spec.datatype, spec.shape))
    if (before.datatype, before.shape) != (spec.datatype, spec.shape):
        made.problems.append(
            f"{where}: input {tensor!r} is {_shown(before)} elsewhere, here {_shown(spec)}"
        )


def _output(
    made: Plan, where: str, reference: Reference, known: Mapping[str, Signature]
) -> TensorSpec | None:
    """The spec of a stage's output, or of its first row."""
    signature = known[reference.stage or ""]
    spec = next((spec for spec in signature.outputs if spec.name == reference.tensor), None)
    if spec is None:
        has = ", ".join(spec.name for spec in signature.outputs)
        made.problems.append(
            f"{where}: stage {reference.stage!r} has no output {reference.tensor!r} (it has {has})"
        )
        return None
    shape = spec.shape[1:] if reference.first else spec.shape
    if not shape:
        made.problems.append(f"{where}: {reference.tensor} has one value a row; leave out .0")
        return None
    return TensorSpec(spec.name, spec.datatype, shape)


def _answer(made: Plan, known: Mapping[str, Signature]) -> None:
    pipeline = made.pipeline
    for name, text in pipeline.out.items():
        reference = Reference.read(text)
        made.one_row |= reference.first
        spec = _output(made, f"out.{name}", reference, known)
        if spec is not None:
            # A sorted answer is cut to as many rows as the request wants.
            shape = spec.shape if pipeline.sort_by is None else (-1, *spec.shape[1:])
            made.outputs[name] = TensorSpec(name, spec.datatype, shape)
    for word, parameter in pipeline.parameters.items():
        if parameter.source is None:
            continue
        made.one_row = True
        spec = _output(made, f"parameters.{word}.from", Reference.read(parameter.source), known)
        if spec is not None and spec.datatype != "BYTES":
            made.problems.append(f"parameters.{word}.from: it is no text: {_shown(spec)}")
    key = made.outputs.get(pipeline.sort_by or "")
    if pipeline.sort_by is not None and (
        key is None or key.datatype == "BYTES" or len(key.shape) != 1
    ):
        made.problems.append("sort_by: name an output of one number a row")


def _fits(source: TensorSpec, wanted: TensorSpec) -> bool:
    return (
        source.datatype == wanted.datatype
        and len(source.shape) == len(wanted.shape)
        and all(-1 in (a, b) or a == b for a, b in zip(source.shape, wanted.shape, strict=True))
    )


def _shown(spec: TensorSpec) -> str:
    return f"{spec.datatype} [{', '.join('n' if size == -1 else str(size) for size in spec.shape)}]"


def _task(catalog: Catalog, name: str) -> Task:
    return (catalog.routes.get(name) or catalog.models[catalog.model_called(name) or name]).task
