"""For Schemathesis: random bytes never reach a decoder, pictures do, damaged or not. Its files all have one name, so most bodies get one file."""
import random, zlib

import schemathesis

from fuzz_decode import SEEDS, mutate

@schemathesis.hook
def map_body(context, body):
    files = body.get("files") if isinstance(body, dict) else None
    if not isinstance(files, list) or not files or any(isinstance(f, (list, dict, int, float, type(None))) for f in files): return body   # wrong on purpose: it stays wrong
    rng, seeds = random.Random(zlib.crc32(repr(files).encode())), list(SEEDS.values())   # Hypothesis sets `random` itself to the same state each time
    if rng.random() < 0.3: return body
    many = len(files) if len(files) > 1 else rng.choice((1, 1, 1, 5))   # too many on purpose stay too many
    return body | {"files": [mutate(seed, rng, seeds) if rng.random() < 0.5 else seed for seed in rng.choices(seeds, k=many)]}
