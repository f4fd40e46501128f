"""The studies by name: a dict literal, one flow each. What their conditions and figures mean stands in `scoring.conditions`."""

from ray_pipeline.studies.attention import attention
from ray_pipeline.studies.occlusion import occlusion
from ray_pipeline.studies.several import several
from ray_pipeline.studies.subject import Study
from ray_pipeline.studies.zooming import zooming

STUDIES: dict[str, Study] = {"zooming": zooming, "attention": attention, "occlusion": occlusion, "several": several}
