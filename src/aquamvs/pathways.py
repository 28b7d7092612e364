"""The one table of pathways and stage names; pipeline, report, figures and tutorials read it."""

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """Stage names as they appear in reports and timings, in the order of execution.

    Example:
        >>> from aquamvs.pathways import Stage
        >>> print(*Stage)
        undistortion sparse_matching dense_matching triangulation depth_estimation ...
    """

    UNDISTORTION = "undistortion"
    SPARSE_MATCHING = "sparse_matching"
    DENSE_MATCHING = "dense_matching"
    TRIANGULATION = "triangulation"
    DEPTH_ESTIMATION = "depth_estimation"
    SURFACE_SWEEP = "surface_sweep"
    FUSION = "fusion"
    SURFACE = "surface"


class PipelineMode(StrEnum):
    """How far the reconstruction goes, and by which engine.

    Example:
        >>> from aquamvs.pathways import PipelineMode
        >>> [mode.value for mode in PipelineMode]
        ['sparse', 'full', 'surface']
    """

    SPARSE = "sparse"
    FULL = "full"
    SURFACE = "surface"


class MatcherType(StrEnum):
    """Which matcher finds correspondences (not used by the surface sweep).

    Example:
        >>> from aquamvs.pathways import MatcherType
        >>> [matcher.value for matcher in MatcherType]
        ['lightglue', 'roma', 'sift']
    """

    LIGHTGLUE = "lightglue"
    ROMA = "roma"
    SIFT = "sift"


@dataclass(frozen=True, slots=True)
class Pathway:
    """One way from images to a surface.

    Attributes:
        name: As printed in tables and figures.
        slug: Folder name under ``<output_dir>/benchmark``.
        pipeline_mode: Engine.
        matcher_type: Matcher, or None where the engine needs none.
        stages: Stage names in the order in which they run.

    Example:
        >>> from aquamvs.pathways import MatcherType, PipelineMode, find_pathway
        >>> pathway = find_pathway(PipelineMode.FULL, MatcherType.ROMA)
        >>> pathway.name, pathway.slug
        ('RoMa + full', 'roma_full')
    """

    name: str
    slug: str
    pipeline_mode: PipelineMode
    matcher_type: MatcherType | None
    stages: tuple[Stage, ...]


_MATCHER_LABEL = {
    MatcherType.LIGHTGLUE: "LightGlue",
    MatcherType.ROMA: "RoMa",
    MatcherType.SIFT: "SIFT",
}
_MATCHING_STAGE = {
    MatcherType.LIGHTGLUE: Stage.SPARSE_MATCHING,
    MatcherType.ROMA: Stage.DENSE_MATCHING,
    MatcherType.SIFT: Stage.SPARSE_MATCHING,
}


def _matched(matcher: MatcherType, mode: PipelineMode) -> Pathway:
    dense = (Stage.DEPTH_ESTIMATION, Stage.FUSION) if mode is PipelineMode.FULL else ()
    return Pathway(
        name=f"{_MATCHER_LABEL[matcher]} + {mode}",
        slug=f"{matcher}_{mode}",
        pipeline_mode=mode,
        matcher_type=matcher,
        stages=(
            Stage.UNDISTORTION,
            _MATCHING_STAGE[matcher],
            Stage.TRIANGULATION,
            *dense,
            Stage.SURFACE,
        ),
    )


PATHWAYS: tuple[Pathway, ...] = (
    _matched(MatcherType.LIGHTGLUE, PipelineMode.SPARSE),
    _matched(MatcherType.LIGHTGLUE, PipelineMode.FULL),
    _matched(MatcherType.ROMA, PipelineMode.SPARSE),
    _matched(MatcherType.ROMA, PipelineMode.FULL),
    _matched(MatcherType.SIFT, PipelineMode.SPARSE),
    _matched(MatcherType.SIFT, PipelineMode.FULL),
    Pathway(
        name="Surface sweep",
        slug="surface_sweep",
        pipeline_mode=PipelineMode.SURFACE,
        matcher_type=None,
        stages=(Stage.UNDISTORTION, Stage.SURFACE_SWEEP, Stage.FUSION, Stage.SURFACE),
    ),
)


def find_pathway(mode: PipelineMode, matcher: MatcherType) -> Pathway:
    """The pathway that a configuration's ``pipeline_mode`` and ``matcher_type`` select.

    Example:
        >>> from aquamvs.pathways import MatcherType, PipelineMode, find_pathway
        >>> find_pathway(PipelineMode.SURFACE, MatcherType.SIFT).name
        'Surface sweep'
    """
    for pathway in PATHWAYS:
        if pathway.pipeline_mode is mode and pathway.matcher_type in (matcher, None):
            return pathway
    raise AssertionError(f"no pathway for {mode} and {matcher}")  # the table is complete
