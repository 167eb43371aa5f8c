"""The MLServer peer: a custom runtime in the server's process (``parallel_workers`` 0)."""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import os
import sys
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

sys.path.insert(0, str(Path(os.environ["PEERS_FOLDER"])))
from session import open_session, score


class FraudModel(MLModel):
    """The fraud model."""

    async def load(self) -> bool:
        """Load the model."""
        self.session = open_session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score one request."""
        features = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        output = NumpyCodec.encode_output("probability", score(self.session, features))
        return InferenceResponse(model_name=self.name, outputs=[output])
