"""Building a tutorial: the same bytes each time, and only what the cells show."""

import json

import pytest
from notebook_tools.build import BuildError, build_notebook
from notebook_tools.source import Cell, cell_ids, code_hash, without_measured_outputs


def test_second_build_gives_same_bytes_but_for_measured_outputs(project, built_notebook):
    second = build_notebook(project, "tiny").read_text()
    assert second != built_notebook  # the measured cell shows a clock
    assert _stable_bytes(second) == _stable_bytes(built_notebook)


def _stable_bytes(text):
    """As written, with the measured outputs taken out."""
    return json.dumps(without_measured_outputs(json.loads(text)))


FIGURES = """\
# %%
import torch

from aquamvs.evaluation import HeightGrid
from aquamvs.types import HeightMap
from aquamvs.visualization import flip_book, plot_error_maps, view_3d

rough = torch.rand(40, 50, generator=torch.Generator().manual_seed(0))
plot_error_maps({"rough": HeightGrid(0.0, 0.0, 0.01, rough)})

# %%
flip_book([plot_error_maps({"page": HeightGrid(0.0, 0.0, 0.01, rough)})] * 2, ["one", "two"])

# %%
fields = {"z": rough, "sigma": rough, "confidence": rough, "view_count": (4 * rough).int()}
view_3d(HeightMap(x0=0.0, y0=0.0, spacing=0.01, color=rough[..., None].expand(-1, -1, 3), **fields))

# %%
print("still water")
{n: n**2 for n in range(3)}
"""


def test_build_without_measured_cell_repeats_byte_for_byte(write_project):
    """Figures, pages to turn and the view in three dimensions included."""
    project = write_project(FIGURES)
    first = build_notebook(project, "tiny").read_bytes()
    cells = json.loads(first)["cells"]
    shown = [set(cell["outputs"][-1]["data"]) - {"text/plain"} for cell in cells]
    assert shown == [{"image/png"}, {"text/html"}, {"text/html"}, set()]
    assert build_notebook(project, "tiny").read_bytes() == first


def test_output_shows_no_folder_of_the_build(built_notebook):
    cells = json.loads(built_notebook)["cells"]
    assert cells[1]["outputs"][0]["text"] == ["written to note.txt\n"]


def test_metadata_hold_nothing_of_machine_or_run(built_notebook):
    notebook = json.loads(built_notebook)
    assert set(notebook["metadata"]) == {"aquamvs", "kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert [cell["metadata"] for cell in notebook["cells"] if cell["metadata"]] == [
        {"tags": ["measured"]}
    ]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import warnings\nwarnings.warn('water is wet')", "water is wet"),
    ],
)
def test_build_stops_at_a_cell_that_fails_or_warns(write_project, code, message):
    project = write_project(f"# %%\n{code}\n")
    with pytest.raises(BuildError, match=message):
        build_notebook(project, "tiny")
    assert not project.notebook("tiny").exists()


def test_build_names_a_script_that_does_not_exist(project):
    with pytest.raises(BuildError, match=r"absent\.py does not exist"):
        build_notebook(project, "absent")


def test_ids_stay_when_a_cell_is_inserted_and_tell_equal_cells_apart():
    first, second = Cell("code", "a = 1"), Cell("code", "b = 2")
    before = cell_ids([first, second, first])
    after = cell_ids([first, Cell("markdown", "new"), second, first])
    assert len(set(before)) == 3
    assert [after[0], *after[2:]] == before


def test_hash_sees_code_and_its_order_but_not_prose():
    a, b = Cell("code", "a = 1"), Cell("code", "b = 2")
    assert code_hash([a, b]) == code_hash([a, Cell("markdown", "between"), b])
    assert code_hash([a, b]) != code_hash([b, a])
    assert code_hash([a, b]) != code_hash([Cell("code", "a = 1b = 2")])


PICTURE = """\
# %%
import io
import random
from IPython.display import Image
from PIL import Image as Picture

random.seed(0)
picture = Picture.new("RGB", (200, 100))
{fill}
buffer = io.BytesIO()
picture.save(buffer, "PNG")
Image(buffer.getvalue())
"""


@pytest.mark.parametrize(
    ("fill", "kind"),
    [
        ("picture.putdata([(random.randrange(256),) * 3 for _ in range(20_000)])", "image/jpeg"),
        ("picture.paste((0, 90, 180), (20, 20, 180, 80))", "image/png"),
    ],
)
def test_noisy_picture_becomes_jpeg_and_a_drawing_stays_exact(write_project, fill, kind):
    project = write_project(PICTURE.replace("{fill}", fill))
    notebook = json.loads(build_notebook(project, "tiny").read_text())
    (output,) = notebook["cells"][0]["outputs"]
    assert [key for key in output["data"] if key.startswith("image/")] == [kind]
