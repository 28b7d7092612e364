"""The configuration file: strict keys, relative paths, retired keys of 1.x."""

import logging
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aquamvs.config import RETIRED_KEYS, PipelineConfig
from aquamvs.errors import ConfigError
from aquamvs.pathways import MatcherType, PipelineMode

MINIMAL = {
    "calibration_path": "calibration.json",
    "output_dir": "output",
    "camera_input_map": {"cam0": "images/cam0", "cam1": "images/cam1"},
}


def write(folder: Path, **extra: object) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **extra}))
    return path


def test_relative_paths_resolve_against_the_file(tmp_path: Path) -> None:
    sections = {
        "sparse_matching": {"weights": "trained/reef"},
        "dense_matching": {"weights": "official"},
    }
    config = PipelineConfig.from_yaml(write(tmp_path, mask_dir="masks", **sections))
    assert config.calibration_path == tmp_path / "calibration.json"
    assert config.camera_input_map["cam1"] == tmp_path / "images" / "cam1"
    assert config.mask_dir == tmp_path / "masks"
    assert config.sparse_matching.weights == str(tmp_path / "trained" / "reef")
    assert config.dense_matching.weights == "official"  # a word, not a place


def test_what_is_written_reads_back_equal_also_from_another_folder(tmp_path: Path) -> None:
    config = PipelineConfig.from_yaml(
        write(
            tmp_path,
            pipeline_mode="full",
            reconstruction={"window_size": 9},
            sparse_matching={"weights": "./official"},
            dense_matching={"weights": "romav2.0.1.pt"},
        )
    )
    for place in (tmp_path / "copy.yaml", tmp_path / "elsewhere" / "copy.yaml"):
        place.parent.mkdir(exist_ok=True)
        config.to_yaml(place)
        assert config.sparse_matching.weights == str(tmp_path / "official")
        assert PipelineConfig.from_yaml(place) == config
    assert "images/cam0" in (tmp_path / "copy.yaml").read_text()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            {"pipline_mode": "full"},
            "unknown key pipline_mode; the nearest valid key is pipe",
        ),
        ({"reconstruction": {"num_depth": 9}}, r"reconstruction\.num_depth;.*num_depths"),
        ({"reconstruction": {"window_size": 8}}, "window_size must be odd"),
        ({"reconstruction": {"num_depths": "many"}}, r"reconstruction\.num_depths.*'many'"),
        ({"reconstruction": {"height_range": [2, 1]}}, "z_min < z_max"),
        ({"preprocessing": {"frame_start": 4, "frame_stop": 4}}, "frame_stop must be greater"),
        ({"pipeline_mode": "fast"}, "pipeline_mode.*'fast'"),
        ({"matcher_type": "orb"}, "matcher_type.*'orb'"),
        ({"runtime": {"device": "tpu"}}, r"runtime\.device.*'tpu'"),
        ({"camera_input_map": {"cam0": "a"}}, "camera_input_map"),
        ({"camera_input_map": ["a", "b"]}, "camera_input_map"),
        ({"runtime": {"max_memory_gb": math.inf}}, r"max_memory_gb.*finite"),
        ({"runtime": {"max_memory_gb": 1e308}}, r"max_memory_gb.*less than"),
        ({"reconstruction": {"grid_resolution": 1e-300}}, r"grid_resolution.*greater than"),
        ({"reconstruction": {"height_range": [-math.inf, 1.0]}}, r"height_range.*finite"),
        ({"reconstruction": {"depth_margin": 1e308}}, r"depth_margin.*less than"),
        ({"reconstruction": {"min_consistent_views": 10**30}}, "min_consistent_views.*less than"),
        ({"output_dir": "\ud800"}, "characters that no name has"),
        ({"output_dir": "x" * 300}, "at most 255 bytes"),
        ({"dense_matching": {"weights": 3}}, r"dense_matching\.weights.*3"),
        ({"sparse_matching": {"weights": "a\nb"}}, r"sparse_matching\.weights.*is no path"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_key(
    tmp_path: Path, extra: dict[str, object], message: str
) -> None:
    path = write(tmp_path, **extra)
    with pytest.raises(ConfigError, match=message) as caught:
        PipelineConfig.from_yaml(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b", "a: [", "a: *b", "\x00", "a: &x 1\nb: *x"])
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        PipelineConfig.from_yaml(path)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, runtime={"max_memory_gb": 1})
    path.write_text(path.read_text() + "runtime:\n  quiet: true\n")
    with pytest.raises(ConfigError, match=r"the key runtime stands twice, again in line \d+"):
        PipelineConfig.from_yaml(path)


def test_a_mapping_in_the_place_of_a_key_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text() + "? {a: 1}\n: 2\n")
    with pytest.raises(ConfigError, match="unhashable"):
        PipelineConfig.from_yaml(path)


def test_a_section_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"runtime: expected keys and values below it \(found 5"):
        PipelineConfig.from_yaml(write(tmp_path, runtime=5))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"configuration file .*nowhere\.yaml does not exist"):
        PipelineConfig.from_yaml(tmp_path / "nowhere.yaml")


