"""LitServe with batching; $MODEL is a joblib file, $WORKERS how many processes, $PORT where."""

import os

import joblib
import litserve
import numpy as np


class Tumours(litserve.LitAPI):
    """The service."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's shape
        """Load the model, once in each worker."""
        self.model = joblib.load(os.environ["MODEL"])

    def decode_request(self, request: dict[str, list[float]]) -> list[float]:
        """The row."""
        return request["input"]

    def batch(self, inputs: list[list[float]]) -> np.ndarray:
        """The rows of the requests that wait."""
        return np.asarray(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The answers."""
        return self.model.predict(x)

    def unbatch(self, output: np.ndarray) -> list[int]:
        """An answer to each request."""
        return output.tolist()

    def encode_response(self, output: int) -> dict[str, int]:
        """The answer."""
        return {"output": output}


if __name__ == "__main__":
    workers = int(os.environ["WORKERS"])
    api = Tumours(max_batch_size=64, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=workers,
        log_level="warning",
        generate_client_file=False,
    )
