"""Notebooks: as they are committed, how they take parameters, and how they become pages."""

from __future__ import annotations

import ast
import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import nbformat
import papermill
import pytest
from book_samples import fill, notebook

from kdnb import exhibits, notebooks, paths
from kdnb.errors import KdnbError
from kdnb.exhibits import iekd, infoflow, slkd, srm
from kdnb.study.store import Store
from kdnb.tables.words import slug

SOURCES = sorted((paths.ROOT / "notebooks").glob("*/*.ipynb"))
STUDY = {"profile": "demo", "seeds": 2}


def named(path):
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture(params=SOURCES, ids=named)
def source(request):
    return request.param


def test_there_are_notebooks():
    pages = {named(path) for path in SOURCES}
    compared = ("kd", "fitnet", "fsp", "pkt", "mmd", "crd", "table1", "findings")
    assert {f"comparison/{name}" for name in compared} <= pages
    of_slkd = ("table1", "table2", "imagenet", "findings", "plain", *slkd.BENCHMARK[2:], "control", "runs")
    assert {f"slkd/{name}" for name in of_slkd} <= pages


def metadata(path):
    return nbformat.read(path, as_version=4).metadata.get("kdnb", {})


def test_every_row_has_one_page_and_a_page_names_rows_and_exhibits_that_there_are():
    """Tables lead from a row to its page; a page is made again when records of its exhibits change."""
    for paper in (paper.key for paper in exhibits.papers() if paper.claims):
        lines = {row.key for exhibit in exhibits.select(paper) for row in exhibit.rows}
        own = [path for path in SOURCES if path.parent.name == paper]
        named_rows = [row for path in own for row in metadata(path).get("rows", [])]
        twice = {row for row in named_rows if named_rows.count(row) > 1}
        assert not twice, f"notebooks/{paper}: several pages say that they are about these rows: {twice}"
        assert set(named_rows) <= lines, f"notebooks/{paper}: no table has these rows: {set(named_rows) - lines}"
        for path in own:
            for key in metadata(path).get("exhibits", []):
                assert {e.paper for e in exhibits.select(key)} == {paper}, named(path)
        without = lines - set(named_rows)
        assert paper == "comparison" or not without, (
            f"no page of notebooks/{paper} names these rows in its metadata, kdnb.rows: {sorted(without)}"
        )


def test_the_page_of_a_control_has_the_table_that_a_dagger_leads_to():
    """By the name of its exhibit, which `tables.results` has by default."""
    for exhibit in exhibits.all_exhibits():
        for key in {control.table for control in exhibit.controls.values()}:
            cells = nbformat.read(paths.ROOT / "notebooks" / f"{key}.ipynb", as_version=4).cells
            code = "\n".join(cell.source for cell in cells)
            assert f'name="{slug(key)}"' in code or f'tables.results("{key}", profile=profile)' in code, key


def test_no_two_tables_or_figures_have_one_name():
    """Their names are labels, of which the book has each once."""
    found = [name for path in SOURCES for name in re.findall(r'name=\\"([^"\\]+)\\"', path.read_text())]
    twice = {name for name, count in Counter(found).items() if count > 1}
    assert len(found) > 100 and not twice, f"the name= of several tables or figures, in any notebook: {sorted(twice)}"


#: Those that have a page of findings by conclusions, and whoever has one besides.
FINDINGS = {"slkd", "srm", "iekd", "infoflow", *(path.parent.name for path in SOURCES if path.stem == "findings")}
FINDINGS -= {"comparison"}  # whose page is its table of claims


@pytest.mark.parametrize("paper", sorted(FINDINGS))
def test_findings_tell_every_claim_once(paper):
    """Conclusion by conclusion, before the table of all."""
    findings = next(path for path in SOURCES if named(path) == f"{paper}/findings").read_text()
    told = [key for ids in re.findall(r"ids=\[([^\]]*)\]", findings) for key in re.findall(r"[A-Z]\d+", ids)]
    assert sorted(told) == sorted(claim.id for claim in exhibits.paper(paper).claims)


