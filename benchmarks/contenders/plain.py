"""What most people write first: FastAPI, and a loop over the uploaded files. RUNTIME=onnx: ONNX Runtime as it comes;
RUNTIME=call: Keras, model(x) for each file; RUNTIME=predict: Keras, model.predict(x) for each file, the original project's way."""
import os

import cv2, numpy as np
from fastapi import FastAPI, UploadFile

MODEL, RUNTIME = os.environ["MODEL"], os.environ["RUNTIME"]
if RUNTIME == "onnx":
    import onnxruntime
    session = onnxruntime.InferenceSession(MODEL)
    SIZE, infer = session.get_inputs()[0].shape[1], lambda x: session.run(["logits"], {"image": x})[0]
else:
    import keras, gtsrb.model   # which registers its layers
    model = keras.models.load_model(MODEL, compile=False); SIZE = model.input_shape[1]
    infer = (lambda x: model.predict(x, verbose=0)) if RUNTIME == "predict" else (lambda x: np.asarray(model(x)))

app = FastAPI()

def prepare(data):
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    x = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.float32)
    return ((x - x.mean()) / max(x.std(), 1.0))[None]

@app.post("/predict")
async def predict(files: list[UploadFile]):
    answers = {}
    for f in files:
        z = infer(prepare(await f.read()))[0]
        p = np.exp(z - z.max()); p /= p.sum()
        answers[f.filename] = {"class": int(p.argmax()), "confidence": float(p.max())}
    return answers
