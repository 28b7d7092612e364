"""Each way in which script and notebook can drift apart is one line of the check."""

import json

import notebooks
import pytest
from notebook_tools.api import api_faults, api_hash
from notebook_tools.check import find_faults
from notebook_tools.links import link_faults
from notebook_tools.source import Cell, code_hash, read_script


def _only_fault(project):
    faults = find_faults(project)
    assert len(faults) == 1, faults
    assert "\n" not in faults[0]
    return faults[0]


def test_built_notebook_has_no_fault(project):
    assert find_faults(project) == []


def test_check_changes_no_file(project):
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in project.root.rglob("*.*")}
    project.script("tiny").touch()
    before[project.script("tiny")] = (
        project.script("tiny").read_bytes(),
        project.script("tiny").stat().st_mtime_ns,
    )
    find_faults(project)
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in project.root.rglob("*.*")}
    assert after == before


def test_script_without_notebook(project):
    project.notebook("tiny").unlink()
    assert "notebooks_src/tiny.py: has no notebook" in _only_fault(project)


def test_notebook_without_script(project):
    project.script("tiny").unlink()
    assert "tiny.ipynb: has no script" in _only_fault(project)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("docs/more.ipynb", "docs/tutorial"),
        ("docs/tutorial/deeper/tiny.ipynb", "docs/tutorial"),
        ("notebooks_src/tiny.ipynb", "docs/tutorial"),
        ("notebooks_src/deeper/more.py", "notebooks_src"),
    ],
)
def test_tutorial_where_nobody_looks_for_its_partner(project, path, place):
    stray = project.root / path
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("")
    assert _only_fault(project) == f"{path}: lies outside of {place}, so it has no partner"


def test_repository_without_tutorials(project):
    project.script("tiny").unlink()
    project.notebook("tiny").unlink()
    assert "holds no script" in _only_fault(project)


def test_truncated_notebook(project):
    text = project.notebook("tiny").read_text()
    project.notebook("tiny").write_text(text[: len(text) // 2])
    assert "is no valid notebook" in _only_fault(project)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("# What follows", "# What comes", "cell 4 (markdown) differs"),
        ('print("written to"', 'print("put into"', "cell 2 (code) differs"),
        ('# %% tags=["measured"]', "# %%", "cell 5 has tags"),
        ("# %%\nprint(note.read_text())\nnote.stat", "# %%\nnote.stat", "cell 3 (code) differs"),
    ],
)
def test_edited_script(project, old, new, fault):
    script = project.script("tiny")
    text = script.read_text()
    assert old in text
    script.write_text(text.replace(old, new, 1))
    assert fault in _only_fault(project)


def test_cell_added_to_script(project):
    with project.script("tiny").open("a") as script:
        script.write("\n# %% [markdown]\n# The end.\n")
    assert "lacks cell 7" in _only_fault(project)


def test_cell_added_to_notebook(project, edit_notebook):
    edit_notebook(lambda nb: nb["cells"].append(nb["cells"][3] | {"id": "added"}))
    faults = find_faults(project)
    assert any("cell 7 is not in the script" in fault for fault in faults)


def test_swapped_cells(project):
    text = project.script("tiny").read_text()
    head, *cells = text.split("# %%")
    cells[1], cells[2] = cells[2], cells[1]
    project.script("tiny").write_text("# %%".join([head, *cells]))
    assert "cell 2 (code) differs" in _only_fault(project)


def test_code_edited_on_both_sides_keeps_old_outputs(project, edit_notebook):
    """What `jupytext --sync` leaves behind: sources agree, outputs belong to the old code."""
    script = project.script("tiny")
    script.write_text(script.read_text().replace('"wet"', '"dry"'))

    def change(notebook):
        source = notebook["cells"][1]["source"]
        notebook["cells"][1]["source"] = [line.replace('"wet"', '"dry"') for line in source]

    edit_notebook(change)
    faults = find_faults(project)
    assert any("recorded hash is stale" in fault for fault in faults)


