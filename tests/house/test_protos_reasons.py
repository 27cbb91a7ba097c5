"""Whatever the service may answer, the extension has a sentence and a button for it."""

from blender_addon.core.errors import REMEDIES
from blender_addon.core.jobs import STAGE_LABELS
from mvgamba.progress import STAGES
from mvgamba_backend.errors import STATUS_OF_REASON


def test_every_reason_of_the_service_has_its_sentence():
    assert set(STATUS_OF_REASON) - set(REMEDIES) == set()


def test_every_stage_of_the_pipeline_has_its_label():
    assert set(STAGES) == set(STAGE_LABELS)
