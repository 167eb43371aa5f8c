"""The FastAPI peer: a pydantic body and an async endpoint, under uvicorn with uvloop.

The endpoint is ``async`` although it computes, because the thread that FastAPI gives a plain
``def`` costs more than this model.
"""
# pyright: reportMissingImports=false

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel
from session import open_session, score


class Tensor(BaseModel):
    """One tensor of the Open Inference Protocol."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float]


class Infer(BaseModel):
    """A request."""

    inputs: list[Tensor]


app = FastAPI()
session = open_session()


@app.get("/ready")
async def ready() -> dict[str, bool]:
    """Return that the server is ready."""
    return {"ready": True}


@app.post("/v2/models/fraud/infer")
async def infer(request: Infer) -> dict[str, list[float]]:
    """Score one request."""
    tensor = request.inputs[0]
    features = np.array(tensor.data, np.float32).reshape(tensor.shape)
    return {"probability": score(session, features).tolist()}
