"""The project's own rules: what is generated is fresh, imports run one way, the public address stands in one place."""
import ast, configparser, json, re, subprocess, sys, tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = configparser.ConfigParser()
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")
SETTINGS = SETTINGS["DEFAULT"]
NOTEBOOKS = sorted((ROOT / "nbs").glob("[0-9]*.ipynb"))
MODULES = sorted(p for p in (ROOT / "gtsrb").glob("*.py") if not p.name.startswith("_"))

MAY_IMPORT = {  # which modules of ours the exported cells of a notebook may use; core is open to all
    "core": "", "signs": "", "data": "signs", "explore": "data", "preprocess": "", "augment": "preprocess", "negatives": "signs", "model": "",
    "train": "signs data preprocess augment negatives model", "evaluate": "", "robustness": "evaluate", "confidence": "evaluate", "errors": "evaluate",
    "study": "data negatives train evaluate", "recipe": "preprocess augment train evaluate robustness study", "export": "preprocess data negatives model train evaluate confidence",
    "card": "", "predict": "preprocess", "api": "signs preprocess predict", "client": "predict", "scale": "preprocess predict api",
    "cli": "signs data explore preprocess augment negatives model train evaluate robustness confidence errors study recipe export predict api client scale",
}
SERVING = {"core", "signs", "preprocess", "predict", "api", "client", "cli"}
DEPENDENCIES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
SERVING_LIBRARIES = {re.match(r"[\w.-]+", d)[0].replace("-", "_") for d in DEPENDENCIES} | {"cv2", "starlette", "pydantic", "anyio", "click"}


def imported(path, nested):
    "The modules that a file imports as (ours, name); those inside functions only where `nested`."
    def nodes(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not nested: continue
            yield child
            yield from nodes(child)

    for node in nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import): names = [(0, a.name) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.level, node.module)]
            if not node.module or names == [(0, "gtsrb")]: names = [(1, a.name) for a in node.names if a.name in MAY_IMPORT]
        else: continue
        for level, name in names:
            root, _, rest = name.partition(".")
            if level: yield True, root
            elif root == "gtsrb" and rest: yield True, rest.partition(".")[0]
            elif root != "gtsrb": yield False, root


def git_files():
    if not (ROOT / ".git").exists(): pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [f for f in listed.stdout.split("\0") if f and (ROOT / f).is_file()]


