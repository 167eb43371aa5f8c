"""The BentoML peer: a plain API and a batchable one, with BentoML's own batching."""

from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType, Shape
from session import open_session, score

Features = Annotated[np.ndarray, DType("float32"), Shape((-1, 15))]


@bentoml.service(workers=1, traffic={"timeout": 10, "max_concurrency": 1000})
class Fraud:
    """The fraud model behind two APIs."""

    def __init__(self) -> None:
        self.session = open_session()

    @bentoml.api
    async def single(self, features: Features) -> np.ndarray:
        """Score without batching."""
        return score(self.session, features)

    @bentoml.api(batchable=True, max_batch_size=256, max_latency_ms=100)
    def batched(self, features: Features) -> np.ndarray:
        """Score in BentoML's adaptive batches."""
        return score(self.session, features)
