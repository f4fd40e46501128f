"""The methods by name: LOOK and FOCUS. Answers are greedy, so there is nothing to CHOOSE by name yet."""

from ray_pipeline.methods.multicrop import look
from ray_pipeline.methods.vicrop import rel_att

LOOK = {"multicrop": look}
FOCUS = {"rel_att": rel_att}
