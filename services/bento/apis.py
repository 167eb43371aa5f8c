"""The BentoML APIs, one mixin a task, as BentoML's own HTTP clients discover them.

They take BentoML's normal path (discovery, schema, multipart files); the same data plane answers.
Only their signatures are here: ``bentoml serve`` imports this in every process, and the handlers
(``services.bento.api_handlers``) in none before an API is called, so each API imports them.
"""

# BentoML reads these annotations at run time, so no ``from __future__ import annotations`` here.
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional  # noqa: UP035 - BentoML needs List for files

import bentoml
import numpy as np

from turnout.types import Task

if TYPE_CHECKING:  # the process of ``bentoml serve`` itself needs no data plane
    from services.dataplane.data_plane import DataPlane

Json = dict[str, Any]
Text = Optional[str]  # noqa: UP045
Number = Optional[float]  # noqa: UP045


class Api:
    """A mixin with one API.

    Attributes:
        plane: answers it.
    """

    plane: "DataPlane"


class ChatApi(Api):
    """``chat``: a conversation in, an answer out."""

    @bentoml.api
    async def chat(
        self,
        ctx: bentoml.Context,
        messages: List[Json],  # noqa: UP006
        model: str = "auto",
        max_tokens: int = 256,
        temperature: float = 0.0,
        latency_class: Text = None,
        deadline_ms: Number = None,
    ) -> Json:
        """Answer a conversation: ``{"text", "model", "decision_id", "usage"}``."""
        from services.bento import api_handlers

        body = {
            "model": model,
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        return await api_handlers.chat(self.plane, ctx, body, latency_class, deadline_ms)


class RouteApi(Api):
    """``route``: which model would answer, and why, without running it."""

    @bentoml.api
    async def route(
        self,
        ctx: bentoml.Context,
        inputs: Json,
        route: str = "auto",
        latency_class: Text = None,
        deadline_ms: Number = None,
        max_cost_usd: Number = None,
        min_quality: Number = None,
    ) -> Json:
        """Decide: the same body and answer as ``POST /v1/route``."""
        from services.bento import api_handlers

        body = {
            "route": route,
            "inputs": inputs,
            "latency_class": latency_class,
            "deadline_ms": deadline_ms,
            "max_cost_usd": max_cost_usd,
            "min_quality": min_quality,
        }
        return api_handlers.route(self.plane, ctx, body)


class PipelineApi(Api):
    """``pipeline``: several routes behind one name."""

    @bentoml.api
    async def pipeline(
        self,
        ctx: bentoml.Context,
        name: str,
        inputs: Json,
        parameters: Optional[dict[str, str]] = None,  # noqa: UP045
        limit: Optional[int] = None,  # noqa: UP045
        latency_class: Text = None,
        deadline_ms: Number = None,
    ) -> Json:
        """Answer: the same body and answer as ``POST /v1/pipelines/NAME``."""
        from services.bento import api_handlers

        body = {
            "inputs": inputs,
            "parameters": parameters,
            "limit": limit,
            "latency_class": latency_class,
            "deadline_ms": deadline_ms,
        }
        return await api_handlers.pipeline(self.plane, ctx, name, body)


def _tensor_api(task: Task, name: str, tensor: str, kind: Any, doc: str) -> type[Api]:
    """A mixin with an API that takes one tensor and answers with the tensors of a task.

    Args:
        task: the task.
        name: of the API.
        tensor: the name of its first parameter; the others are the same for all of these APIs.
        kind: the type of that parameter.
        doc: the docstring of the API.
    """

    async def api(
        self: Api,
        ctx: bentoml.Context,
        model: str = "auto",
        latency_class: Text = None,
        deadline_ms: Number = None,
        **inputs: Any,
    ) -> Json:
        from services.bento import api_handlers

        return await api_handlers.infer(
            self.plane, ctx, task, model, inputs, latency_class, deadline_ms
        )

    signature = inspect.signature(api)
    owner, context, *routing, _ = signature.parameters.values()
    first = context.replace(name=tensor, annotation=kind)
    api.__signature__ = signature.replace(parameters=[owner, context, first, *routing])  # type: ignore[attr-defined]
    api.__name__ = api.__qualname__ = name
    api.__doc__ = doc
    return type(f"{name}_api", (Api,), {name: bentoml.api(api), "__doc__": doc})


API_OF: Mapping[Task, type] = {
    Task.CHAT: ChatApi,
    Task.IMAGE: _tensor_api(
        Task.IMAGE, "classify", "image", List[Path],  # noqa: UP006
        "Classify n JPEG or PNG files: ``class_id`` [n], ``class_name`` [n], ``score`` [n].",
    ),
    Task.TABULAR: _tensor_api(
        Task.TABULAR, "score", "features", np.ndarray,
        "Score n transactions of 15 features: ``probability`` [n].",
    ),
    Task.EMBED: _tensor_api(
        Task.EMBED, "embed", "text", List[str],  # noqa: UP006
        "Embed n sentences: ``embedding`` [n, 384].",
    ),
    Task.CLASSIFY_TEXT: _tensor_api(
        Task.CLASSIFY_TEXT, "classify_text", "text", List[str],  # noqa: UP006
        "Classify n texts: ``label`` [n], ``score`` [n].",
    ),
    Task.RANK: _tensor_api(
        Task.RANK, "rank", "features", np.ndarray,
        "Score n candidates: ``score`` [n], higher is better.",
    ),
    Task.RECOMMEND: _tensor_api(
        Task.RECOMMEND, "recommend", "user", List[int],  # noqa: UP006
        "Items for n users: ``item``, ``score`` [n, top], ``features`` [n, top, columns].",
    ),
    Task.RETRIEVE: _tensor_api(
        Task.RETRIEVE, "retrieve", "embedding", np.ndarray,
        "The items nearest to n vectors; see ``recommend``.",
    ),
    Task.LOOKUP: _tensor_api(
        Task.LOOKUP, "lookup", "item", List[int],  # noqa: UP006
        "Describe n items: ``text`` [n].",
    ),
}  # fmt: skip
