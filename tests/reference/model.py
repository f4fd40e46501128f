"""The reference itself: what every probe, gradient and answer must be, from whole forward passes.

Definitions are ViCrop section 4 and ACS section 4.1. The query is the last prompt position; softmax runs over the whole
sequence and the first picture's columns are cut out without renormalising. Families with a Q-Former give places, not
queries: each head's row over the queries times the head mean of the connector's attention, its class column removed.
Legend: H heads, T visual tokens (places), L layers asked for, N answer tokens, V vocabulary; K views, Y X rows, columns.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tests.reference.instructblip import InstructBlipNetwork
from tests.reference.mc_llava import McLlavaNetwork
from tests.reference.networks import Pass, PlainNetwork
from tests.reference.prompts import GENERIC

NETWORKS = {"instructblip": InstructBlipNetwork, "mc-llava": McLlavaNetwork}


class Network(Protocol):
    """A prompt in, everything about one forward pass out. `end_ids` end an answer."""

    end_ids: set[int]

    def run(self, pictures: Sequence[np.ndarray], question: str, answer: Sequence[int] = ()) -> Pass: ...


@dataclass(frozen=True)
class GradAtt:
    """Per head attention x max(gradient, 0); `map_T` as published. `margin` is the logit's lead over the runner-up."""

    weights_HT: Tensor
    map_T: Tensor
    token: int
    margin: float


@dataclass(frozen=True)
class PixelGradient:
    """L2 norm over the channels of the gradient for the normalised pixels of the first picture's views."""

    norms_KYX: Tensor
    token: int


@dataclass(frozen=True)
class Answer:
    """Greedy tokens without the end token, their log-probabilities, and whether the end token came."""

    ids: tuple[int, ...]
    log_p: tuple[float, ...]
    finished: bool


@dataclass(frozen=True)
class ReferenceModel:
    """One network and one upright picture, (Y, X, 3) uint8; every method is a function of these and its arguments.

    A `crop` is the crop's own pixels, cut by the caller, shown behind the picture. `connector` is the entry among a
    Q-Former's cross-attention layers.
    """

    network: Network
    picture: np.ndarray
    connector: int = 2

    @classmethod
    def load(cls, folder: Path, picture: np.ndarray, **settings: Any) -> "ReferenceModel":
        """From a model folder. Settings are the network's: `fit`, `frame` (a text with {question}), `dtype`; or the knobs
        of `McLlavaNetwork`."""
        kind = json.loads((folder / "config.json").read_text())["model_type"]
        return cls(NETWORKS.get(kind, PlainNetwork)(folder, **settings), picture)

    def rows(self, question: str, layer: int) -> Tensor:
        """(H, T): the last prompt position's attention at one layer."""
        done = self._run(question)
        return self._placed(done, self._row(done, layer)).detach()

    def query_rows(self, question: str, layer: int) -> Tensor:
        """(H, columns): the same before a connector; over the queries of a Q-Former."""
        return self._row(self._run(question), layer).detach()

    def rel_att(self, question: str, layer: int, generic: str = GENERIC) -> Tensor:
        """(T,): head mean for the question over head mean for the generic prompt, no epsilon."""
        return self.rows(question, layer).mean(0) / self.rows(generic, layer).mean(0)

    def grad_att(self, question: str, layer: int, token: int | None = None) -> GradAtt:
        """The log-probability of the likeliest (or the given) token, differentiated for the whole attention matrix."""
        done = self._run(question)
        logits = done.logits_SV[done.last]
        chosen = int(logits.argmax()) if token is None else token
        sources = [done.attentions[layer], *(done.cross[self.connector : self.connector + 1])]
        gradients = torch.autograd.grad(logits.log_softmax(-1)[chosen], sources)
        weighted = [(source * gradient.clamp(min=0)).detach() for source, gradient in zip(sources, gradients, strict=True)]
        weights_HT = weighted[0][0, :, done.last, done.columns]
        if done.cross:
            weights_HT = weights_HT @ weighted[1][0, :, :, 1:].mean(0)
        others = logits.detach().clone()
        others[chosen] = -torch.inf
        return GradAtt(weights_HT, weights_HT.mean(0), chosen, float(logits[chosen].detach() - others.max()))

    def pixel_gradient(self, question: str) -> PixelGradient:
        """One whole forward and one whole backward down to the pixels."""
        done = self._run(question)
        logits = done.logits_SV[done.last]
        token = int(logits.argmax())
        (gradient,) = torch.autograd.grad(logits.log_softmax(-1)[token], done.pixels)
        return PixelGradient(done.shown.frames(gradient).norm(dim=1), token)

    def pure_grad(self, question: str, generic: str = GENERIC) -> Tensor:
        """(K, Y, X): the question's norms over the generic prompt's, each with its own likeliest token, no epsilon."""
        return self.pixel_gradient(question).norms_KYX / self.pixel_gradient(generic).norms_KYX

    def pixels_unit(self, mean: Sequence[float], std: Sequence[float]) -> Tensor:
        """(K, Y, X, 3): the first picture's views as the tower saw them, in 0..1."""
        done = self._run(GENERIC)
        views = done.shown.frames(done.pixels).detach().permute(0, 2, 3, 1)
        return views * torch.tensor(std) + torch.tensor(mean)

    @torch.no_grad()
    def greedy(self, question: str, most_tokens: int, crop: np.ndarray | None = None) -> Answer:
        """The likeliest token again and again, everything computed anew for each."""
        ids: list[int] = []
        log_ps: list[float] = []
        while len(ids) < most_tokens:
            log_p = self._run(question, ids, crop).logits_SV[-1].log_softmax(-1)
            token = int(log_p.argmax())
            if token in self.network.end_ids:
                return Answer(tuple(ids), tuple(log_ps), True)
            ids.append(token)
            log_ps.append(float(log_p[token]))
        return Answer(tuple(ids), tuple(log_ps), False)

    @torch.no_grad()
    def logits(self, question: str, answer_ids: Sequence[int] = (), crop: np.ndarray | None = None) -> Tensor:
        """(N + 1, V): logits that decide each answer token, and what would follow."""
        done = self._run(question, answer_ids, crop)
        return done.logits_SV[done.last :]

    @torch.no_grad()
    def taught_rows(
        self, question: str, answer_ids: Sequence[int], layers: Sequence[int], crop: np.ndarray | None = None
    ) -> Tensor:
        """(N, L, H, T): prediction rows, token s decided at query position s - 1, the first at the last prompt position."""
        done = self._run(question, answer_ids, crop)
        steps = slice(done.last, done.last + len(answer_ids))
        rows_LHNT = torch.stack([self._placed(done, done.attentions[layer][0, :, steps][..., done.columns]) for layer in layers])
        return rows_LHNT.permute(2, 0, 1, 3)

    def _run(self, question: str, answer: Sequence[int] = (), crop: np.ndarray | None = None) -> Pass:
        return self.network.run([self.picture, *([] if crop is None else [crop])], question, answer)

    @staticmethod
    def _row(done: Pass, layer: int) -> Tensor:
        return done.attentions[layer][0, :, done.last, done.columns]

    def _placed(self, done: Pass, rows: Tensor) -> Tensor:
        return rows @ done.cross[self.connector][0, :, :, 1:].mean(0) if done.cross else rows
