"""The one preprocessing path: training, evaluation and serving see the same numbers for the same file."""
import dataclasses

import numpy as np

from gtsrb.data import image_paths, read_images, read_table
from gtsrb.predict import Predictor
from gtsrb.signs import synthetic_dataset
from gtsrb.train import BASELINE, SignSequence, load_squares

class Spy:
    "An ONNX Runtime session that keeps what it is fed."
    def __init__(self, session): self.session, self.seen = session, []
    def run(self, names, feed):
        self.seen.append(feed["image"])
        return self.session.run(names, feed)

def test_training_evaluation_and_serving_see_the_same_numbers(tiny, tmp_path):
    root = synthetic_dataset(tmp_path / "signs", 86)
    table = read_table(root)
    n = len(table)
    training = SignSequence(load_squares(table, root), table["class"].to_numpy(),  # all of them, in an epoch's own order
                            dataclasses.replace(BASELINE, batch_size=n, preprocess=Predictor(tiny).preprocess))
    order = training._shuffled()
    predictor = Predictor(tiny)
    spy = predictor.model.session = Spy(predictor.model.session)
    predictor.probabilities(read_images(table, root))             # as uploads
    served = np.concatenate(spy.seen); spy.seen.clear()
    predictor.probabilities(image_paths(table, root))             # as the command line does
    assert len(served) == n and np.array_equal(served, np.concatenate(spy.seen))
    assert np.array_equal(training[0][0], served[order])
