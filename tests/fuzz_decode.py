"""Damage to small images, and what must hold for it: the fuzz target of the decode path.

`python tests/fuzz_decode.py` mutates the seeds in tests/fuzz for 60 s (--seconds), with Atheris where it is installed, else by the
mutations below, which tests and benchmarks/soak.py share; `--seeds` writes the seeds anew. A file that has once made trouble is kept among them."""
import argparse, io, random, struct, sys, tempfile, time, zlib
from pathlib import Path

import numpy as np

from gtsrb.preprocess import ERROR_CODES, ImageError, Limits, cv2, decode_image, probe_image

FOLDER = Path(__file__).parent / "fuzz"
SEEDS = {p.name: p.read_bytes() for p in sorted(FOLDER.glob("*"))} if FOLDER.is_dir() else {}
LIMITS = Limits(max_bytes=2**18, max_pixels=2**20, max_side=8192)   # small, so that an hour sees more

def check(
    data:bytes, # anything
) -> str|None: # an error code, or None for a picture
    "What must hold for any bytes: a picture of the size that its header says, or an `ImageError` of a known code, soon."
    begin, code = time.perf_counter(), None
    try: image = decode_image(data, LIMITS)
    except ImageError as e: code = e.code; assert code in ERROR_CODES and e.message
    else:
        _, w, h = probe_image(data, LIMITS)
        assert image.dtype == np.uint8 and image.shape in ((h, w, 3), (w, h, 3)), (image.shape, w, h)
    assert time.perf_counter() - begin < 5, "took too long"
    return code

def with_good_sums(
    data:bytes, # a PNG, perhaps damaged
) -> bytes: # with the checksum of each chunk made right, so that the damage gets past it
    "A PNG whose damage is not noticed by its checksums."
    out, i = bytearray(data), 8
    while i + 12 <= len(out):
        n = struct.unpack_from(">I", out, i)[0]
        if i + 12 + n > len(out): break
        struct.pack_into(">I", out, i + 8 + n, zlib.crc32(out[i+4:i+8+n])); i += 12 + n
    return bytes(out)

NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 127, 128, 255, 256, 4096, 32767, 32768, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)

def mutate(
    data:bytes,           # a seed
    rng:random.Random,    # or anything like it
    others=(),            # seeds to splice with
) -> bytes:
    "One to six damages."
    data = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at, n, what = rng.randint(0, len(data)), rng.choice((1, 2, 4, 16, 64, 256)), rng.randint(0, 8)
        if what <= 1 and at < len(data): data[at] ^= 1 << rng.randint(0, 7)
        elif what == 2 and at < len(data): data[at] = rng.choice((0, 1, 127, 128, 254, 255))
        elif what == 3: data[at:at+4] = struct.pack(rng.choice(("<I", ">I")), rng.choice(NUMBERS))
        elif what == 4: data[at:at+2] = struct.pack(rng.choice(("<H", ">H")), rng.choice(NUMBERS) & 0xFFFF)
        elif what == 5: del data[at:at+n]
        elif what == 6: data[at:at] = data[max(0, at - n):at] * rng.choice((1, 2, 16))
        elif what == 7 and rng.random() < 0.25: data[at:] = b""
        elif what == 8 and others:
            other = rng.choice(others)
            data[at:] = other[min(at, rng.randint(0, len(other))):]
    data = bytes(data)
    return with_good_sums(data) if data[:4] == b"\x89PNG" and rng.random() < 0.7 else data