def begun(paper: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pages of a paper on which a reader varies a row: their names, and what their first cells define."""
    for path in SOURCES:
        code = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        if path.parent.name != paper or not any(f"{paper}.variation" in source for source in code):
            continue
        names: dict[str, Any] = {}
        until = next(source for source in code if f"{paper}.variation" in source)
        parameters = next(source for source in code if source.startswith("# demo, pilot"))
        lines = [line for line in until.splitlines() if "show(" not in line]
        exec("\n".join([f"from kdnb.exhibits import {paper}", parameters, *lines]), names)
        yield named(path), names


def experiments(cells):
    return {cell.experiment.fingerprint for cell in cells}


def test_the_pages_of_slkds_methods_begin_with_the_tables_settings():
    """What a reader may change stands in the cell of parameters with the values of the paper's table."""
    seen = set()
    for page, names in begun("slkd"):
        (_, *_, own) = names["rows"]
        assert names["mine"] and len(experiments(slkd.TABLE_1.cells("paper", "cifar100", [own, own.key]))) == 1, page
        seen.add(own.row.key)
    assert seen == {*slkd.BENCHMARK[2:]}


def test_the_pages_of_information_flows_methods_begin_with_the_tables_settings():
    seen = set()
    for page, names in begun("infoflow"):
        own = names["rows"][-1]
        assert len(experiments(infoflow.TABLE_1.cells("paper", "cifar10", [own, own.key]))) == 1, page
        seen.add(own.key)
    assert seen == {"distill", "hint", "mkt", "pkt", "flow"}


def test_the_pages_of_srms_methods_begin_with_the_tables_settings():
    seen = set()
    for page, names in begun("srm"):
        own = names["rows"][-1]
        table = dataclasses.replace(srm.TABLE_1, choose=None)
        assert names["mine"] and len(experiments(table.cells("paper", "cifar100", [own, own.key]))) == 1, page
        seen.add(own.row.key)
    assert seen == {*srm.METHODS[3:]}  # the teacher, the plain student and KD have nothing to vary here


def test_the_pages_of_inheriting_methods_begin_with_the_tables_settings():
    """Two networks that teach each other stand in Table 4, all others in Table 1."""
    seen = set()
    for page, names in begun("iekd"):
        own = names["rows"][-1]
        table = iekd.TABLE_4 if own.pair.scored else iekd.TABLE_1
        assert names["mine"] and len(experiments(table.cells("paper", None, [own, own.key]))) == 1, page
        seen.add(own.row.key)
    assert seen == {"ft", *iekd.IE, "tf-kd", "dml", "ie-dml"}


def test_outputs_are_stripped(source):
    for cell in nbformat.read(source, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


def test_the_pre_commit_hook_changes_nothing_and_keeps_tags(tmp_path):
    copies = [shutil.copy(path, tmp_path / f"{path.parent.name}-{path.name}") for path in SOURCES]
    subprocess.run([sys.executable, "-m", "nbstripout", "--keep-id", *map(str, copies)], check=True)
    for source, copy in zip(SOURCES, copies, strict=True):
        assert json.loads(copy.read_text()) == json.loads(source.read_text()), named(source)


def test_exactly_one_cell_of_parameters_with_plain_values(source):
    tagged = [c for c in nbformat.read(source, as_version=4).cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    known = papermill.inspect_notebook(str(source))
    assert "profile" in known and known["profile"]["default"] == '"demo"'
    assert not {"numpy", "Path", "tuple"} & {p["inferred_type_name"] for p in known.values()}


def test_parameters_are_handed_on_as_they_come(source):
    """Whoever takes them brings them to their kind; arithmetic of a notebook would trip over a text before that."""
    cells = [c for c in nbformat.read(source, as_version=4).cells if c.cell_type == "code"]
    known = papermill.inspect_notebook(str(source)).keys()
    for cell in cells:
        for node in ast.walk(ast.parse(cell.source)):
            computed = isinstance(node, ast.BinOp | ast.Compare | ast.UnaryOp | ast.IfExp | ast.Subscript)
            names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)} if computed else set()
            assert not names & known, ast.unparse(node)


def test_the_kernel_is_anybodys(source):
    assert nbformat.read(source, as_version=4).metadata.kernelspec.name == "python3"


def test_no_training_and_no_drawing_in_notebooks(source):
    code = "\n".join(c.source for c in nbformat.read(source, as_version=4).cells if c.cell_type == "code")
    for word in ("import torch", "import matplotlib", "pyplot", "backward(", "optimizer", "for epoch"):
        assert word not in code


def test_it_begins_with_a_title_and_an_idea(source):
    first = nbformat.read(source, as_version=4).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert len(first.source) > 200, "more than 200 letters of a first cell say what its page is about"


def test_every_notebook_is_a_page():
    toc = (paths.ROOT / "_toc.yml").read_text()
    for path in SOURCES:
        assert f"book/executed/{named(path)}\n" in toc


def test_an_unknown_parameter_names_the_nearest(source):
    with pytest.raises(KdnbError, match=r"'profil'.*did you mean profile"):
        notebooks.check_parameters(source, {"profil": "pilot"})


def test_an_unknown_parameter_ends_the_command(tmp_path, capsys):
    source = notebook(tmp_path / "notebooks" / "comparison" / "a.ipynb")
    target = tmp_path / "out" / "a.ipynb"
    assert notebooks.main(["run", str(source), str(target), "--parameters", '{"seed": 3}']) == 2
    assert "did you mean seeds" in capsys.readouterr().err
    assert not target.exists()


def test_a_page_shows_without_torch_and_hides_its_injected_cell(tmp_path):
    fill(Store.open())
    source = notebook(
        tmp_path / "notebooks" / "comparison" / "a.ipynb",
        "import os, sys\nfrom kdnb import plots, tables\nfrom kdnb.exhibits.show import show",
        'runs = show("comparison/table1", ["plain", "fitnet+kd"], profile, seeds=seeds)\nassert not runs.missing',
        'plots.curves(runs, of="fitnet+kd")',
        'tables.results("comparison/table1", ["plain", "fitnet+kd"], profile)',
        'tables.claims("comparison")',
        'assert "torch" not in sys.modules and os.environ["KDNB_BATCH"]',
    )
    target = tmp_path / "book" / "executed" / "comparison" / "a.ipynb"
    notebooks.execute(source, target, STUDY, tmp_path)
    page = nbformat.read(target, as_version=4)
    injected = [c for c in page.cells if "injected-parameters" in c.metadata.tags]
    assert len(injected) == 1 and "hide-input" in injected[0].metadata.tags and "seeds = 2" in injected[0].source
    assert sorted(p.suffix for p in target.parent.iterdir()) == [".csv", ".csv", ".csv", ".ipynb", ".svg", ".svg"]
    assert notebooks.is_current(source, target, STUDY)


def test_a_page_is_made_with_a_long_temporary_folder_a_home_that_cannot_be_written_and_another_locale(tmp_path):
    source = notebook(
        tmp_path / "notebooks" / "comparison" / "a.ipynb",
        "import sys, warnings\nimport matplotlib.pyplot\nwarnings.warn('for the log')\nprint('für die Seite')",
    )
    target, long = tmp_path / "out" / "a.ipynb", tmp_path / ("t" * 120)
    long.mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "kdnb.notebooks", "run", str(source), str(target)],
        env={**os.environ, "HOME": "/proc/nobody", "TMPDIR": str(long), "LC_ALL": "C", "PYTHONUTF8": "0",
             "PYTHONCOERCECLOCALE": "0"},
        capture_output=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0 and b"for the log" in ended.stderr, ended.stderr
    outputs = [o for c in nbformat.read(target, as_version=4).cells for o in c.get("outputs", [])]
    assert [o.text for o in outputs] == ["für die Seite\n"]


