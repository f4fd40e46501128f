"""The methods by name: LOOK and FOCUS."""

from functools import partial

from ray_pipeline.methods.grad_att import GRAD_ATT
from ray_pipeline.methods.multicrop import look
from ray_pipeline.methods.pure_grad import PURE_GRAD
from ray_pipeline.methods.rel_att import REL_ATT
from ray_pipeline.methods.vicrop import vicrop

LOOK = {"multicrop": look}
FOCUS = {
    "rel_att": partial(vicrop, (REL_ATT,)),
    "grad_att": partial(vicrop, (GRAD_ATT,)),
    "pure_grad": partial(vicrop, (PURE_GRAD,)),
    "auto": partial(vicrop, (REL_ATT, GRAD_ATT, PURE_GRAD)),
}
