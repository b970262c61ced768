"""A model whose signature is its type hint: `mlflow.pyfunc.save_model(python_model=<this file>)`."""

import mlflow
import pydantic


class Message(pydantic.BaseModel):
    role: str
    content: str
    turn: int | None = None


class Hinted(mlflow.pyfunc.PythonModel):
    """Tells what it was given."""

    def predict(self, model_input: list[Message], params=None):
        return [repr(message) for message in model_input]


mlflow.models.set_model(Hinted())
