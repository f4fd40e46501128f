"""What the embedded model is trained with: dense patch losses, logit-lens alignment, attention supervision, answers.

Shapes as in `batches`; N views, T patches a view, D width, H heads, R answer rows.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_pipeline.training.batches import CHARACTER_TARGET, THING_TARGET, TOKENS_PER_VIEW, DenseTargets, Rows
from ray_pipeline.training.views import CHARACTER_CLASS, COLOUR_CLASS, IGNORE, KIND_CLASS, LONGEST_INDEX

LOCATION_SIGMA = 8.0  # bins of 1000


class DenseHeads(nn.Module):
    """Linear read-outs of tower features, used in training only and dropped at export."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem_character = nn.Linear(width, 2 * (len(CHARACTER_CLASS) + 1))
        self.character = nn.Linear(width, 2 * (len(CHARACTER_CLASS) + 1))
        self.index = nn.Linear(width, 2 * (LONGEST_INDEX + 1))
        self.colour = nn.Linear(width, len(COLOUR_CLASS) + 1)
        self.kind = nn.Linear(width, len(KIND_CLASS) + 1)
        self.boxes = nn.Linear(width, 8)
        self.asked = nn.Linear(width, len(COLOUR_CLASS) + 1 + len(KIND_CLASS) + 1)

    def asked_loss(self, hidden: Tensor, colour: Tensor, kind: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Whether the last prompt position knows, before it looks, which colour and kind the question names.

        hidden (N, D) of those positions below the layer that looks; classes (N,), 0 = the question names none.
        """
        named_colour, named_kind = self.asked(hidden).split([len(COLOUR_CLASS) + 1, len(KIND_CLASS) + 1], -1)
        loss = functional.cross_entropy(named_colour.float(), colour) + functional.cross_entropy(named_kind.float(), kind)
        return loss, {"asked": float(((named_colour.argmax(-1) == colour) & (named_kind.argmax(-1) == kind)).float().mean())}

    def loss(self, stem: Tensor, features: Tensor, targets: DenseTargets) -> tuple[Tensor, dict[str, float]]:
        """Sum of the dense losses, and accuracies over legible characters and over things."""
        shape = (*features.shape[:2], 2, -1)
        character, index = self.character(features).view(shape), self.index(features).view(shape)
        total = _balanced(self.stem_character(stem).view(shape), targets.character) + _balanced(character, targets.character)
        total = total + 0.5 * functional.cross_entropy(index.flatten(0, 2), targets.index.flatten(), ignore_index=IGNORE)
        colour, kind = self.colour(features), self.kind(features)
        total = total + 0.5 * _balanced(colour, targets.colour) + _balanced(kind, targets.kind)
        known = ~targets.boxes.isnan()
        wanted = torch.where(known, targets.boxes, 0.0).clamp(-0.5, 1.5)
        total = total + 3.0 * ((self.boxes(features) - wanted).abs() * known).sum() / known.sum().clamp(min=1)
        letters, things = targets.character > 0, targets.colour > 0
        return total, {
            "char": _share(character.argmax(-1) == targets.character, letters),
            "index": _share(index.argmax(-1) == targets.index, letters),
            "colour": _share(colour.argmax(-1) == targets.colour, things),
            "kind": _share(kind.argmax(-1) == targets.kind, things),
        }


def _balanced(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in which all places with something count as much as all places with nothing."""
    losses = functional.cross_entropy(logits.flatten(0, -2).float(), target.flatten(), ignore_index=IGNORE, reduction="none")
    something, nothing = (target > 0).flatten(), (target == 0).flatten()
    full = (losses * something).sum() / something.sum().clamp(min=1)
    return full + 0.3 * (losses * nothing).sum() / nothing.sum().clamp(min=1)


def _share(correct: Tensor, where: Tensor) -> float:
    return float((correct & where).sum() / where.sum().clamp(min=1))


def alignment_loss(projected: Tensor, embedding: Tensor, targets: DenseTargets, class_to_token: Tensor) -> Tensor:
    """Logit lens: an RMS-normalised projected patch must name its character in the decoder's own embedding.

    projected (N, T, D), embedding (vocabulary, D), class_to_token (character classes,).
    """
    normed = functional.rms_norm(projected.float(), projected.shape[-1:])
    log_p = (normed @ embedding.float().T[:, class_to_token[1:]]).log_softmax(-1)
    legible = targets.character > 0
    picked = log_p.gather(2, (targets.character - 1).clamp(min=0))
    return -(picked * legible).sum() / legible.sum().clamp(min=1)


def looking_masks(rows: Rows, targets: DenseTargets, views: int, zoomed: bool) -> Tensor:
    """Which prefix tokens each answer row should look at: (B, R, P) boolean, all False where there is no target."""
    batch = rows.position.shape[0]
    things = targets.thing_label.reshape(batch, 1, views * TOKENS_PER_VIEW)
    letters = targets.character_label.reshape(batch, 1, views * TOKENS_PER_VIEW, 2)
    legible = (targets.character != IGNORE).reshape(letters.shape)
    label = rows.look_label[:, :, None]
    at_thing = (things == label) & (rows.look_at[:, :, None] == THING_TARGET)
    at_letter = ((letters == label[..., None]) & legible).any(-1) & (rows.look_at[:, :, None] == CHARACTER_TARGET)
    tokens = at_thing | at_letter
    blank = torch.zeros(*tokens.shape[:2], 1, dtype=torch.bool)
    if zoomed:
        split = (views - 1) * TOKENS_PER_VIEW
        return torch.cat([blank, tokens[..., :split], blank, tokens[..., split:]], -1)
    return torch.cat([blank, tokens], -1)


def thing_masks(rows: Rows, look_label: Tensor, targets: DenseTargets, views: int, zoomed: bool) -> Tensor:
    """For the last prompt token: the whole thing asked about, whatever the answer's first character is."""
    whole = Rows(**{**rows.__dict__, "look_label": look_label, "look_at": torch.full_like(rows.look_at, THING_TARGET)})
    return looking_masks(whole, targets, views, zoomed)


def attention_loss(rows_BHRS: Tensor, wanted_BRP: Tensor) -> tuple[Tensor, float]:
    """Minus log of each head's attention mass on the wanted tokens, over rows that have any; and the mean mass.

    Head by head, since a map that averages heads is only as sharp as the vaguest of them.
    """
    prefix = wanted_BRP.shape[-1]
    mass = (rows_BHRS[..., :prefix] * wanted_BRP[:, None]).sum(-1)
    has = wanted_BRP.any(-1)[:, None].expand_as(mass)
    loss = -(mass.clamp(min=1e-6).log() * has).sum() / has.sum().clamp(min=1)
    return loss, float(((mass * has).sum() / has.sum().clamp(min=1)).detach())


def answer_loss(logits: Tensor, rows: Rows, first_location: int) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy, Gaussian-softened for location tokens, plus L1 on the expected location. logits (B, R, vocabulary)."""
    log_p = logits.float().log_softmax(-1)
    text, place = (rows.target != IGNORE) & rows.location.isnan(), ~rows.location.isnan()
    picked = log_p.gather(2, rows.target.clamp(min=0)[..., None])[..., 0]
    weight = rows.weight
    loss = -(picked * weight * text).sum() / (weight * text).sum().clamp(min=1)
    metrics = {"token": _share(logits.argmax(-1) == rows.target, text & (weight == 1))}
    if place.any():
        bins = torch.arange(1000) + 0.5
        value = rows.location[place] * 1000
        soft = functional.softmax(-0.5 * ((bins - value[:, None]) / LOCATION_SIGMA) ** 2, -1)
        chosen = log_p[place]
        locations = chosen[:, first_location : first_location + 1000]
        expected = (locations.softmax(-1) * bins).sum(-1)
        error = (expected - value).abs() / 1000
        loss = loss + 0.15 * -(soft * locations).sum(-1).mean() + 3.0 * error.mean()
        metrics["location_error"] = float(error.mean().detach())
    return loss, metrics