def make_seeds():
    "Every kind of every format, 12 × 10 px, and the bombs of earlier days."
    from PIL import Image
    y, x = np.mgrid[:10, :12]
    rgb = np.dstack([x * 20, y * 25, (x + y) * 11]).astype(np.uint8)
    picture, alpha = Image.fromarray(rgb), Image.fromarray(np.dstack([rgb, (x * 21).astype(np.uint8)]))
    frames, exif = dict(save_all=True, append_images=[Image.fromarray(np.roll(rgb, k, 1)) for k in (3, 6)]), Image.Exif()
    exif[274] = 6
    def pil(fmt, image=picture, **kw): out = io.BytesIO(); image.save(out, fmt, **kw); return out.getvalue()
    def ocv(ext, image): return cv2.imencode(ext, image)[1].tobytes()
    rle = bytes([4, 1, 0, 0]) * 1 + b"\0\0" + b"\0\1"
    seeds = {"ppm": ocv(".ppm", rgb), "ppm-16": ocv(".ppm", rgb.astype(np.uint16) * 257), "pgm": ocv(".pgm", rgb[..., 0]), "pgm-comments": b"P5 # a\n#b\n12 #c\n10\n15 " + bytes(range(120)),
        "png": pil("PNG"), "png-alpha": pil("PNG", alpha), "png-palette": pil("PNG", picture.convert("P"), transparency=3), "png-1-bit": pil("PNG", picture.convert("1")), "png-16": ocv(".png", rgb.astype(np.uint16) * 257),
        "png-animated": pil("PNG", **frames), "png-exif": pil("PNG", exif=exif), "png-grey-alpha": pil("PNG", alpha.convert("LA")), "png-profile": pil("PNG", icc_profile=b"p" * 64, dpi=(72, 72)),
        "png-overfull": with_good_sums(pil("PNG").replace(b"IDAT", b"iDAt")[:33] + struct.pack(">I", 0) + b"IDAT" + bytes(4) + struct.pack(">I", 0) + b"IEND" + bytes(4)),
        "jpeg": pil("JPEG"), "jpeg-progressive": pil("JPEG", progressive=True), "jpeg-grey": pil("JPEG", picture.convert("L")), "jpeg-cmyk": pil("JPEG", picture.convert("CMYK")), "jpeg-exif": pil("JPEG", exif=exif),
        "jpeg-restart": pil("JPEG", restart_marker_rows=1), "jpeg-444": pil("JPEG", subsampling=0, quality=95), "bmp": pil("BMP"), "bmp-alpha": pil("BMP", alpha), "bmp-palette": pil("BMP", picture.convert("P")),
        "bmp-1-bit": pil("BMP", picture.convert("1")), "bmp-rle": struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 62 + len(rle), 0, 0, 62, 40, 4, 1, 1, 8, 1, len(rle), 0, 0, 2, 0) + bytes(8) + rle,
        "webp": pil("WEBP"), "webp-lossless": pil("WEBP", lossless=True), "webp-alpha": pil("WEBP", alpha), "webp-animated": pil("WEBP", **frames), "webp-exif": pil("WEBP", exif=exif),
        "gif": pil("GIF"), "tiff": pil("TIFF"), "avif": pil("AVIF"), "jpeg-2000": pil("JPEG2000"), "empty": b"", "text": b"Dear reader, this is no picture."}
    FOLDER.mkdir(exist_ok=True)
    for name, data in seeds.items(): (FOLDER / name).write_bytes(data)

def main():
    parser = argparse.ArgumentParser(); parser.add_argument("--seconds", type=int, default=60); parser.add_argument("--seeds", action="store_true"); parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.seeds: return make_seeds()
    try: import atheris
    except ImportError: atheris = None
    if atheris:
        probes = sys.modules["gtsrb.preprocess"]._PROBES
        for k, f in probes.items(): probes[k] = atheris.instrument_func(f)
        with tempfile.TemporaryDirectory() as grown:
            atheris.Setup([sys.argv[0], grown, str(FOLDER), f"-max_total_time={args.seconds}", "-max_len=65536"], check); atheris.Fuzz()
    rng, seeds, codes, until = random.Random(args.seed), list(SEEDS.values()), {}, time.monotonic() + args.seconds
    while time.monotonic() < until:
        data = mutate(rng.choice(seeds), rng, seeds)
        try: code = check(data)
        except BaseException: Path("fuzz-found").write_bytes(data); raise
        codes[code] = codes.get(code, 0) + 1
    print(sum(codes.values()), "files:", codes)

if __name__ == "__main__": main()
