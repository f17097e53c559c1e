"The data set from a server that misbehaves, on a disk that is full, by processes that are killed: real HTTP, real files."
import hashlib, io, os, shutil, signal, stat, subprocess, sys, threading, time, warnings, zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gtsrb import data
from gtsrb.data import ARCHIVES, DataError, available, download, info, read_table, track_split, verify
from gtsrb.signs import synthetic_dataset

pytestmark = pytest.mark.filterwarnings("ignore:.*which is not the official set")
TRAIN, TEST, TRUTH = (a.name for a in ARCHIVES)
HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"


def members(classes=(0, 14, 42), tracks=6, frames=5, side=40):
    "{archive: {member: bytes}} of a small set in the official layout, read-me files and all."
    def ppm(*key): return b"P6\n%d %d\n255\n" % (side, side) + hashlib.shake_128(repr(key).encode()).digest(3 * side * side)
    def table(names, classes):
        lines = [HEADER] + [f"{n};{side};{side};5;5;{side - 6};{side - 6};{c}" for n, c in zip(names, classes)]
        return ("\r\n".join(lines) + "\r\n").encode()
    train = {"GTSRB/Readme-Images.txt": b"read me"}
    for c in classes:
        folder, names = f"GTSRB/Final_Training/Images/{c:05d}", [f"{t:05d}_{f:05d}.ppm" for t in range(tracks) for f in range(frames)]
        train |= {f"{folder}/{n}": ppm(c, n) for n in names} | {f"{folder}/GT-{c:05d}.csv": table(names, [c] * len(names))}
    names = [f"{i:05d}.ppm" for i in range(10)]
    test = {f"GTSRB/Final_Test/Images/{n}": ppm(n) for n in names}
    test |= {"GTSRB/Readme-Images-Final-test.txt": b"read me", "GTSRB/Final_Test/Images/GT-final_test.test.csv": table(names, [""] * 10)}
    return {TRAIN: train, TEST: test, TRUTH: {"GT-final_test.csv": table(names, [classes[i % len(classes)] for i in range(10)])}}


def pack(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, content in files.items(): z.writestr(name, content)
    return out.getvalue()


ZIPS = {name: pack(files) for name, files in members().items()}
SUMS = {name: hashlib.md5(b).hexdigest() for name, b in ZIPS.items()}
FAST = dict(checksums=SUMS, wait=0.01, timeout=5)
UNCHECKED = FAST | dict(checksums=False)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args): pass

    def do_GET(self):
        s, name = self.server, self.path.rsplit("/", 1)[-1]
        body, wanted = s.files.get(name), self.headers.get("Range")
        s.asked.append((name, wanted, self.headers.get("If-Range")))
        status = s.answers.pop(0) if s.answers else 200
        if status != 200 or body is None: return self.reply(status if status != 200 else 404, b"no")
        start, etag, total = 0, f'"{hashlib.md5(body).hexdigest()}"', len(body)
        if s.ranges and wanted and self.headers.get("If-Range", etag) == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= total: return self.reply(416, b"", {"Content-Range": f"bytes */{total}"})
        head = {"Content-Range": f"bytes {start}-{total - 1}/{total}"} if start else {}
        cut = s.cuts.pop(0) if s.cuts and name == TRAIN else None
        self.reply(206 if start else 200, body[start:], head | ({"ETag": etag} if s.tagged else {}), cut)

    def reply(self, status, body, head={}, cut=None):
        self.send_response(status)
        for k, v in ({"Content-Length": len(body)} | head).items(): self.send_header(k, str(v))
        self.end_headers()
        try:
            for i in range(0, len(body[:cut]), 2**14): self.wfile.write(body[:cut][i:i + 2**14]); time.sleep(self.server.pause)
        except ConnectionError: self.close_connection = True  # the client went away
        if cut is not None: self.close_connection = True      # or we do, in the middle


@pytest.fixture
def server():
    s = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    s.files, s.asked, s.answers, s.cuts, s.ranges, s.tagged, s.pause = dict(ZIPS), [], [], [], True, True, 0
    s.url = f"http://127.0.0.1:{s.server_address[1]}/mirror"
    thread = threading.Thread(target=s.serve_forever, kwargs=dict(poll_interval=0.02)); thread.start()
    yield s
    s.shutdown(); s.server_close(); thread.join()


