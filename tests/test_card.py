"""The page of each artefact and its card.json: one made from the other, and every number of the page to be found in the JSON."""
import csv, json, re
from pathlib import Path

import pytest

from gtsrb.card import page

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "benchmarks/scorings.csv"
NAMES = ["default", "lite"]

def card_of(name):
    file = ROOT / f"gtsrb/assets/{name}/card.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

def saved_page(name):
    "What the committed notebook shows."
    cells = json.loads((ROOT / f"nbs/card_{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    found = ["".join(o["data"]["text/markdown"]) for c in cells for o in c.get("outputs", []) if "text/markdown" in o.get("data", {})]
    assert len(found) == 1, f"run nbs/card_{name}.ipynb and keep its output"
    return found[0]

def leaves(value):
    "Every number and text in a structure, and how many entries its lists have."
    if isinstance(value, dict): value = [*value.values()]
    if not isinstance(value, list): yield value; return
    yield len(value)
    for v in value: yield from leaves(v)

def unexplained(text, known):
    "The numbers of a page that none of the known ones gives when it is rounded to as many digits, as a share or as it is."
    texts = {v for v in known if isinstance(v, str)}
    numbers = [float(v) for v in known if isinstance(v, (int, float)) and not isinstance(v, bool)]
    for t in sorted(texts, key=len, reverse=True): text = text.replace(t, " ") if re.search(r"\d", t) else text
    for token, share in re.findall(r"(?<![\w.])(-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?)(%?)", text):
        digits, value = len(token.partition(".")[2]), float(token.replace(",", ""))
        if not any(f"{100 * n if share else n:.{digits}f}" == f"{value:.{digits}f}" for n in numbers): yield token + share

@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_made_from_the_json(name):
    card = card_of(name)
    if card is None: assert "ships no artefact" in saved_page(name)
    else: assert saved_page(name) == page(card, RECORD), f"run nbs/card_{name}.ipynb again"

@pytest.mark.parametrize("name", NAMES)
def test_every_number_on_the_page_is_in_the_json(name):
    card = card_of(name)
    if card is None: pytest.skip(f"no artefact {name}")
    record = list(csv.DictReader(open(RECORD, newline="")))
    number = lambda s: float(s) if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", s) else s
    known = [*leaves(card), *(number(v) for r in record for v in r.values()), *range(1, len(record) + 1)]   # the list's own numbers, and its lines
    prose = {"95%", "256", "99.5%"}                               # of "95% interval" and "95% of signs pass", of SHA-256, and the mark that the first model missed
    assert set(unexplained(saved_page(name), known)) - prose == set()

def test_a_wrong_number_would_be_found():
    card = card_of("default")
    known, text = [*leaves(card), *range(99)], saved_page("default")
    right = f"{card['calibration']['ece_after']:.2%}"
    wrong = f"{float(right[:-1]) + 7.77:.2f}%"
    assert right in text and wrong in unexplained(text.replace(right, wrong), known)
    assert "12,631" in unexplained("12,631 images", known) and not [*unexplained(f"{card['training']['images']:,} images", known)]
