"""Every printed number beside a claim stands in the paper's file under that claim's row and column.

The file is read here line by line, by a spelling of rows of this test's own: what the ledger says is not asked how it
got there.
"""

from __future__ import annotations

import csv
import re

import pytest

from kdnb import exhibits, paths, tables

#: Row -> method as the paper spells it, and what the line's condition has to say; `table/row` where tables differ.
SPELT = {
    "comparison": {"plain": "baseline"},
    "slkd": {
        "slkd-sequential": "SLKD*",
        "slkd-one": "SLKD; supervision_T=1;supervision_SLT=1",
        "slkd-self-one": "SLKD; supervision_T=0;supervision_SLT=1",
    },
    "srm": {
        "plain": "baseline",
        "seq-kd": "Seq. KD",
        "kd-one": "KD+ONE",
        "eskd-at": "ESKD+AT",
        "table3/srm": "SRM; mu=2.0;lambda=0.02",
        "table4/srm": "SRM; pixel_level=1;image_level=1",
        "srm-pixel": "SRM; pixel_level=1;image_level=0",
        "srm-image": "SRM; pixel_level=0;image_level=1",
        **{f"{of}-probe": f"{of}; protocol=linear_probing" for of in ("fitnet", "srm")},
        **{f"{of}-whole": f"{of}; protocol=whole_network_update" for of in ("fitnet", "srm")},
        **{f"srm-{mu}-{share}": f"SRM; mu={float(mu)};lambda={share}" for mu in ("1.5", "2", "3") for share in
           ("0.01", "0.02", "0.03")},
    },
    "iekd": {
        "plain": "baseline",
        "ofd": "OD",
        "tf-kd": "Tf-KD(S)",
        "table6a/ie-ft": "IE-KD; distance=L1",
        "table6b/ie-ft": "IE-KD; lambda_inh=50;lambda_exp=50",
        "table6b/plain": "IE-KD; lambda_inh=0;lambda_exp=0",
        "metric-l2": "IE-KD; distance=L2",
        "metric-cosine": "IE-KD; distance=cos",
        "metric-partial-l2": "IE-KD; distance=partial_L2",
        "metric-l1-cka": "IE-KD; distance=L1+CKA",
        **{f"share-{n}": f"IE-KD; inheritance={n / 100}" for n in (0, 30, 50, 70, 100)},
        **{f"weights-{a}-{b}": f"IE-KD; lambda_inh={a};lambda_exp={b}" for a in (5, 50, 500) for b in (5, 50, 500)},
    },
    "infoflow": {
        "plain": "Student",
        "contrastive": "Student; supervision=contrastive",
        "flow": "Proposed",
        "flow+contrastive": "Proposed; supervision=contrastive",
        **{f"table1/{row}": f"{row}; supervision=none" for row in
           ("distill", "hint", "mkt", "pkt", "hint-h", "mkt-h", "pkt-h")},
        "table1/flow": "Proposed; supervision=none",
        "table1/plain": "Student; supervision=none",
        **{f"{row}+contrastive": f"{row}; supervision=contrastive" for row in
           ("hint", "mkt", "pkt", "hint-h", "mkt-h", "pkt-h")},
        **{f"table4/{row}": row.replace("mkt", "mds") for row in ("mkt", "mkt-h")},
        "table5/mkt": "MDS",
        **{f"table6/{row}": "Proposed" for row in
           ("cnn1_a-cnn1", "cnn1_l-cnn1", "cnn1_h-cnn1", "cnn1-cnn1_l", "cnn1_a-cnn1_l", "cnn1_h-cnn1_l")},
    },
}  # fmt: skip
#: Networks that this study tells apart where a paper does not.
NETWORKS = {"vgg13_pool4": "VGG-13", "resnet110a": "ResNet-110", "mobilenet_v1": "MobileNet", "allcnn": "allcnn_0.66"}
PLACE = re.compile(r"(?P<dataset>[^/#@]+)(/(?P<networks>[^#@]+))?(#(?P<metric>[^@]+))?(@(?P<more>.+))?")