def files(root): return sorted(p.relative_to(root).as_posix() for p in Path(root).rglob("*") if p.is_file())
def holds_nothing(root): return not [f for f in files(root) if not f.startswith(".gtsrb-") and not f.endswith((".part", ".part.tag"))]
def is_whole(root): return len(read_table(root)) == 100 and not verify(root).problems


EXPECTED = sorted([m for fs in members().values() for m in fs if "eadme" not in m and ".test.csv" not in m] + [".gtsrb-download.lock"])


def script(body, *args):
    "Start Python on `body` with everything of `gtsrb.data` and `FAST` at hand."
    head = f"import sys, os\nfrom gtsrb.data import *\nfrom gtsrb import data\nFAST = dict(checksums={SUMS!r}, wait=0.01, timeout=5)\n"
    return subprocess.Popen([sys.executable, "-c", head + body, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# --- fetching

def test_plain(server, tmp_path):
    assert download(tmp_path, server.url, **FAST) == tmp_path
    assert files(tmp_path) == EXPECTED  # no read-me, no archive, no GT-final_test.test.csv, nothing half done
    assert is_whole(tmp_path) and not available(tmp_path)
    for name, content in members()[TRAIN].items():
        if name.endswith(".ppm"): assert (tmp_path/name).read_bytes() == content
    assert [a[0] for a in server.asked] == [TRAIN, TEST, TRUTH]


def test_complete_needs_no_network(server, tmp_path):
    download(tmp_path, server.url, **FAST)
    n = len(server.asked)
    download(tmp_path, server.url, **FAST)
    assert len(server.asked) == n


def test_address_from_the_environment(server, tmp_path, monkeypatch):
    monkeypatch.setenv("GTSRB_URL", server.url + "/"); monkeypatch.setenv("GTSRB_HOME", str(tmp_path/"new"/"home"))
    download(**FAST)
    assert is_whole(tmp_path/"new"/"home")
    with pytest.raises(ValueError, match="http"): download(tmp_path/"x", "ftp://127.0.0.1/")


def test_goes_on_from_a_partial_file(server, tmp_path):
    (tmp_path/f"{TRAIN}.part").write_bytes(ZIPS[TRAIN][:100_000])
    download(tmp_path, server.url, **FAST)
    assert server.asked[0] == (TRAIN, "bytes=100000-", None) and is_whole(tmp_path)


def test_connection_cut_twice(server, tmp_path):
    server.cuts = [150_000, 50_000]
    download(tmp_path, server.url, **FAST)
    assert [a[1] for a in server.asked[:3]] == [None, "bytes=150000-", "bytes=200000-"] and is_whole(tmp_path)
    assert server.asked[1][2] == f'"{SUMS[TRAIN]}"'  # only if it is still the same file


def test_gives_up_and_goes_on_later(server, tmp_path):
    server.cuts = [70_000] + [0] * 3
    with pytest.raises(DataError, match="type `gtsrb data download` again"): download(tmp_path, server.url, retries=2, **FAST)
    assert holds_nothing(tmp_path) and (tmp_path/f"{TRAIN}.part").stat().st_size == 70_000
    server.asked.clear(); server.cuts = []
    download(tmp_path, server.url, **FAST)
    assert server.asked[0][1] == "bytes=70000-" and is_whole(tmp_path)


def test_file_changed_between_two_tries(server, tmp_path, monkeypatch):
    server.files[TRAIN], server.cuts = b"x" * 300_000, [100_000]
    monkeypatch.setattr(data.time, "sleep", lambda s: server.files.update(ZIPS))
    download(tmp_path, server.url, **FAST)
    assert [a[1] for a in server.asked if a[0] == TRAIN] == [None, "bytes=100000-"] and is_whole(tmp_path)


@pytest.mark.parametrize("tagged", [True, False])
def test_server_without_ranges(server, tmp_path, tagged):
    server.ranges, server.tagged, server.cuts = False, tagged, [150_000]
    download(tmp_path, server.url, **FAST)
    assert server.asked[1][1] == "bytes=150000-" and is_whole(tmp_path)


@pytest.mark.parametrize("left_over, asked", [
    (ZIPS[TRAIN], []),                                                             # whole: no request
    (ZIPS[TRAIN] + b"more", [f"bytes={len(ZIPS[TRAIN]) + 4}-", None]),             # longer: 416, then afresh
    (b"y" * 1000, ["bytes=1000-", None]),                                          # another file: a wrong sum, then afresh
], ids=["whole", "longer", "other"])
def test_odd_left_overs(server, tmp_path, left_over, asked):
    (tmp_path/f"{TRAIN}.part").write_bytes(left_over)
    download(tmp_path, server.url, **FAST)
    assert [a[1] for a in server.asked if a[0] == TRAIN] == asked and is_whole(tmp_path)


def test_416_means_whole_when_sums_are_off(server, tmp_path):
    (tmp_path/f"{TRAIN}.part").write_bytes(ZIPS[TRAIN])
    download(tmp_path, server.url, **UNCHECKED)
    assert [a[1] for a in server.asked if a[0] == TRAIN] == [f"bytes={len(ZIPS[TRAIN])}-"] and is_whole(tmp_path)


def test_wrong_checksum(server, tmp_path):
    server.files[TRAIN] = ZIPS[TRAIN][:-1] + b"!"
    with pytest.raises(DataError, match=f"instead of {SUMS[TRAIN]}.*removed"): download(tmp_path, server.url, **FAST)
    assert holds_nothing(tmp_path) and not (tmp_path/f"{TRAIN}.part").exists() and len(server.asked) == 1


def test_a_mirror_needs_permission(server, tmp_path):
    with pytest.raises(DataError, match="--no-check"): download(tmp_path, server.url, wait=0.01)
    assert holds_nothing(tmp_path)
    download(tmp_path, server.url, checksums=False)
    assert is_whole(tmp_path)
    with pytest.raises(DataError, match="another data set.*90 train images instead of 39,209"): download(tmp_path, server.url)


def test_http_errors(server, tmp_path):
    server.answers = [404]
    with pytest.raises(DataError, match="404 Not Found: is the address right"): download(tmp_path, server.url, **FAST)
    assert len(server.asked) == 1
    server.answers = [500] * 9; server.asked.clear()
    with pytest.raises(DataError, match="500 Internal Server Error"): download(tmp_path, server.url, retries=2, **FAST)
    assert len(server.asked) == 3 and holds_nothing(tmp_path)
    server.answers = [503, 429, 200]
    download(tmp_path, server.url, **FAST)
    assert is_whole(tmp_path)


def test_nobody_there(tmp_path):
    with pytest.raises(DataError, match="cannot be fetched .*refused"): download(tmp_path, "http://127.0.0.1:9", retries=1, **FAST)


def test_keep_and_use_archives(server, tmp_path):
    a, b, c = tmp_path/"a", tmp_path/"b", tmp_path/"c"; b.mkdir(); c.mkdir()
    download(a, server.url, keep=True, **FAST)
    assert all((a/n).read_bytes() == z for n, z in ZIPS.items())
    server.asked.clear()
    for n in ZIPS: shutil.copy(a/n, b)
    download(b, server.url, **FAST)
    assert not server.asked and is_whole(b) and (b/TRAIN).exists()
    (c/TRAIN).write_bytes(b"half")
    with pytest.raises(DataError, match="damaged or another file. Move it away"): download(c, server.url, **FAST)
    assert (c/TRAIN).exists()


# --- unpacking

def link(name):
    m = zipfile.ZipInfo(name); m.create_system, m.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return m


EVIL = ["../evil.ppm", "/elsewhere/evil.ppm", "GTSRB/../../evil", "..\\evil.ppm", "C:\\evil.ppm",
        link("GTSRB/Final_Training/Images/00000/00000_00000.ppm"), link("GTSRB/Final_Training")]

@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_no_way_out_of_the_folder(server, tmp_path, evil):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr(evil, "/etc/passwd")
        for name, content in members()[TRAIN].items():
            if name != getattr(evil, "filename", None): z.writestr(name, content)
    server.files[TRAIN], root = out.getvalue(), tmp_path/"in"/"root"
    with pytest.raises(DataError, match="nothing of it was unpacked"): download(root, server.url, **UNCHECKED)
    assert not (root/f"{TRAIN}.part").exists()
    assert all(f == "in/root/.gtsrb-download.lock" or f.endswith(".tag") for f in files(tmp_path))


@pytest.mark.parametrize("body, message", [
    (pack({"GTSRB/Readme-Images.txt": b"x"}), "holds no GTSRB/Final_Training"),
    (pack({"GTSRB/Final_Training/Images/00000/00000_00000.ppm": bytes(2**20 + 1)}), "more than 1 MiB"),
    (b"<html>log in first</html>", "damaged"),
    (ZIPS[TRAIN][:50_000] + bytes(100) + ZIPS[TRAIN][50_100:], "damaged"),
], ids=["other", "large", "html", "crc"])
def test_unusable_archives(server, tmp_path, body, message):
    server.files[TRAIN] = body
    with pytest.raises(DataError, match=message): download(tmp_path, server.url, **UNCHECKED)
    assert holds_nothing(tmp_path)
    server.files[TRAIN] = ZIPS[TRAIN]
    download(tmp_path, server.url, **UNCHECKED)  # and nothing of the bad one stands in the way
    assert is_whole(tmp_path)


def test_extra_files_are_left_behind(server, tmp_path):
    folder = "GTSRB/Final_Training/Images/00000/"
    server.files[TRAIN] = pack(members()[TRAIN] | {f"{folder}Thumbs.db": b"x", f"{folder}run.sh": b"x", folder: b"", "__MACOSX/._GTSRB": b"x"})
    download(tmp_path, server.url, **UNCHECKED)
    assert files(tmp_path) == EXPECTED


def test_killed_while_unpacking(server, tmp_path):
    p = script("import time\ndef stop(): print('unpacked', flush=True); time.sleep(60)\ndata.os.sync = stop\n"
               "download(sys.argv[1], sys.argv[2], **FAST)", tmp_path, server.url)
    assert p.stdout.readline() == "unpacked\n"
    p.send_signal(signal.SIGKILL); p.communicate()
    assert [f for f in files(tmp_path) if f.endswith(".ppm")]  # they are there, but not in place
    assert holds_nothing(tmp_path) and info(tmp_path)["state"] == "absent"
    with pytest.raises(FileNotFoundError, match="gtsrb data download"): read_table(tmp_path)
    server.asked.clear()
    download(tmp_path, server.url, **FAST)
    assert [a[0] for a in server.asked] == [TEST, TRUTH]  # the archive was whole already
    assert files(tmp_path) == EXPECTED and is_whole(tmp_path)


def test_killed_between_two_parts(server, tmp_path):
    p = script("real = data._fetch\ndef fetch(url, *a, **kw):\n    if 'Test_Images' in url: os.kill(os.getpid(), 9)\n    real(url, *a, **kw)\n"
               "data._fetch = fetch\ndownload(sys.argv[1], sys.argv[2], **FAST)", tmp_path, server.url)
    p.communicate(timeout=20)
    assert p.returncode == -9 and (tmp_path/"GTSRB/Final_Training").is_dir()
    assert info(tmp_path)["state"] == "damaged" and not available(tmp_path)
    with pytest.raises(FileNotFoundError, match="Final_Test.*gtsrb data download"): read_table(tmp_path)
    server.asked.clear()
    download(tmp_path, server.url, **FAST)
    assert [a[0] for a in server.asked] == [TEST, TRUTH] and is_whole(tmp_path)


def test_damaged_set_is_not_overwritten(server, tmp_path):
    download(tmp_path, server.url, **FAST)
    (tmp_path/"GTSRB/Final_Training/Images/00014/00001_00001.ppm").unlink(); shutil.rmtree(tmp_path/"GTSRB/Final_Test")
    server.asked.clear()
    with pytest.raises(DataError, match="damaged one .*00001_00001.ppm.*move it away"): download(tmp_path, server.url, **FAST)
    assert not server.asked


# --- two processes, full disks

def test_two_processes_at_once(server, tmp_path):
    server.pause = 0.01
    two = [script("download(sys.argv[1], sys.argv[2], **FAST)", tmp_path, server.url) for _ in range(2)]
    for p in two: assert (*p.communicate(timeout=25), p.returncode) == ("", "", 0)  # nothing is printed in a pipe
    assert [a[0] for a in server.asked] == [TRAIN, TEST, TRUTH] and files(tmp_path) == EXPECTED and is_whole(tmp_path)


def test_file_size_limit(server, tmp_path):
    "A quota, acted out by RLIMIT_FSIZE: writing fails in the middle."
    p = script("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
               "try: download(sys.argv[1], sys.argv[2], **FAST)\nexcept DataError as e: print(e)", tmp_path, server.url)
    out, err = p.communicate(timeout=20)
    assert out.startswith("no room left under") and "GTSRB_HOME" in out and err == ""
    assert holds_nothing(tmp_path)
    server.asked.clear()
    download(tmp_path, server.url, **FAST)
    assert server.asked[0][1] == "bytes=200000-" and is_whole(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path/"disk"; disk.mkdir()
    def mount(size):
        try: done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True).returncode == 0
        except OSError: done = False
        if not done: pytest.skip("no right to mount a small file system")
        return disk
    yield mount
    if os.path.ismount(disk): subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("foreseen", [True, False])
@pytest.mark.parametrize("share", [0.5, 1.5], ids=["archive", "unpacking"])
def test_full_disk(server, small_disk, monkeypatch, share, foreseen):
    disk = small_disk(int(len(ZIPS[TRAIN]) * share))
    if not foreseen: monkeypatch.setattr(data, "_check_room", lambda root, need: None)  # so that it is met while writing
    with pytest.raises(DataError, match="no room left under"): download(disk, server.url, **FAST)
    assert holds_nothing(disk) and not list(disk.glob(".gtsrb-unpack*"))
    subprocess.run(["mount", "-o", f"remount,size={20 * len(ZIPS[TRAIN])}", disk], check=True)
    download(disk, server.url, **FAST)
    assert is_whole(disk)


def test_unwritable(server, tmp_path):
    (tmp_path/"file").write_text("x")
    with pytest.raises(DataError, match="cannot be written under"): download(tmp_path/"file"/"home", server.url, **FAST)


# --- reading

@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("small")
    for archive in members().values():
        for name, content in archive.items():
            (root/name).parent.mkdir(parents=True, exist_ok=True); (root/name).write_bytes(content)
    return root


def test_table(small):
    table = read_table(small)
    assert list(table.columns) == list(data.COLUMNS) and len(table) == 100
    assert table.iloc[0].tolist() == ["GTSRB/Final_Training/Images/00000/00000_00000.ppm", "train", 0, 0, 0, 40, 40, 5, 5, 34, 34]
    assert table.iloc[-1].tolist() == ["GTSRB/Final_Test/Images/00009.ppm", "test", 0, -1, -1, 40, 40, 5, 5, 34, 34]
    with pytest.warns(UserWarning, match="100 images, which is not the official set of 51,839"): read_table(small)
    assert info(small)["state"] == "other"
    assert data.read_images(table[-1:], small)[0] == members()[TEST]["GTSRB/Final_Test/Images/00009.ppm"]


def class_csv(root, c): return root/f"GTSRB/Final_Training/Images/{c:05d}/GT-{c:05d}.csv"


BREAKS = [
    (lambda r: (r/"GT-final_test.csv").unlink(), "GT-final_test.csv is missing"),
    (lambda r: shutil.rmtree(r/"GTSRB/Final_Test"), "Final_Test/Images is missing"),
    (lambda r: shutil.rmtree(r/"GTSRB"), "Final_Training/Images is missing"),
    (lambda r: (r/"GTSRB/Final_Test/Images/00003.ppm").unlink(), "1 of 10 images are missing, first 00003.ppm"),
    (lambda r: (r/"GTSRB/Final_Test/Images/00077.ppm").write_bytes(b""), "1 images are in no table"),
    (lambda r: class_csv(r, 14).unlink(), "GT-00014.csv is missing"),
    (lambda r: class_csv(r, 14).write_text("a;b\n"), "not the official header"),
    (lambda r: class_csv(r, 14).write_text(HEADER + "\n00000_00000.ppm;4;4\n"), "line 2 is not a row"),
    (lambda r: class_csv(r, 14).write_bytes(class_csv(r, 14).read_bytes()[:500]), "00014/GT-00014.csv: line"),
    (lambda r: (r/"GT-final_test.csv").write_text(HEADER + "\n00000.ppm;4;4;0;0;1;1;43\n"), "line 2 says class 43"),
    (lambda r: shutil.copy(class_csv(r, 14), class_csv(r, 42)), "line 2 says class 14"),
]

@pytest.mark.parametrize("break_it, message", BREAKS, ids=[m for _, m in BREAKS])
def test_incomplete_is_not_read(small, tmp_path, break_it, message):
    root = Path(shutil.copytree(small, tmp_path/"copy")); break_it(root)
    with pytest.raises(FileNotFoundError, match=f"{message}.*gtsrb data download"): read_table(root)
    assert message in " ".join(verify(root).problems) and info(root)["state"] == "damaged" and not available(root)


def test_verify_looks_at_the_files(small, tmp_path):
    root = Path(shutil.copytree(small, tmp_path/"copy"))
    whole = verify(root, content=True)
    assert not whole.problems and not whole.official and whole.tracks == 18 and (sum(whole.train), sum(whole.test)) == (90, 10)
    image = root/"GTSRB/Final_Test/Images/00003.ppm"; body = image.read_bytes()
    image.write_bytes(body[:-1] + b"!")
    assert verify(root, content=True).sha256 != whole.sha256
    image.write_bytes(body[:-1])
    assert "00003.ppm has 4,812 bytes; a PPM of 40 × 40 pixels has 4,813" in verify(root).problems[0]


def keys(table): return set(zip(table["class"], table["track"]))


def test_split(small):
    table = read_table(small); train = table[table["set"] == "train"]
    for folds in (2, 3, 5):
        parts = [track_split(train, folds, k, seed=4) for k in range(folds)]
        assert sorted(i for _, v in parts for i in v.index) == train.index.tolist()
        for a, b in parts:
            assert len(a) + len(b) == 90 and not keys(a) & keys(b) and set(a["class"]) == set(b["class"]) == {0, 14, 42}
    few = train[train["track"] < 2]  # fewer tracks than folds: still both sides, still no overlap
    for k in range(5):
        a, b = track_split(few, 5, k)
        assert set(a["class"]) == set(b["class"]) and not keys(a) & keys(b)
    with pytest.raises(ValueError, match="chooses nothing"): track_split(table)
    with pytest.raises(ValueError, match="one track"): track_split(train[train["track"] == 0])


def test_synthetic_set(tmp_path):
    "The drawn set has the official layout: read without a warning, split like the real one, and never taken for it."
    root = synthetic_dataset(tmp_path/"drawn", 430, seed=1)
    with warnings.catch_warnings(): warnings.simplefilter("error"); table = read_table(root)
    train = table[table["set"] == "train"]
    assert len(train) == 430 and not verify(root).problems and info(root)["state"] == "synthetic" and not available(root)
    for k in range(5):
        a, b = track_split(train, fold=k)
        assert a["class"].nunique() == b["class"].nunique() == 43 and not keys(a) & keys(b)
    with pytest.raises(DataError, match="another data set"): download(root, "http://127.0.0.1:9")


def test_light_imports():
    "Where the data is, and whether it is right, is asked on the serving floor too: no pandas, no TensorFlow."
    p = script("info('/nonexistent'); verify('/nonexistent')\n"
               "print([m for m in ('pandas', 'tensorflow', 'keras', 'matplotlib') if m in sys.modules])")
    assert p.communicate(timeout=20)[0] == "[]\n"


# --- the real set

@pytest.mark.real
def test_real_set():
    if not available(): pytest.skip("no official set under GTSRB_HOME")
    start = time.time(); table = read_table()
    assert time.time() - start < 2
    train = table[table["set"] == "train"]
    assert (len(train), len(table) - len(train)) == (39_209, 12_630) and not verify().problems
    sizes = train.groupby(["class", "track"]).size()
    assert sizes.value_counts().to_dict() == {30: 1306, 29: 1}
    folds = [track_split(train, fold=k) for k in range(5)]
    for a, b in folds:
        held, all_ = (x.groupby("class")["track"].nunique() for x in (b, train))
        assert len(held) == a["class"].nunique() == 43 and (held - all_ / 5).abs().max() < 1 and not keys(a) & keys(b)
    assert sum(len(b) for _, b in folds) == 39_209 and {len(keys(b)) for _, b in folds} == {261, 262}
    assert download(url="http://127.0.0.1:9") == data.home()  # complete: no network
