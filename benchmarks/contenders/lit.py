"""LitServe with our `Predictor`: one file a request, batches across requests, two workers."""
import os, sys

import litserve as ls

from gtsrb.predict import Predictor

class Signs(ls.LitAPI):
    def setup(self, device): self.predictor = Predictor(os.environ["ARTEFACT"], threads=1)
    def decode_request(self, request): return request["files"].file.read()
    def batch(self, inputs): return list(inputs)
    def unbatch(self, output): return output
    def predict(self, x): return self.predictor.predict(x) if isinstance(x, list) else self.predictor.predict([x])[0]
    def encode_response(self, output): return {"class": output.class_id, "confidence": output.confidence}

if __name__ == "__main__":
    batch = int(os.environ.get("BATCH", 1))
    api = Signs(max_batch_size=batch, batch_timeout=0.001) if batch > 1 else Signs()
    ls.LitServer(api, accelerator="cpu", workers_per_device=2, timeout=30).run(port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
