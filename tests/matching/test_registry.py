import subprocess
import sys

import pytest

from aquamvs.errors import ConfigError
from aquamvs.matching import MATCHERS, LightGlueOptions, SiftOptions, create_matcher
from aquamvs.pathways import MatcherType


def test_every_matcher_of_the_pathways_is_registered_with_its_kind():
    assert {name: entry.kind for name, entry in MATCHERS.items()} == {
        MatcherType.LIGHTGLUE: "sparse",
        MatcherType.ROMA: "dense",
        MatcherType.SIFT: "sparse",
    }


def test_an_unknown_matcher_names_the_choices():
    with pytest.raises(ConfigError, match="'superglue'; expected one of lightglue, roma, sift"):
        create_matcher("superglue")


def test_options_of_another_matcher_are_refused():
    with pytest.raises(ConfigError, match="LightGlueOptions; expected SiftOptions"):
        create_matcher("sift", LightGlueOptions())


def test_options_reach_the_matcher():
    options = SiftOptions(max_keypoints=17)
    assert create_matcher("sift", options).options is options


def test_importing_the_matchers_loads_no_network_library():
    heavy = ["kornia", "romav2", "torchvision", "pooch", "safetensors", "matplotlib", "scipy"]
    code = (
        "import sys, aquamvs.matching, aquamvs.triangulation;"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
