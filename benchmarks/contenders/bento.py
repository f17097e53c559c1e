"""BentoML with our `Predictor`: one file a request, two workers."""
import os
from pathlib import Path

import bentoml

from gtsrb.predict import Predictor

@bentoml.service(workers=2, traffic={"timeout": 30})
class Signs:
    def __init__(self): self.predictor = Predictor(os.environ["ARTEFACT"], threads=1)

    @bentoml.api
    def predict(self, files: Path) -> dict:
        found, = self.predictor.predict([files])
        return {"class": found.class_id, "confidence": found.confidence}
