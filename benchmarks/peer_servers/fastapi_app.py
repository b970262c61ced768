"""A bare FastAPI endpoint that calls `model.predict`; $MODEL is a joblib file."""

import os

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load(os.environ["MODEL"])
app = FastAPI()


class Rows(BaseModel):
    """The request."""

    rows: list[list[float]]


@app.post("/predict")
async def predict(given: Rows) -> dict[str, list[int]]:
    """The answer; on the event loop, which for a call this short is faster than a thread."""
    return {"predictions": model.predict(np.asarray(given.rows)).tolist()}