@pytest.mark.parametrize("script", ["readme", "badges"])
def test_generated_is_fresh(script):
    done = subprocess.run([sys.executable, ROOT / ".ci" / script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_imports_run_downward(path):
    may = {"core", *MAY_IMPORT[path.stem].split()}
    assert {name for ours, name in imported(path, nested=True) if ours} <= may
    if path.stem == "cli": assert {name for ours, name in imported(path, nested=False) if ours} <= SERVING, "the rest of cli's imports are lazy"


@pytest.mark.parametrize("path", [p for p in MODULES if p.stem in SERVING], ids=lambda p: p.stem)
def test_serving_floor_stands_alone(path):
    "What `pip install gtsrb` brings is all that these modules import; only commands of cli may reach further, when called."
    foreign = {name for ours, name in imported(path, nested=path.stem != "cli") if not ours}
    assert foreign - set(sys.stdlib_module_names) <= SERVING_LIBRARIES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_and_module_share_their_name(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    name = re.sub(r"^\d+[a-z]?_", "", path.stem)
    assert "".join(cells[0]["source"]).split("\n")[0] == f"#| default_exp {name}"
    assert (ROOT / "gtsrb" / f"{name}.py").exists(), "run nbdev_export"
    outputs = [o for c in cells for o in c.get("outputs", [])]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert not [o for o in outputs if re.search(r"site-packages|/tmp/tmp|/home/|/root/", json.dumps([o.get("text"), {k: v for k, v in o.get("data", {}).items() if k.startswith("text/")}]))], "a path of the machine"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_import_cells_hold_imports_only(path):
    "The documentation executes every cell with an import, whatever its flags; anything else in such a cell would run there too."
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or re.search(r"^\s*[%!]", source, re.M): continue
        imports = [isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(source).body]
        assert all(imports) or not any(imports), source


PAGES = sorted((ROOT / "nbs").glob("*.ipynb"))
@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_figures_have_captions_and_alternative_text(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown": assert "![](" not in source, source
        elif any(kind.startswith("image/") for o in cell.get("outputs", []) for kind in o.get("data", {})):
            assert [k for k in ("label: fig-", "fig-cap: ", "fig-alt: ") if not re.search(rf"^#\| {k}\S", source, re.M)] == [], source


def undocumented(path):
    """Public functions and classes without docstring, and parameters without a word: a comment on their line, a help text (perhaps their type's), or their name in the docstring.

    Of methods, those of classes that inherit from a library's go without: the library says what they are."""
    tree, lines = ast.parse(text := path.read_text(encoding="utf-8")), text.splitlines()
    said_by_type = {"Request"} | {t.id for n in tree.body if isinstance(n, ast.Assign) and "help=" in ast.unparse(n.value) for t in n.targets if isinstance(t, ast.Name)}
    mine = {n.name for n in tree.body if isinstance(n, ast.ClassDef)}
    def visit(body, outer="", foreign=False):
        for n in body:
            if not isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or n.name.startswith("_"): continue
            if not ast.get_docstring(n) and not foreign: yield f"{outer}{n.name}: docstring"
            if isinstance(n, ast.ClassDef): yield from visit(n.body, f"{n.name}.", any(ast.unparse(b) not in mine for b in n.bases))
            elif ast.get_docstring(n):
                together = sum(a.lineno == n.lineno and a.arg not in {"self", "cls"} for a in n.args.args) > 1        # one comment cannot speak of several
                said = {w for w in re.findall(r"`(\w+)`", ast.get_docstring(n))}
                yield from (f"{outer}{n.name}: {a.arg}" for a in (*n.args.posonlyargs, *n.args.args, *n.args.kwonlyargs)
                            if a.arg not in {"self", "cls", *said} and ("#" not in lines[a.lineno - 1] or together and a.lineno == n.lineno) and not re.search("help=|description=", ast.unparse(a))
                            and not (a.annotation and ast.unparse(a.annotation) in said_by_type))
    return list(visit(tree.body))

@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_public_functions_are_documented(path):
    assert undocumented(path) == []


def test_readme_commands_stand_alone():
    blocks = re.findall(r"^```bash\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.S | re.M)
    lines = [line for b in blocks for line in b.splitlines()]
    for command in ("pip install . && uvicorn gtsrb.api:app", "pip install -e '.[dev]' && nbdev_test --n_workers 2 && pytest"):
        assert lines.count(command) == 1


def test_public_address_stands_in_settings_only():
    "Everything else that names the repository or the site is generated from settings.ini."
    addresses = [SETTINGS["git_url"], SETTINGS["doc_host"]]
    assert all(a.startswith("https://") for a in addresses)
    def hand_written(f):
        text = (ROOT / f).read_text(encoding="utf-8", errors="ignore")
        if not f.endswith(".ipynb"): return text
        sources = ["".join(c["source"]) for c in json.loads(text)["cells"]]
        derived = ("[![", "#| hide\n#| eval: false\n# On Colab:", "| Notebook |")   # what .ci/badges writes
        return "\n".join(s for s in sources if not s.startswith(derived))
    generated = {"settings.ini", "README.md", "gtsrb/_modidx.py"}
    assert [f for f in git_files() if f not in generated and any(a in hand_written(f) for a in addresses)] == []


@pytest.mark.parametrize("name", ["train", "test"])
def test_every_suspect_has_a_reason(name):
    "What stands on the list of suspect labels was looked at."
    import csv
    with (ROOT / f"benchmarks/labels/{name}.csv").open(encoding="utf-8", newline="") as f: rows = list(csv.DictReader(f))
    assert rows and len({r["path"] for r in rows}) == len(rows)
    assert [r["path"] for r in rows if not r["reason"].startswith(("label right; ", "label wrong; ", "content: "))] == []


def test_citation_names_the_version():
    assert f"\nversion: {SETTINGS['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_nothing_large_and_no_data_set_images_in_the_repository():
    files = git_files()
    assert [f for f in files if (ROOT / f).stat().st_size > 10e6] == []
    assert [f for f in files if re.search(r"\.(ppm|webp)$|(^|/)\d{5}(_\d{5}){0,2}\.(png|jpg)$", f)] == []