def letters(text: str) -> str:
    """A name however it is written: `WRN-40-2` is `wrn_40_2`."""
    return re.sub(r"[^a-z0-9+*]", "", text.lower())


def network(text: str) -> str:
    return letters(NETWORKS.get(text, text))


def stands(entry: dict[str, str], paper: str, place: str, row: str) -> bool:
    """Whether a line of a paper's file is of this row and column."""
    column = PLACE.fullmatch(place)
    known = SPELT.get(paper, {"plain": "baseline"})
    spelt, _, condition = known.get(f"{entry['exhibit']}/{row}", known.get(row, row)).partition("; ")
    teacher, student, scored = "", "", ""
    if column["networks"]:
        teacher, student, scored = [*column["networks"].split("-"), "", ""][:3]
    if paper == "slkd" and not student:  # a student's place: the row says who taught it
        teacher, student = row.partition("/")[0], teacher
        spelt = row.partition("/")[2]
    if paper == "infoflow" and "-cnn1" in row:  # a row is a pair of networks
        teacher, student = row.split("-")
    if (entry["dataset"], entry["metric"]) != (column["dataset"], column["metric"] or "top1_accuracy"):
        return False
    conditions = {*condition.split(";")} - {""}
    if letters(entry["method"]) != letters(spelt) or not conditions <= {*entry["condition"].split(";")}:
        return False
    if student and row != "teacher" and letters(entry["student"]) != network(student):
        return False
    if entry["teacher"] and teacher and letters(entry["teacher"]) != network(teacher):
        return False
    said = dict(part.split("=") for part in entry["condition"].split(";") if "=" in part)
    if "paired_teacher" in said and letters(said["paired_teacher"]) != network(teacher):
        return False
    if scored and (
        said["position"] != {"first": "net1", "second": "net2"}[scored]
        or {letters(said["net1"]), letters(said["net2"])} != {network(teacher), network(student)}
    ):
        return False
    if said.get("split") == "train":
        return False
    return said.get("shot", "full") == (column["more"] if column["more"] and paper == "srm" else "full")


@pytest.mark.parametrize("paper", [paper.key for paper in exhibits.papers() if paper.claims])
def test_a_printed_number_stands_under_the_row_and_the_column_of_its_claim(paper, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "demo_results", lambda: tmp_path)
    monkeypatch.setattr(paths, "committed_results", lambda: tmp_path)
    with open(paths.reported() / f"{paper}.csv", newline="", encoding="utf-8") as stream:
        entries = [entry for entry in csv.DictReader(stream) if not entry["exhibit"].startswith(("text", "supp"))]
    frame = tables.ledger()[0].frame
    checked = 0
    for _, claim in frame[frame["paper"] == paper].iterrows():
        own = {key.partition("/")[2] for key in claim["exhibits"].split()}
        for part in filter(None, claim["printed_numbers"].split("; ")):
            place, row, value = part.split(" ")
            found = [entry for entry in entries if stands(entry, paper, place, row)]
            # Beside the rows of its own tables a claim may have one of another table of the same column.
            found = [entry for entry in found if entry["exhibit"] in own] or found
            assert {float(entry["value"]) for entry in found} == {float(value)}, (claim["id"], part, found)
            checked += 1
    assert checked > (100 if paper in SPELT else 0)


def test_a_number_under_another_row_is_seen():
    entry = {"exhibit": "table1", "dataset": "cifar100", "teacher": "ResNet-56", "student": "ResNet-20", "method": "KD"}
    entry |= {"condition": "role=student;with_kd=yes", "metric": "top1_accuracy", "value": "69.78"}
    assert stands(entry, "comparison", "cifar100", "kd")
    assert not stands(entry, "comparison", "cifar100", "crd") and not stands(entry, "comparison", "cifar10", "kd")
    assert not stands({**entry, "metric": "top1_gain_over_baseline"}, "comparison", "cifar100", "kd")
