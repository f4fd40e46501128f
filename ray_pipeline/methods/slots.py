"""The methods by name: LOOK, FOCUS and CHOOSE. `greedy` asks for one answer and has nothing to choose."""

from collections.abc import Callable, Generator
from functools import partial

from ray_pipeline.methods.acs_free import acs_free
from ray_pipeline.methods.acs_learned import acs_learned
from ray_pipeline.methods.agreement import (
    cluster,
    inside_mass,
    least_entropy,
    likeliest,
    mean_box,
    median_box,
    medoid,
    random_answer,
)
from ray_pipeline.methods.fixed_regions import fixed_regions
from ray_pipeline.methods.focus import Focus
from ray_pipeline.methods.grad_att import GRAD_ATT
from ray_pipeline.methods.multicrop import look, whole
from ray_pipeline.methods.pure_grad import PURE_GRAD
from ray_pipeline.methods.rel_att import REL_ATT
from ray_pipeline.methods.vicrop import vicrop
from ray_pipeline.models.contract import Reply, Request

LOOK = {"multicrop": look, "whole": whole}
FOCUS: dict[str, Callable[..., Generator[Request, Reply, Focus]]] = {
    "rel_att": partial(vicrop, (REL_ATT,)),
    "grad_att": partial(vicrop, (GRAD_ATT,)),
    "pure_grad": partial(vicrop, (PURE_GRAD,)),
    "auto": partial(vicrop, (REL_ATT, GRAD_ATT, PURE_GRAD)),
    "fixed": fixed_regions,
}
CHOOSE = {
    "acs_free": acs_free,
    "acs_learned": acs_learned,
    "cluster": cluster,
    "inside_mass": inside_mass,
    "least_entropy": least_entropy,
    "likeliest": likeliest,
    "mean": mean_box,
    "median": median_box,
    "medoid": medoid,
    "random": random_answer,
}