def test_a_full_disk_under_a_page_is_one_sentence_and_leaves_nothing_half(tmp_path, monkeypatch, capsys):
    source = notebook(tmp_path / "notebooks" / "comparison" / "a.ipynb", "1")
    target = tmp_path / "out" / "a.ipynb"

    def full(written, path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(nbformat, "write", full)
    monkeypatch.setattr(papermill, "execute_notebook", lambda given, draft, *rest, **more: shutil.copy(given, draft))
    assert notebooks.main(["run", str(source), str(target)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("kdnb: a could not be made: ") and told.endswith("No space left on device.\n")
    assert not list(target.parent.iterdir())


def test_a_failing_cell_is_an_error_that_names_it_and_leaves_no_page(tmp_path):
    source = notebook(tmp_path / "notebooks" / "comparison" / "a.ipynb", "1 / 0")
    target = tmp_path / "out" / "a.ipynb"
    with pytest.raises(KdnbError, match="cell 2: ZeroDivisionError"):
        notebooks.execute(source, target, {}, tmp_path)
    assert not target.exists()


def test_a_page_is_stale_when_notebook_parameters_or_records_change(tmp_path):
    store = Store.open()
    fill(store, seeds=1)
    source = notebook(tmp_path / "notebooks" / "comparison" / "a.ipynb", exhibits=["comparison/table1"])
    before = notebooks.digest(source, STUDY)
    assert notebooks.digest(source, STUDY) == before
    assert notebooks.digest(source, {**STUDY, "seeds": 3}) != before
    fill(store, seeds=1, key="comparison/kd-alpha")
    assert notebooks.digest(source, STUDY) == before  # not what this page shows
    fill(store, seeds=2, key="comparison/table1")
    after = notebooks.digest(source, STUDY)
    assert after != before
    notebook(source, "1", exhibits=["comparison/table1"])
    assert notebooks.digest(source, STUDY) != after


def test_a_page_is_stale_when_a_file_it_reads_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "data" / "reported").mkdir(parents=True)
    source = notebook(tmp_path / "notebooks" / "engine" / "a.ipynb", exhibits=[], files=["bench/*.json"])
    before = notebooks.digest(source, STUDY)
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "here.json").write_text("{}")
    assert notebooks.digest(source, STUDY) != before


def test_a_notebook_run_by_hand_trains_what_is_missing(tmp_path):
    """The smallest real one: the plain student on digits, all but its last seed stored already."""
    fill(Store.open(), seeds=4, key="comparison/table1")
    plain = exhibits.get("comparison/table1").cells("demo", "digits")[1].experiment
    assert plain is not None
    stored = Store.open().get(plain.fingerprint, 4)
    assert stored is not None and stored.path is not None
    stored.path.unlink()
    executed = tmp_path / "plain.ipynb"
    source = paths.ROOT / "notebooks" / "comparison" / "plain_student.ipynb"
    parameters = {"seeds": 4, "device": "cpu"}
    papermill.execute_notebook(str(source), str(executed), parameters, kernel_name="python3", progress_bar=False)
    trained = Store.open().get(plain.fingerprint, 4)
    assert trained is not None and trained.environment["commit"] != stored.environment["commit"]
    cells = nbformat.read(executed, as_version=4).cells
    said = "".join(o.get("text", "") for c in cells for o in c.get("outputs", []))
    assert "plain resnet8 on digits, seed 4" in said and "seed 3" not in said
    assert "(4)" in executed.read_text()