@pytest.mark.parametrize("counts", [[None, None, None, None], [2, 3, 4, 5], [1, 3, 2, 4]])
def test_execution_out_of_order(project, edit_notebook, counts):
    def change(notebook):
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for cell, count in zip(code, counts, strict=True):
            cell["execution_count"] = count

    edit_notebook(change)
    assert "was not executed once from top to bottom" in _only_fault(project)


ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "dry", "traceback": []}


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (ERROR, "cell 3 shows an error (ValueError: dry)"),
        (
            {
                "output_type": "stream",
                "name": "stdout",
                "text": "Traceback (most recent call last):\n",
            },
            "cell 3 shows a traceback",
        ),
        (
            {"output_type": "stream", "name": "stderr", "text": "UserWarning: wet\n  here"},
            "cell 3 shows standard error (UserWarning: wet)",
        ),
        (
            {"output_type": "stream", "name": "stdout", "text": "saved /home/ann/tank/a.png"},
            "cell 3 shows an absolute path (/home/ann/tank/a.png)",
        ),
        (
            {"output_type": "stream", "name": "stdout", "text": r"saved C:\Users\ann\a.png"},
            "cell 3 shows an absolute path (C:\\Users",
        ),
        (
            {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<b>/opt/x/y"}},
            "cell 3 shows an absolute path (/opt/x/y)",
        ),
        (
            {
                "output_type": "display_data",
                "metadata": {},
                "data": {"text/plain": "<Thing object at 0x7f00dead>"},
            },
            "cell 3 shows a memory address (0x7f00dead)",
        ),
    ],
)
def test_output_that_must_not_be_shown(project, edit_notebook, output, fault):
    edit_notebook(lambda nb: nb["cells"][2].update(outputs=[output]))
    assert fault in _only_fault(project)


@pytest.mark.parametrize(
    "text",
    [
        "12 points/m2/s at 3/4 of 5/6/7",
        "see https://example.org/a/b/c and file.txt",
        "wrote demo/run/report.html and ./a/b",
        "<div><p>text</p></div><a href='../x/y'>",
        f"<img src='data:image/jpeg;base64,/9j/4AAQ{'SkZJ/Rg+' * 40}=='>",
    ],
)
def test_harmless_output_is_no_fault(project, edit_notebook, text):
    output = {"output_type": "display_data", "metadata": {}, "data": {"text/html": text}}
    edit_notebook(lambda nb: nb["cells"][2].update(outputs=[output]))
    assert find_faults(project) == []


def _replace_in_both(project, edit_notebook, old, new, cell=0):
    """Change a cell on both sides, so that script and notebook still agree (but for its id)."""
    script = project.script("tiny")
    script.write_text(script.read_text().replace(old, new))

    def change(notebook):
        source = notebook["cells"][cell]["source"]
        notebook["cells"][cell]["source"] = [line.replace(old, new) for line in source]

    edit_notebook(change)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("someone/Tank", "other/Tank"),
        ("trunk", "main"),
        ("tutorial/tiny.ipynb", "tutorial/moved.ipynb"),
    ],
)
def test_badge_that_points_elsewhere(project, edit_notebook, old, new):
    _replace_in_both(project, edit_notebook, old, new)
    faults = find_faults(project)
    assert any("lacks the Colab badge" in fault for fault in faults)
    assert any("cell 1 has a Colab link to" in fault for fault in faults)


@pytest.mark.parametrize("other", ["someone/Fork@trunk", "someone/Tank@main"])
def test_install_cell_that_takes_another_repository_or_branch(project, edit_notebook, other):
    line = f"pip install git+https://github.com/{other}"
    cell = {"cell_type": "markdown", "id": "added", "metadata": {}, "source": [line]}
    edit_notebook(lambda nb: nb["cells"].append(cell))
    faults = find_faults(project)
    assert any(f"cell 7 installs from git+https://github.com/{other}" in fault for fault in faults)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda nb: nb["metadata"]["kernelspec"].update(name="venv"), "kernelspec"),
        (lambda nb: nb["metadata"].update(widgets={}), "metadata that no build writes (widgets)"),
        (lambda nb: nb["metadata"]["language_info"].update(version="3.12.1"), "language_info"),
        (lambda nb: nb["cells"][1].update(id="other"), "cell ids"),
        (
            lambda nb: nb["cells"][1]["metadata"].update(execution={"start": "today"}),
            "cell 2 has metadata that no build writes (execution)",
        ),
    ],
)
def test_metadata_of_another_tool(project, edit_notebook, change, fault):
    edit_notebook(change)
    assert fault in _only_fault(project)


