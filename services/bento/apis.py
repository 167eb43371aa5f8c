"""The BentoML APIs, one mixin a task, as BentoML's own HTTP clients discover them.

They take BentoML's normal path (discovery, schema, multipart files); the same plane answers.
Only their signatures are here: ``bentoml serve`` imports this in every process, and what they do
(``services.bento.api_handlers``) in none before it is called.
"""

# BentoML reads these annotations at run time, so no ``from __future__ import annotations`` here.
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional  # noqa: UP035 - BentoML needs List for files

import bentoml
import numpy as np

from turnout.types import Task

if TYPE_CHECKING:
    from services.dataplane.data_plane import DataPlane


class ChatApi:
    """``chat``: a conversation in, an answer out."""

    plane: "DataPlane"

    @bentoml.api
    async def chat(
        self,
        ctx: bentoml.Context,
        messages: List[dict[str, Any]],  # noqa: UP006
        model: str = "auto",
        max_tokens: int = 256,
        temperature: float = 0.0,
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Answer a conversation: ``{"text", "model", "decision_id", "usage"}``."""
        from services.bento import api_handlers as calls

        body = {
            "model": model,
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        return await calls.chat(self.plane, ctx, body, (latency_class, deadline_ms))


class ImageApi:
    """``classify``: encoded images in, ImageNet classes out."""

    plane: "DataPlane"

    @bentoml.api
    async def classify(
        self,
        ctx: bentoml.Context,
        image: List[Path],  # noqa: UP006
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Classify n JPEG or PNG files: ``class_id`` [n], ``class_name`` [n], ``score`` [n]."""
        from services.bento import api_handlers as calls

        return await calls.classify(self.plane, ctx, image, model, (latency_class, deadline_ms))


class TabularApi:
    """``score``: rows of features in, probabilities out."""

    plane: "DataPlane"

    @bentoml.api
    async def score(
        self,
        ctx: bentoml.Context,
        features: np.ndarray,
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Score n transactions of 15 features: ``probability`` [n]."""
        from services.bento import api_handlers as calls

        return await calls.score(self.plane, ctx, features, model, (latency_class, deadline_ms))


class EmbedApi:
    """``embed``: sentences in, vectors out."""

    plane: "DataPlane"

    @bentoml.api
    async def embed(
        self,
        ctx: bentoml.Context,
        text: List[str],  # noqa: UP006
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Embed n sentences: ``embedding`` [n, 384]."""
        from services.bento import api_handlers as calls

        said = (latency_class, deadline_ms)
        return await calls.read_text(self.plane, ctx, Task.EMBED, text, model, said)


class ClassifyTextApi:
    """``classify_text``: texts in, labels out."""

    plane: "DataPlane"

    @bentoml.api
    async def classify_text(
        self,
        ctx: bentoml.Context,
        text: List[str],  # noqa: UP006
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Classify n texts: ``label`` [n], ``score`` [n]."""
        from services.bento import api_handlers as calls

        said = (latency_class, deadline_ms)
        return await calls.read_text(self.plane, ctx, Task.CLASSIFY_TEXT, text, model, said)


class RankApi:
    """``rank``: rows of features in, scores to sort by out."""

    plane: "DataPlane"

    @bentoml.api
    async def rank(
        self,
        ctx: bentoml.Context,
        features: np.ndarray,
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Score n candidates: ``score`` [n], higher is better."""
        from services.bento import api_handlers as calls

        given = ("features", features, np.float32, 2)
        said = (latency_class, deadline_ms)
        return await calls.read_numbers(self.plane, ctx, Task.RANK, given, model, said)


class RecommendApi:
    """``recommend``: users in, items out."""

    plane: "DataPlane"

    @bentoml.api
    async def recommend(
        self,
        ctx: bentoml.Context,
        user: List[int],  # noqa: UP006
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Items for n users: ``item``, ``score`` [n, top], ``features`` [n, top, columns]."""
        from services.bento import api_handlers as calls

        given = ("user", user, np.int64, 1)
        said = (latency_class, deadline_ms)
        return await calls.read_numbers(self.plane, ctx, Task.RECOMMEND, given, model, said)


class RetrieveApi:
    """``retrieve``: vectors in, nearest items out."""

    plane: "DataPlane"

    @bentoml.api
    async def retrieve(
        self,
        ctx: bentoml.Context,
        embedding: np.ndarray,
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """The items nearest to n vectors; see ``recommend``."""
        from services.bento import api_handlers as calls

        given = ("embedding", embedding, np.float32, 2)
        said = (latency_class, deadline_ms)
        return await calls.read_numbers(self.plane, ctx, Task.RETRIEVE, given, model, said)


class LookupApi:
    """``lookup``: items in, what is known of them out."""

    plane: "DataPlane"

    @bentoml.api
    async def lookup(
        self,
        ctx: bentoml.Context,
        item: List[int],  # noqa: UP006
        model: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Describe n items: ``text`` [n]."""
        from services.bento import api_handlers as calls

        given = ("item", item, np.int64, 1)
        said = (latency_class, deadline_ms)
        return await calls.read_numbers(self.plane, ctx, Task.LOOKUP, given, model, said)


class RouteApi:
    """``route``: which model would answer, and why, without running it."""

    plane: "DataPlane"

    @bentoml.api
    async def route(
        self,
        ctx: bentoml.Context,
        inputs: dict[str, Any],
        route: str = "auto",
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
        max_cost_usd: Optional[float] = None,  # noqa: UP045
        min_quality: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Decide: the same body and answer as ``POST /v1/route``."""
        from services.bento import api_handlers as calls

        body = {
            "route": route,
            "inputs": inputs,
            "latency_class": latency_class,
            "deadline_ms": deadline_ms,
            "max_cost_usd": max_cost_usd,
            "min_quality": min_quality,
        }
        return calls.route(self.plane, ctx, body)


class PipelineApi:
    """``pipeline``: several routes behind one name."""

    plane: "DataPlane"

    @bentoml.api
    async def pipeline(
        self,
        ctx: bentoml.Context,
        name: str,
        inputs: dict[str, Any],
        parameters: Optional[dict[str, str]] = None,  # noqa: UP045
        limit: Optional[int] = None,  # noqa: UP045
        latency_class: Optional[str] = None,  # noqa: UP045
        deadline_ms: Optional[float] = None,  # noqa: UP045
    ) -> dict[str, Any]:
        """Answer: the same body and answer as ``POST /v1/pipelines/NAME``."""
        from services.bento import api_handlers as calls

        body = {
            "inputs": inputs,
            "parameters": parameters,
            "limit": limit,
            "latency_class": latency_class,
            "deadline_ms": deadline_ms,
        }
        return await calls.pipeline(self.plane, ctx, name, body)


API_OF: Mapping[Task, type] = {
    Task.CHAT: ChatApi,
    Task.IMAGE: ImageApi,
    Task.TABULAR: TabularApi,
    Task.EMBED: EmbedApi,
    Task.CLASSIFY_TEXT: ClassifyTextApi,
    Task.RANK: RankApi,
    Task.RECOMMEND: RecommendApi,
    Task.RETRIEVE: RetrieveApi,
    Task.LOOKUP: LookupApi,
}
