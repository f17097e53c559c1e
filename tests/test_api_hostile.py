"""Clients that mean harm, over raw sockets: lengths that lie, bodies without end, slow readers and writers, broken HTTP, strange images and names."""
import io, json, re, socket, struct, threading, time, zlib

import httpx, numpy as np, pytest
from PIL import Image, ImageOps

from conftest import serving
from gtsrb.preprocess import ImageError, cv2, decode_image
from test_api import GOOD, PIXELS, multipart, refused, wait_for

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=XX\r\n"
BODY = multipart(("a.png", GOOD["png"]))

@pytest.fixture(scope="module")
def server(tiny, tmp_path_factory):
    "Patient as usual with the whole of a body, not with a slow pace, nor with a reader who does not read."
    with serving(tmp_path_factory.mktemp("hostile") / "log", model=tiny, pace_seconds=1, send_seconds=1, log="json", max_files=1000) as s: yield s

def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), 20)

def rest(s):
    "All that still comes from the server, until it closes."
    out = b""
    try:
        while piece := s.recv(65536): out += piece
    except ConnectionResetError: pass
    return out

def talk(server, *pieces):
    "Send, and read until the server closes."
    with connect(server) as s:
        for p in pieces: s.sendall(p)
        return rest(s)

def statuses(answer): return [int(n) for n in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]

# ---- lengths and transfer codings

@pytest.mark.parametrize("length", ["-1", "-9999999999999999", "+5", "0x10", "1e3", "5.0", "", " ", "five", "٥", "5, 6", "5\r\nContent-Length: 6", "9" * 30])
def test_lengths_that_are_none(server, length):
    answer = talk(server, HEAD + f"Content-Length: {length}\r\n\r\n".encode() + BODY)
    assert statuses(answer)[:1] in ([400], [413]), answer

@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "chunked, chunked", "identity", "x", "chunked\r\nTransfer-Encoding: chunked"])
def test_transfer_codings_other_than_chunked(server, coding):
    answer = talk(server, HEAD + f"Transfer-Encoding: {coding}\r\nConnection: close\r\n\r\n".encode() + b"5\r\nhello\r\n0\r\n\r\n")
    assert statuses(answer)[:1] in ([400], [501]), answer

@pytest.mark.parametrize("chunk", [b"-1\r\n", b"0x5\r\nhello\r\n", b"fffffffffffffffffffffffff\r\n", b"5;" + b"a" * 200_000 + b"\r\nhello\r\n", b"5\r\nhello!\r\n", b"\r\n"])
def test_chunks_that_are_none(server, chunk):
    assert statuses(talk(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)) in ([400], [])

def test_length_and_chunks_at_once_are_no_smuggling(server):
    "The chunks count; what a proxy that counts by length would take for a second request is none."
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    answer = talk(server, HEAD + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + body)
    assert statuses(answer) in ([200], [400])

def test_shorter_and_longer_than_it_says(server):
    for length in (0, len(BODY) - 5): assert statuses(talk(server, HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % length + BODY)) == [400]
    begin = time.monotonic()
    assert statuses(talk(server, HEAD + b"Content-Length: %d\r\n\r\n" % (len(BODY) + 1) + BODY)) == [408] and time.monotonic() - begin < 5

# ---- bodies without end, and slow ones