@pytest.mark.parametrize(
    ("new", "fault"),
    [
        ("aquamvs.pixels import Tensor", "uses aquamvs.pixels.Tensor, which is not public"),
        ("aquamvs.io import frames", "uses aquamvs.io.frames, which is not public"),
        ("aquamvs.no_such import x", "imports aquamvs.no_such, which does not exist"),
        ("aquamvs.pixels import Tensor as T", "uses aquamvs.pixels.Tensor, which is not public"),
        ("aquamvs.pixels import *", "uses aquamvs.pixels.*, which is not public"),
        ("aquamvs.io.frames import open_video", "uses aquamvs.io.frames.open_video, which is"),
        ("aquamvs import pixels as p; p.Tensor", "uses aquamvs.pixels.Tensor, which is not public"),
    ],
)
def test_name_that_is_not_public(project, edit_notebook, new, fault):
    _replace_in_both(project, edit_notebook, "aquamvs.pixels import to_normalized", new, cell=1)
    assert any(f"cell 2 {fault}" in each for each in find_faults(project))


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import aquamvs.io.frames", "imports aquamvs.io.frames, which is not public"),
        ("import aquamvs\naquamvs.io.frames.read()", "uses aquamvs.io.frames, which is not public"),
        ("import aquamvs.io as files\nfiles.frames", "uses aquamvs.io.frames, which is not public"),
        ("!ls\nfrom aquamvs.io import frames", "uses aquamvs.io.frames, which is not public"),
    ],
)
def test_name_that_is_reached_through_a_module(code, fault):
    assert list(api_faults([Cell("code", code)])) == [f"cell 1 {fault}"]
    imported, _, use = code.rpartition("\n")
    later = [Cell("code", imported), Cell("markdown", "..."), Cell("code", use)]
    assert list(api_faults(later)) == [f"cell 3 {fault}"]


@pytest.mark.parametrize(
    "code",
    [
        "import aquamvs\naquamvs.Pipeline, aquamvs.io.load_mesh",
        "from aquamvs import io as files, pixels\nfiles.load_mesh, pixels.to_normalized",
        "from aquamvs.projection.refractive import RefractiveProjectionModel",
        "from aquamvs.benchmark.runner import run_benchmark",
        "io = {}\nio.clear()",
    ],
)
def test_public_name_that_is_reached_through_a_module(code):
    assert list(api_faults([Cell("code", code)])) == []


def test_library_whose_functions_take_other_arguments(project, monkeypatch):
    def to_normalized(pixels, size, origin): ...

    to_normalized.__module__ = "aquamvs.pixels"
    monkeypatch.setattr("aquamvs.pixels.to_normalized", to_normalized)
    assert "the API it uses has changed" in _only_fault(project)


def test_hash_of_the_api_sees_fields_and_methods_of_classes(monkeypatch):
    from aquamvs.types import Matches

    cells = [Cell("code", "from aquamvs.types import Matches")]
    before = api_hash(cells)
    assert api_hash(cells) == before
    monkeypatch.setattr(Matches, "swapped", lambda self: self, raising=False)
    assert api_hash(cells) != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tiny.ipynb#top", "gone.ipynb#top"),
        ("../../notebooks_src/tiny.py", "../tiny.py"),
        ("../../notebooks_src/tiny.py", "https://github.com/someone/Tank/blob/trunk/gone.md"),
    ],
)
def test_dead_link(project, edit_notebook, old, new):
    _replace_in_both(project, edit_notebook, old, new)
    dead = [fault for fault in find_faults(project) if "dead link" in fault]
    assert dead == [f"docs/tutorial/tiny.ipynb: cell 1 has a dead link to {new}"]


