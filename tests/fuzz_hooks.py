"""For Schemathesis: random bytes never reach a decoder, pictures do, damaged or not. Its files all have one name, so most bodies get one file."""
import random

import schemathesis

from fuzz_decode import SEEDS, mutate

@schemathesis.hook
def map_body(context, body):
    if not isinstance(body, dict) or not isinstance(body.get("files"), list) or random.random() < 0.3: return body
    seeds = list(SEEDS.values())
    files = [mutate(seed, random, seeds) if random.random() < 0.5 else seed for seed in random.choices(seeds, k=random.choice((1, 1, 1, 5)))]
    return body | {"files": files}