def test_retired_keys_of_1x_are_accepted_in_one_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sections: dict[str, dict[str, int]] = {}
    for key in RETIRED_KEYS:
        section, _, name = key.partition(".")
        if name:
            sections.setdefault(section, {})[name] = 1
    path = write(tmp_path, quality_preset="fast", **sections)
    with caplog.at_level(logging.WARNING):
        PipelineConfig.from_yaml(path)
    assert len(caplog.records) == 1
    assert all(key in caplog.text for key in RETIRED_KEYS)


def test_a_whole_file_of_1x_falls_back_to_the_bundled_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """1.x wrote every key out, SuperPoint among them, and had no key for weights."""
    sparse = {"extractor_type": "superpoint", "filter_threshold": 0.1, "max_keypoints": 2048}
    old = {"matcher_type": "lightglue", "runtime": {"save_mesh": True}}
    config = PipelineConfig.from_yaml(write(tmp_path, sparse_matching=sparse, **old))
    assert config.sparse_matching.extractor_type is None
    assert config.sparse_matching.filter_threshold is None
    assert config.sparse_matching.max_keypoints == 2048
    assert "sparse_matching.extractor_type (LightGlue's bundled weights" in caplog.text
    chosen = {**sparse, "weights": "official"}
    config = PipelineConfig.from_yaml(write(tmp_path, sparse_matching=chosen, **old))
    assert config.sparse_matching.extractor_type == "superpoint"


def test_no_key_is_both_valid_and_retired() -> None:
    for key in RETIRED_KEYS:
        section, _, name = key.partition(".")
        fields = PipelineConfig.model_fields
        if name:
            annotation = fields[section].annotation
            assert annotation is not None
            assert name not in annotation.model_fields
        else:
            assert section not in fields


def test_the_pathway_follows_mode_and_matcher(tmp_path: Path) -> None:
    config = PipelineConfig.from_yaml(write(tmp_path))
    for mode, matcher, name in (
        (PipelineMode.SPARSE, MatcherType.LIGHTGLUE, "LightGlue + sparse"),
        (PipelineMode.FULL, MatcherType.ROMA, "RoMa + full"),
        (PipelineMode.SURFACE, MatcherType.ROMA, "Surface sweep"),
    ):
        chosen = config.model_copy(update={"pipeline_mode": mode, "matcher_type": matcher})
        assert chosen.pathway.name == name


def test_the_hash_ignores_places_and_frames_but_no_option(tmp_path: Path) -> None:
    base = PipelineConfig.from_yaml(write(tmp_path))
    elsewhere = base.resolved(tmp_path).model_copy(update={"output_dir": Path("/elsewhere")})
    assert elsewhere.hash() == base.hash()
    other = PipelineConfig.from_yaml(write(tmp_path, reconstruction={"window_size": 9}))
    assert other.hash() != base.hash()


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_gives_a_configuration_or_a_config_error(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError):
            PipelineConfig.from_yaml(path)
