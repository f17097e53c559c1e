"""Ray Serve with our `Predictor` behind a FastAPI route, two replicas."""
import os, sys, time

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import ray
from fastapi import FastAPI, UploadFile
from ray import serve

from gtsrb.predict import Predictor

app = FastAPI()

@serve.deployment(num_replicas=2, max_ongoing_requests=64, ray_actor_options={"num_cpus": 1})
@serve.ingress(app)
class Signs:
    def __init__(self, artefact): self.predictor = Predictor(artefact, threads=1)

    @app.post("/predict")
    def predict(self, files: list[UploadFile]):
        found = self.predictor.predict([f.file.read() for f in files])
        return {f.filename: {"class": p.class_id, "confidence": p.confidence} for f, p in zip(files, found)}

if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR")
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Signs.bind(os.environ["ARTEFACT"]))
    while True: time.sleep(60)