@pytest.mark.parametrize(
    ("link", "dead"),
    [
        ("[page][there]\n\n[there]: gone.md", "gone.md"),
        ("![drawing][there]\n\n[there]: <gone file.png>", "gone file.png"),
        ("<a href='gone.md'>page</a>", "gone.md"),
        ("<div>\n<img src='gone.png'>\n</div>", "gone.png"),
        ("[page](tiny.ipynb#no-such-place)", "tiny.ipynb#no-such-place"),
        ("[page](#no-such-place)", "#no-such-place"),
        ("[page](../../../outside.md)", "../../../outside.md"),
        ("[page](https://github.com/someone/Tank/blob/other/pyproject.toml)", None),
        ("[folder](https://github.com/someone/Tank/tree/trunk/gone)", None),
        ("[raw](https://github.com/someone/Tank/raw/trunk/gone.png)", None),
    ],
)
def test_dead_link_however_it_is_written(project, link, dead):
    (project.root.parent / "outside.md").write_text("# Not in the repository")
    dead = dead or link.partition("(")[2].rstrip(")")
    faults = list(link_faults(project, "tiny", [Cell("markdown", link)]))
    assert faults == [f"cell 1 has a dead link to {dead}"]


def test_reference_that_no_cell_defines(project):
    cells = [Cell("markdown", "[page][there]"), Cell("markdown", "[there]: tiny.ipynb")]
    assert list(link_faults(project, "tiny", cells)) == [
        "cell 1 has a link that it does not define, [page][there]"
    ]


PAGE = """
# Title

## `Code` and, then: more

(a-label)=
### Third
"""


@pytest.mark.parametrize(
    "link",
    [
        "[page](../page.md#title)",
        "[page](../page.md#code-and-then-more)",
        "[page](../page.md#a-label)",
        "[page](../page.rst#title)",
        "[page](../page.rst#a-label)",
        "[page](tiny.ipynb#tiny)",
        "[page](#tiny)",
        "[line](../../notebooks_src/tiny.py#L3), [folder](../tutorial#readme)",
        "[page][there] and $x[1][2]$ and `[a][b]`\n\n[there]: ../page.md",
        "```\n[page](gone.md)\n```",
        "[folder](https://github.com/someone/Tank/tree/trunk/notebooks_src)",
    ],
)
def test_link_that_is_alive(project, link):
    docs = project.notebook_folder.parent
    (docs / "page.md").write_text(PAGE)
    (docs / "page.rst").write_text("Title\n=====\n\n.. _a-label:\n\nThird\n-----\n")
    assert list(link_faults(project, "tiny", [Cell("markdown", link)])) == []


@pytest.mark.parametrize(
    "new",
    [
        "https://example.org/whatever",
        "https://github.com/someone/Tank/blob/trunk/pyproject.toml",
        "#top",
        "mailto:ann@example.org",
    ],
)
def test_link_that_is_alive_or_not_ours_to_check(project, edit_notebook, new):
    _replace_in_both(project, edit_notebook, "tiny.ipynb#top", new)
    assert not [fault for fault in find_faults(project) if "dead link" in fault]


def test_notebook_too_large(project, edit_notebook):
    figure = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "A" * 3_000_000}}
    edit_notebook(lambda nb: nb["cells"][2].update(outputs=[figure]))
    assert "has 3.0 MB; at most 3 MB" in _only_fault(project)


def test_program_prints_a_line_per_fault_and_fails(project, capsys):
    assert notebooks.main(["--root", str(project.root), "check"]) == 0
    project.notebook("tiny").unlink()
    assert notebooks.main(["--root", str(project.root), "check"]) == 1
    assert "has no notebook" in capsys.readouterr().out


def test_program_reports_a_build_that_fails(write_project, capsys):
    project = write_project("# %%\nraise ValueError('dry')\n")
    assert notebooks.main(["--root", str(project.root), "build"]) == 1
    assert "dry" in capsys.readouterr().err


def test_recorded_hash_is_that_of_the_script(project):
    notebook = json.loads(project.notebook("tiny").read_text())
    recorded = notebook["metadata"]["aquamvs"]["code_sha256"]
    assert recorded == code_hash(read_script(project.script("tiny")))
