"""What each model family can honour, and how a folder becomes a loaded one."""

from pathlib import Path

from ray_pipeline.models.contract import Abilities, Family
from ray_pipeline.models.profiles import find_profile
from ray_pipeline.models.registry import FAMILIES, declared
from ray_pipeline.models.templates import CLOSELY
from ray_pipeline.models.weights import ModelRefused, model_folder, offline
from schemas.job import JobSettings
from schemas.methods import RefineSettings, SelectSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings


def check_family(settings: JobSettings) -> Path:
    """The model's folder, after everything that can be known without loading weights has been checked.

    Raises:
        ModelRefused: the folder, its model type, a setting this model cannot honour, or the profile that a selector needs.
    """
    folder = model_folder(settings.model.name, settings.model.revision)
    kind, able = _abilities(folder)
    for_answers = (
        _refine(kind, settings.refine, able), _official(kind, settings, able),
        _select(kind, settings.select, able), _prompt(kind, settings.prompt, able),
    )  # fmt: skip
    own = {"answer": for_answers, "ocr": (_reads(kind, able),), "label": _finds(kind, settings, able, for_answers)}[settings.task]
    for refusal in (*own, _views(kind, settings.views, able)):
        if refusal:
            raise ModelRefused(refusal)
    find_profile(folder, settings.select)
    return folder


def _abilities(folder: Path) -> tuple[str, Abilities]:
    """The folder's model type and what it can honour."""
    (kind, config), file = declared(folder), folder / "config.json"
    for part in (config, *(inner for inner in config.values() if isinstance(inner, dict))):
        if quantised := part.get("quantization_config"):
            method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
            raise ModelRefused(f"{kind} weights quantised by {method!r} in {file}; expected float32, float16 or bfloat16")
    try:
        return kind, FAMILIES[kind].adapter().abilities(config)
    except ModelRefused:
        raise
    except Exception as error:  # whatever the library makes of a stranger's configuration
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelRefused(f"{file} is no configuration of {kind}: {reason}") from None


def ways(settings: JobSettings) -> tuple[bool, bool]:
    """Whether `label` reads for phrases and whether it asks for their places, with this model.

    Raises:
        ModelRefused: the folder or its model type.
    """
    _, able = _abilities(model_folder(settings.model.name, settings.model.revision))
    return _reads_for_phrases(settings, able), _locates(settings, able)


def _reads_for_phrases(settings: JobSettings, able: Abilities) -> bool:
    return able.reads and settings.label.find != "locate"


def _locates(settings: JobSettings, able: Abilities) -> bool:
    return able.boxes and settings.label.find != "read"


def _reads(kind: str, able: Abilities) -> str | None:
    return None if able.reads else f"this {kind} reads no pages; expected a model that does"


def _finds(kind: str, settings: JobSettings, able: Abilities, for_answers: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """What is asked of the model beyond reading must be what it can honour, where it is asked at all."""
    if _locates(settings, able):
        return for_answers
    if settings.label.find == "locate":
        return (f"label.find 'locate' with {kind}; it writes no boxes, expected 'read'",)
    return _reads(kind, able), _select(kind, settings.select, able), _prompt(kind, settings.prompt, able)


def _refine(kind: str, refine: RefineSettings, able: Abilities) -> str | None:
    if refine.method == "none":
        return None
    if refine.method == "fixed":
        return _boost(kind, refine, able)
    if refine.method not in able.focus:
        return f"refine.method {refine.method!r} with {kind}; it can do {_listed(able.focus)}, fixed and none"
    if refine.layer is not None and refine.layer >= able.layers:
        return f"refine.layer {refine.layer}; this {kind} has layers 0..{able.layers - 1}"
    if refine.layer is None and able.profiled_layer is None and refine.method != "pure_grad":
        return (
            f"refine.layer is null and this {kind} revision has no profile; expected a decoder layer, 0..{able.layers - 1}"
            " (about half way up is a fair first choice), or a profile"
        )
    return _boost(kind, refine, able)


def _boost(kind: str, refine: RefineSettings, able: Abilities) -> str | None:
    if refine.boost != 1.0 and not able.boost:
        return f"refine.boost {refine.boost:g} with {kind}; its attention to a region cannot be reweighted, expected 1"
    return None


def _official(kind: str, settings: JobSettings, able: Abilities) -> str | None:
    """The published code maps the one plain grid of one view."""
    refine, views = settings.refine, settings.views
    if refine.method == "none" or refine.mode != "official":
        return None
    asked = f"refine.mode 'official' with {kind}"
    if not able.official:
        return f"{asked}; the published code needs one plain grid of tokens, expected 'corrected'"
    if views.max_crops or views.num_tokens is not None:
        shown = f"max_crops {views.max_crops} and num_tokens {views.num_tokens}"
        return f"{asked} and views of {shown}; the published code needs one plain grid of tokens, expected 0 and null"
    if "centre_crop" in able.fits and views.fit != "centre_crop":
        return f"{asked} and views.fit {views.fit!r}; the published code shows a picture's middle, expected 'centre_crop'"
    return None


def _select(kind: str, select: SelectSettings, able: Abilities) -> str | None:
    if select.method == "greedy" or able.boxes:
        return None
    return f"select.method {select.method!r} with {kind}; it writes no boxes to choose among, expected 'greedy'"


def _views(kind: str, views: ViewSettings, able: Abilities) -> str | None:
    if not able.crops and (views.max_crops or views.policy != "strict"):
        asked = f"views.max_crops {views.max_crops}, policy {views.policy!r} with {kind}"
        return f"{asked}; it cuts a picture by its own rule, expected 0 and 'strict'"
    if not able.budget and (views.num_tokens is not None or views.token_split != "official"):
        asked = f"views.num_tokens {views.num_tokens}, token_split {views.token_split!r} with {kind}"
        return f"{asked}; it shows every token it makes, expected null and 'official'"
    if views.num_tokens is not None and views.num_tokens <= views.max_crops:
        asked = f"views.num_tokens {views.num_tokens} for up to {views.max_crops + 1} views with {kind}"
        return f"{asked}; expected at least one token a view"
    if views.fit is not None and views.fit not in able.fits:
        return f"views.fit {views.fit!r} with {kind}; it can do {_listed(able.fits)}, expected null or one of them"
    if views.resolution_px is not None and not able.resolution:
        return f"views.resolution_px {views.resolution_px} with {kind}; its input has a fixed size, expected null"
    if views.zoom_px is not None and not able.resolution:
        return f"views.zoom_px {views.zoom_px} with {kind}; every view fills its fixed input, expected null"
    return None


def _prompt(kind: str, prompt: PromptSettings, able: Abilities) -> str | None:
    if prompt.question is not None and "{question}" not in prompt.question:
        return f"prompt.question {prompt.question!r} with {kind}; expected a text that holds {{question}}"
    if prompt.question is not None:
        return None
    if prompt.template == "locate" and not able.boxes:
        return f"prompt.template 'locate' with {kind}; it writes no boxes, expected short or plain"
    if prompt.template in CLOSELY and not able.worded:
        return f"prompt.template {prompt.template!r} with this {kind}; its questions have one form, expected short or plain"
    return None


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "nothing but its own rule"


def load_family(model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> Family:
    """Load a checked folder's weights onto the configured device."""
    from transformers.utils.logging import disable_progress_bar  # takes seconds, which a check without a model does not need

    folder = model_folder(model.name, model.revision)
    disable_progress_bar()  # a bar per process says nothing about the run
    kind, _ = declared(folder)
    with offline():
        return FAMILIES[kind].adapter().load(folder, model, views, prompt)