@pytest.mark.parametrize("head, first", [
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b""),                                                             # a body over its limit
    (HEAD + b"Content-Length: 999999999999\r\n\r\n", b""),                                                           # refused by its length
    (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b""), (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", b"")])
def test_nobody_reads_a_body_without_end(server, head, first):
    "The refusal arrives, and soon after it the connection ends, however much is still sent."
    piece = b"10000\r\n" + bytes(65536) + b"\r\n" if b"chunked" in head else bytes(65536)
    prefix = b'--XX\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    with connect(server) as s:
        got, begin = [], time.monotonic()
        t = threading.Thread(target=lambda: got.append(rest(s))); t.start()
        s.sendall(head + (b"%x\r\n%s\r\n" % (len(prefix), prefix) if b"chunked" in head else prefix))
        with pytest.raises(OSError):
            while time.monotonic() - begin < 30: s.sendall(piece)
        t.join()
    assert time.monotonic() - begin < 20
    assert statuses(got[0])[0] in (404, 405, 413) and b"connection: close" in got[0].lower()

def test_sixty_four_tricklers_do_not_hold_all_places(server):
    tricklers = [connect(server) for _ in range(64)]
    for s in tricklers: s.sendall(HEAD + b"Content-Length: 100000\r\n\r\n--XX\r\n")
    wait_for(lambda: "gtsrb_in_flight 64.0" in server.get("/metrics").text)
    refused(server.post(("a.png", GOOD["png"])), 429, "busy")
    begin = time.monotonic()
    while time.monotonic() - begin < 4:                        # a byte now and then; the body may take 120 s, its pace may not
        for s in tricklers:
            try: s.sendall(b"a")
            except OSError: pass
        time.sleep(0.1)
    assert server.post(("a.png", GOOD["png"])).status_code == 200
    assert all(statuses(rest(s)) == [408] for s in tricklers)

def test_slow_but_steady_is_answered(server):
    body = multipart(("a.bmp", bytes(300_000)), ("a.png", GOOD["png"]))
    def slowly():
        for i in range(0, len(body), 40_000): time.sleep(0.25); yield body[i:i+40_000]
    r = httpx.post(f"{server.url}/predict", content=slowly(), headers={"Content-Type": "multipart/form-data; boundary=XX"}, timeout=30)
    assert r.status_code == 200 and "class" in r.json()["a.png"]

def test_reader_who_does_not_read(server):
    "Three answers of 2.6 MB, the first of which the system's own buffers may take: soon they are let go, and the client finds one cut off."
    body = multipart(*((f"{i}.ppm", b"P5 1 1 255\n" + bytes([i % 256])) for i in range(1000)))
    one = HEAD.replace(b"/predict", b"/predict?top_k=43") + b"Content-Length: %d\r\n\r\n" % len(body) + body
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096); s.connect(("127.0.0.1", server.port)); s.settimeout(20)
    with s:
        s.sendall(one * 3)
        wait_for(lambda: "without completing response" in server.text())
        answers = rest(s)
    length = int(answers.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    assert length > 2_500_000 and len(answers) % length and len(answers) < 3 * length

def test_silent_connections_cost_the_others_nothing(server):
    idle = [connect(server) for _ in range(300)]
    for s in idle[::2]: s.sendall(b"POST /predict HTTP/1.1\r\nHost:")
    begin = time.monotonic()
    assert server.post(("a.png", GOOD["png"])).status_code == 200 and time.monotonic() - begin < 2
    for s in idle: s.close()

# ---- many and long

def test_twenty_thousand_tiny_files(server):
    begin = time.monotonic()
    r = httpx.post(f"{server.url}/predict", content=multipart(*((f"{i}", b"") for i in range(20_000))), timeout=60, headers={"Content-Type": "multipart/form-data; boundary=XX"})
    refused(r, 413, "too_many_files"); assert time.monotonic() - begin < 5

def test_fields_and_names_without_end(server):
    field = b'--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'
    long = b'--XX\r\nContent-Disposition: form-data; name="a"; ' + b";" * 15_000 + b"\r\n\r\nx\r\n"
    for body, code in ((field * 1001, "too_many_fields"), (long * 100, "names_too_long"), (multipart(*((f"{i}" + "n" * 15_000, b"") for i in range(100)), end=False), "names_too_long")):
        refused(httpx.post(f"{server.url}/predict", content=body, headers={"Content-Type": "multipart/form-data; boundary=XX"}, timeout=60), 413, code)

NAMES = ["../../etc/passwd", "..\\..\\boot.ini", "a/b/c.png", "a\x01\x1f\x7fb", "tab\tbell\a", "n" * 10_240, "\u202egnp.exe", "שלום.png", "\u2066\u2069", "🛑" * 100,
         "NUL", "con.png", ".", "..", " ", "%00", "%2e%2e%2f", "<script>alert(1)</script>", "'; drop table signs; --", "${jndi:ldap://x}", "__proto__", "constructor", "{}", "\\", "a;b=c"]

def test_names_are_only_names(server):
    "Each comes back as it was sent, in both forms of the answer. A quote, a line end or a NUL never reaches the server raw: clients escape them."
    def part(name): return b'--XX\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n' % (name, GOOD["png"])
    def post(*names, **params):
        return httpx.post(f"{server.url}/predict", params=params, content=b"".join(map(part, names)) + b"--XX--\r\n", headers={"Content-Type": "multipart/form-data; boundary=XX"}, timeout=60)
    sent = [n.replace("\\", "\\\\").encode() for n in NAMES]
    assert list(post(*sent).json()) == NAMES
    assert [a["filename"] for a in post(*sent, *sent, format="list").json()] == NAMES * 2
    refused(post(sent[0], sent[0]), 422, "duplicate_names"); refused(post(b""), 422, "unnamed_file")
    for odd in (b"\xed\xa0\x80.png", b"\xff\xfe", b"\xc0\xaf", b"\xfcbung.png"):   # lone surrogate, no UTF-8, overlong, Latin-1
        assert list(post(odd).json()) == [odd.decode("latin-1")]

def test_extended_names_alone(server):
    "`filename*=` (RFC 5987): older clients send it without a plain one."
    def post(parameter):
        body = b'--XX\r\nContent-Disposition: form-data; name="files"; ' + parameter + b"\r\n\r\n" + GOOD["png"] + b"\r\n--XX--\r\n"
        return httpx.post(f"{server.url}/predict", content=body, headers={"Content-Type": "multipart/form-data; boundary=XX"})
    for parameter, name in ((b"filename*=UTF-8''%E2%82%AC%20rates", "€ rates"), (b"filename*=iso-8859-1'en'%A3%20rates", "£ rates"), (b"FileName* = utf-8''a.png", "a.png"),
            (b"filename*=utf-8''..%2F..%2Fetc", "../../etc"), (b"filename*=utf-8''%ED%A0%80", "\ufffd" * 3), (b"filename*=utf-8''%zz", "%zz"), (b'filename="p.png"; filename*=utf-8\'\'o.png', "p.png")):
        assert list(post(parameter).json()) == [name], parameter
    for parameter in (b"filename*=undefined''x", b"filename*=utf-7''x", b"filename*=x", b"filename*=", b"filename*=utf-8''"):
        assert post(parameter).json()["error"]["code"] == "unnamed_file"

# ---- content types and HTTP itself

def test_content_types(server):
    for kind, status in (("application/json", 422), ("multipart/mixed; boundary=XX", 422), ("text/plain", 422), ("multipart/form-data; boundary=YY", 400), ("multipart/form-data; boundary=\"XX\"", 200),
            ("Multipart/Form-Data; charset=utf-16; boundary=XX", 200), ("multipart/form-data; boundary=XX; boundary=YY", 400), ("multipart/form-data; boundary=ÿÿ", 400), (";", 422), ("multipart/form-data;;;;", 400)):
        assert httpx.post(f"{server.url}/predict", content=BODY, headers={"Content-Type": kind.encode("latin-1")}).status_code == status, kind
    lying = BODY.replace(b"\r\n\r\n", b"\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\nContent-Length: 3\r\n\r\n", 1)
    assert httpx.post(f"{server.url}/predict", content=lying, headers={"Content-Type": "multipart/form-data; boundary=XX"}).status_code == 200

def test_pipelined_requests_are_answered_in_order(server):
    one = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    answer = talk(server, one * 5 + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert statuses(answer) == [200] * 6 + [404]

@pytest.mark.parametrize("request_", [b"nonsense\r\n\r\n", b"\0" * 1000 + b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/11\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET / HTTP/1.1\r\n folded\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 200_000 + b"\r\n\r\n", b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 50_000 + b"\r\n"], ids=lambda r: repr(r[:12]))
def test_what_is_no_http(server, request_):
    answer = talk(server, request_)
    assert statuses(answer) in ([400], []), answer[:200]

def test_expect_100_continue(server):
    expect = HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    with connect(server) as s:
        s.sendall(expect % len(BODY))
        assert s.recv(1000).startswith(b"HTTP/1.1 100 ")
        s.sendall(BODY)
        assert statuses(rest(s)) == [200]
    assert statuses(talk(server, expect % 2**40))[0] == 413                          # told before it has sent anything

def test_methods_and_paths(server):
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"):
        r = httpx.request(method, f"{server.url}/predict"); assert r.status_code == 405 and "POST" in r.headers["allow"]
    for path in ("/static/../../etc/passwd", "//etc/passwd", "/%00", "/legend/%2e%2e.png", "/legend/99999999999999999999999.png", "/legend/٣.png", "/static//app.js/.."):
        assert 400 <= int(talk(server, f"GET {path.encode().decode('latin-1')} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))[9:12]) < 500, path

# ---- images

def encoded(fmt, image, **kw):
    out = io.BytesIO(); image.save(out, fmt, **kw)
    return out.getvalue()

RGB = Image.fromarray(PIXELS[..., ::-1])
ALPHA = Image.fromarray(np.dstack([np.asarray(RGB), np.tile(np.arange(44, dtype=np.uint8) * 5, (40, 1))]))
FRAMES = dict(save_all=True, append_images=[Image.fromarray(np.roll(np.asarray(RGB), k, 1)) for k in (9, 20)])

def rotated(fmt, orientation, **kw):
    exif = Image.Exif(); exif[274] = orientation
    return encoded(fmt, RGB, exif=exif, **kw)

SEEN = {**{f"{f} EXIF {o}": (rotated(f, o, **kw), None) for o in range(1, 9) for f, kw in (("JPEG", {}), ("PNG", {}), ("WEBP", dict(lossless=True)))},
    "CMYK JPEG": (encoded("JPEG", RGB.convert("CMYK")), None), "progressive JPEG": (encoded("JPEG", RGB, progressive=True), None), "grey JPEG": (encoded("JPEG", RGB.convert("L")), None),
    "APNG: first frame": (encoded("PNG", RGB, **FRAMES), RGB), "animated WebP: first frame": (encoded("WEBP", RGB, lossless=True, **FRAMES), RGB),
    "PNG: alpha dropped": (encoded("PNG", ALPHA), RGB), "WebP: alpha dropped": (encoded("WEBP", ALPHA, lossless=True, exact=True), RGB), "palette PNG": (encoded("PNG", RGB.convert("P")), None),
    "1 bit PNG": (encoded("PNG", RGB.convert("1")), None), "16 bit PNG": (cv2.imencode(".png", PIXELS.astype(np.uint16) * 257)[1].tobytes(), RGB),
    "16 bit PPM": (cv2.imencode(".ppm", PIXELS.astype(np.uint16) * 257)[1].tobytes(), RGB), "16 bit PGM": (cv2.imencode(".pgm", PIXELS[..., 1].astype(np.uint16) * 257)[1].tobytes(), Image.fromarray(PIXELS[..., 1])),
    "1 × 1": (encoded("PNG", RGB.crop((0, 0, 1, 1))), None), "1 × 4000": (encoded("PNG", RGB.resize((1, 4000))), None), "4000 × 4000": (encoded("JPEG", RGB.resize((4000, 4000))), None)}

@pytest.mark.parametrize("name", SEEN)
def test_decoded_is_what_a_person_sees(name):
    "EXIF turns and mirrors in all three formats that have it; Pillow is the judge."
    data, want = SEEN[name]
    want, got = np.asarray(ImageOps.exif_transpose(want or Image.open(io.BytesIO(data))).convert("RGB")), decode_image(data)
    assert got.shape == want.shape and cv2.absdiff(got, want).mean() < 2.5

def test_they_are_answered(server):
    r = server.post(*((n, d) for n, (d, _) in SEEN.items()))
    assert r.status_code == 200 and all("class" in a for a in r.json().values())
    upright = {r.json()[f"PNG EXIF {o}"]["confidence"] for o in (1, 3, 6, 8)}
    assert len(upright) > 1                                                          # turned before the network sees it

OUTSIDE = {f: encoded(f, RGB) for f in ("TIFF", "GIF", "JPEG2000", "AVIF", "SGI", "TGA", "PCX")} | {"ras": cv2.imencode(".ras", PIXELS)[1].tobytes(), "pbm": b"P4 8 1\n\xaa"} | \
    {e: cv2.imencode(f".{e}", PIXELS.astype(np.float32) / 255)[1].tobytes() for e in ("hdr", "pfm")} | \
    {"exr": b"\x76\x2f\x31\x01" + bytes(100), "ico": b"\0\0\1\0" + bytes(100), "pam": b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\nabc", "p3.ppm": b"P3 1 1 255 1 2 3\n",
     "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "pdf": b"%PDF-1.7\n" + bytes(100), "heic": b"\0\0\0\x18ftypheic" + bytes(100), "zip": b"PK\3\4" + bytes(100), "jxl": b"\xff\x0a" + bytes(100)}

def test_every_format_outside_the_list(server):
    r = server.post(*((f"a.{e}", d) for e, d in OUTSIDE.items()))
    assert r.status_code == 422 and {a["error"]["code"] for a in r.json().values()} == {"unsupported_format"}, r.text

@pytest.mark.parametrize("magic", [b"BM", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"P6 ", b"RIFF\x20\0\0\0WEBPVP8 "])
def test_another_decoder_is_never_reached_behind_our_magic(magic):
    "OpenCV tries its decoders by their own signs: a file with two of them must not get past."
    for data in OUTSIDE.values():
        for mixed in (magic + data, magic + data[len(magic):]):
            if data[:2] == b"P3" and magic == b"P6 ": continue      # makes a good PPM
            with pytest.raises(ImageError): decode_image(mixed)

def png(*chunks, size=(8, 8)):
    def chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(k, d) for k, d in [(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)), *chunks, (b"IEND", b"")])

def test_compressed_bombs():
    "Each a megabyte that unpacks to a gigabyte."
    packed = zlib.compressobj(9); zeros = bytes(2**24)
    bomb = b"".join(packed.compress(zeros) for _ in range(64)) + packed.flush()
    pixels = zlib.compress((b"\0" + bytes(24)) * 8)
    begin = time.perf_counter()
    with pytest.raises(ImageError, match="more data than its picture"): decode_image(png((b"IDAT", bomb)))
    with pytest.raises(ImageError, match="more data than its picture"): decode_image(png(*[(b"IDAT", bomb[i:i+999]) for i in range(0, len(bomb), 999)]))
    for kind, head in ((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")): assert decode_image(png((kind, head + bomb), (b"IDAT", pixels))).shape == (8, 8, 3)
    assert time.perf_counter() - begin < 2

def patched(data, at, kind, *values):
    out = bytearray(data); struct.pack_into(kind, out, at, *values)
    return bytes(out)

@pytest.mark.parametrize("side", [1, 9, 3999, 8192, 65535, 2**31 - 1, -1])
def test_headers_that_lie_about_sizes(server, side):
    "An answer or an error, soon, and never the memory that the header asks for."
    u16, u24, u32 = side & 0xFFFF, side & 0x3FFF, side & 0xFFFFFFFF
    jpeg = GOOD["jpg"].index(b"\xff\xc0") + 5
    files = {"p.ppm": b"P6 %d %d 255\n" % (side, side) + bytes(30), "p.png": patched(GOOD["png"], 16, ">II", u32, u32), "p.bmp": patched(GOOD["bmp"], 18, "<II", u32, u32),
             "p.jpg": patched(GOOD["jpg"], jpeg, ">HH", u16, u16), "p.webp": patched(GOOD["webp"], 26, "<HH", u24, u24), "good.png": GOOD["png"]}
    begin = time.monotonic()
    answers = server.post(*files.items()).json()
    assert time.monotonic() - begin < 3 and set(answers) == set(files) and "class" in answers["good.png"]
    if side > 9 or side < 0: assert all("error" in answers[n] for n in ("p.ppm", "p.png", "p.bmp")), answers

# ---- key, origins, log

def log_lines(server): return [json.loads(l) for l in server.text().splitlines() if l.startswith("{")]

def test_log_is_one_line_a_request_without_names(server):
    server.post(("a-secret-name.png", GOOD["png"]), ("another.png", b"")); server.get("/log-ends-here?secret=1")
    wait_for(lambda: any(l["path"] == "/log-ends-here" for l in log_lines(server)))
    lines = log_lines(server); end = [l["path"] for l in lines].index("/log-ends-here")    # requests of earlier tests stand above, however late they were written
    two, one = lines[end], [l for l in lines[:end] if l.get("files") == 2][-1]
    assert set(one) == {"time", "method", "path", "status", "seconds", "bytes", "files", "ok", "failed"}
    assert (one["method"], one["path"], one["status"], one["files"], one["ok"], one["failed"]) == ("POST", "/predict", 200, 2, 1, 1) and one["bytes"] > len(GOOD["png"])
    assert two["status"] == 404 and "secret" not in server.text() and '"POST /predict' not in server.text()

def test_log_off_and_text(tiny, tmp_path):
    for how, seen in (("off", False), ("text", True)):
        with serving(tmp_path / how, model=tiny, log=how) as s:
            s.get("/nowhere")
            if seen: wait_for(lambda: "/nowhere" in s.text())
            else: time.sleep(0.3); assert "/nowhere" not in s.text()

@pytest.fixture(scope="module")
def guarded(tiny, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("guarded") / "log", model=tiny, api_key="schlüssel 1", cors_origins="https://a.example, https://b.example") as s: yield s

def test_key(guarded):
    key = "schlüssel 1".encode()
    for path in ("/", "/docs", "/healthz", "/readyz", "/classes", "/legend/14.png", "/openapi.json"): assert guarded.get(path).status_code == 200, path
    ask = lambda h={}: httpx.post(f"{guarded.url}/predict", files={"files": ("a.png", GOOD["png"])}, headers=h)
    for h in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}, {"Authorization": "Bearer"}, {"Authorization": b"Bearer " + key + b"x"}, {"Authorization": b"Basic " + key}, {"X-API-Key": key[:-2]}, {"X-API-Key": b"\xff\xfe"}):
        r = ask(h); refused(r, 401, "unauthorized"); assert r.headers["www-authenticate"].startswith("Bearer ")
    for h in ({"X-API-Key": key}, {"Authorization": b"Bearer " + key}, {"x-api-key": b"wrong", "authorization": b"bearer " + key}): assert ask(h).status_code == 200
    for path in ("/model", "/metrics"):
        refused(guarded.get(path), 401, "unauthorized")
        assert httpx.get(guarded.url + path, headers={"X-API-Key": key}).status_code == 200
    assert statuses(talk(guarded, HEAD + b"Content-Length: 1000000\r\n\r\n")) == [401]                    # before any of the body

def test_key_is_in_the_schema(guarded, server):
    schema = guarded.get("/openapi.json").json()
    assert {(s["type"], s.get("name") or s.get("scheme")) for s in schema["components"]["securitySchemes"].values()} == {("apiKey", "X-API-Key"), ("http", "bearer")}
    assert schema["paths"]["/predict"]["post"]["security"] and "401" in schema["paths"]["/predict"]["post"]["responses"]
    assert "security" not in schema["paths"]["/healthz"]["get"]
    assert "security" not in server.get("/openapi.json").json()["paths"]["/predict"]["post"]              # nobody is asked there

def test_origins(guarded, server):
    for origin, may in (("https://a.example", True), ("https://b.example", True), ("https://c.example", False), ("null", False)):
        r = httpx.options(f"{guarded.url}/predict", headers={"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"})
        assert (r.headers.get("access-control-allow-origin") == origin) == may and (r.status_code == 200) == may
        r = httpx.post(f"{guarded.url}/predict", headers={"Origin": origin})                              # errors can be read too
        assert r.status_code == 401 and (r.headers.get("access-control-allow-origin") == origin) == may
    assert not any(h.startswith("access-control") for h in server.get("/healthz").headers)

def test_headers_on_every_answer(server):
    for r in (server.get("/"), server.get("/nowhere"), server.post(), server.get("/static/app.js"), httpx.put(server.url + "/predict")):
        assert r.headers["x-content-type-options"] == "nosniff" and "default-src 'none'" in r.headers["content-security-policy"], r.url

@pytest.mark.parametrize("path", ["/healthz", "/predict", "/nowhere"])
def test_broken_body_behind_a_request_that_is_answered_at_once(server, path):
    "uvicorn says 400 and closes while the answer is on its way; that leaves no traceback (the last test looks)."
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as c:
            c.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n".encode())
            assert c.recv(100).startswith(b"HTTP/1.1 4")

def test_nothing_stays_behind(server):
    "Runs last: the server lives, holds nothing, and has made no mistake."
    assert server.process.poll() is None; text = server.text()
    assert "Traceback" not in text, text[text.index("Traceback"):][:9000]
    wait_for(lambda: "gtsrb_held_bytes 0.0" in server.get("/metrics").text and "gtsrb_in_flight 0.0" in server.get("/metrics").text)
    assert not any(l["status"] >= 500 for l in log_lines(server)) and "internal_error" not in server.text()
