"""The whole of calibration on one page: the layer to look at, heads and regressor, the strategy, what confidences are worth.

Each stage stands on those before it and is left out, with its reason, where the rows are too few. Everything is learned from
some pictures and measured on others.
"""

import datetime
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import transformers

from ray_pipeline.calibration import printed
from ray_pipeline.calibration.drawing import Query, draw, layers_drawn
from ray_pipeline.calibration.focus_layer import Concentration, best_layer, read_layers
from ray_pipeline.calibration.heads import (
    LEAST_HELD_OUT,
    LEAST_QUERIES,
    Learned,
    found_heads,
    layer_weights,
    learned_from,
    no_heads,
    trained,
)
from ray_pipeline.calibration.isotonic import TooFew, calibrated
from ray_pipeline.calibration.labelled_rows import LabelledRow, Part, Shown, batches, sample
from ray_pipeline.calibration.strategies import Knowledge, Measured, answered, best, grid, laid_over, measure, plan_of, worth
from ray_pipeline.methods.head_discovery import Origin
from ray_pipeline.models.contract import Abilities, Family
from ray_pipeline.models.profiles import SELECTS_BY_PROFILE
from ray_pipeline.scoring.result_row import checked_boxes
from ray_pipeline.scoring.scored_row import ScoredRow, Sureness
from schemas.job import JobSettings
from schemas.picture import Picture
from schemas.profile import ConfidenceMap, FittedUnder, FocusLayer, HeadProfile, Profile, RegressorFile, Strategy, Sure
from schemas.status import RowFailure

MOST_LEARNED, MOST_HELD_OUT = 2000, 500  # questions that candidates are drawn for
LEAST_JUDGED = 10  # rows to compare strategies on
CONFIDENCES: tuple[Sure, ...] = ("answer", "box", "baseline")


@dataclass(frozen=True)
class Brief:
    """What is to be calibrated. `given` are the settings that somebody has set and that stay as they are.

    `model` and `manifest_sha256` are the digests of weights and rows. At most `most` rows serve for layer and strategies.
    """

    settings: JobSettings
    given: frozenset[str]
    able: Abilities
    model: str
    manifest_sha256: str
    cost_per_row_s: float | None
    most: int


@dataclass
class Course:
    """One calibration under way; `say` gets every table as it is there."""

    brief: Brief
    family: Family
    rows: Sequence[LabelledRow]
    shown: Shown
    say: Callable[[str], None]
    focus: FocusLayer | None = None
    heads: HeadProfile | None = None
    regressor: tuple[bytes, RegressorFile] | None = None
    strategy: Strategy | None = None
    confidences: dict[Sure, ConfidenceMap] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings, self.knowledge = self.brief.settings, Knowledge()
        self.unseen: dict[str, str] = {}

    def run(self) -> Profile | None:
        """The profile, or None where nothing could be learned."""
        self._stage("focus", self._find_layer)
        self._settle_layer()
        self._stage("heads", self._find_heads)
        self._stage("strategy", self._find_strategy)
        self._find_confidences()
        for name, reason in self.left_out.items():
            self.say(f"left out: {name}: {reason}")
        if self.unseen:
            self.say(f"{len(self.unseen)} rows without an answer or a picture, the first: {next(iter(self.unseen.values()))}")
        if not (self.focus or self.heads or self.regressor or self.strategy or self.confidences):
            return None
        return Profile(
            model=self.brief.model, manifest_sha256=self.brief.manifest_sha256, date=datetime.date.today().isoformat(),
            focus=self.focus, heads=self.heads, regressor=self.regressor[1] if self.regressor else None, strategy=self.strategy,
            under=_under(self.settings), confidences=self.confidences, left_out=self.left_out,
        )  # fmt: skip

    def _stage(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except ValueError as error:  # too few rows, or rows that tell nothing apart
            self.left_out[name] = str(error)

    def _find_layer(self) -> None:
        if "refine.layer" in self.brief.given:
            raise TooFew(f"refine.layer {self.settings.refine.layer} was given")
        if "rel_att" not in self.brief.able.focus:
            raise TooFew("this family's attention cannot be read over a picture, expected rel_att among its methods")
        plan = plan_of(laid_over(self.settings, {"refine.method": "none"}), self.family, self.knowledge)
        read: list[tuple[Concentration, ...]] = []
        for group in self._pictures(sample(self._parts("learn", "choose", boxes=True), self.brief.most)):
            read += read_layers(self.family, [_query(one, picture) for one, picture in group], plan, self.brief.able.layers)
        self.focus, table = best_layer(read)
        self.say(printed.layers_text(self.focus, table))

    def _settle_layer(self) -> None:
        """From here on the layer found is the one to look at; without any there is nothing to zoom by."""
        if self.focus is not None:
            self.settings = laid_over(self.settings, {"refine.layer": self.focus.layer})
        elif not self._layer_known() and self.settings.refine.method in self.brief.able.focus - {"pure_grad"}:
            self.settings = laid_over(self.settings, {"refine.method": "none"})

    def _layer_known(self) -> bool:
        return self.settings.refine.layer is not None or self.brief.able.profiled_layer is not None

    def _find_heads(self) -> None:
        if not self.brief.able.boxes:
            raise TooFew("this model writes no boxes to choose among")
        layers = layers_drawn(self.brief.able.layers)
        learning = self._drawn(sample(self._parts("learn", boxes=True), MOST_LEARNED), layers, LEAST_QUERIES)
        held_out = self._drawn(sample(self._parts("held", boxes=True), MOST_HELD_OUT), layers, LEAST_HELD_OUT)
        regressor, reached = trained(learning, held_out, layers, self.settings.run.seed)
        data = regressor.to_bytes()
        self.regressor = data, RegressorFile(
            sha256=hashlib.sha256(data).hexdigest(), queries=len(learning), held_out=len(held_out), pearson=reached.pearson,
            within_query=reached.within_query,
        )  # fmt: skip
        self.say(
            f"Attention-IoU regressor of {len(learning)} questions, on {len(held_out)} held-back ones: Pearson r "
            f"{reached.pearson:.3f}, Spearman within a question {reached.within_query:.3f}"
        )
        about = self._origin(len(learning))
        self.heads = no_heads(about, layers)  # the regressor alone can choose, too
        self.knowledge = Knowledge(self.heads, regressor)
        choosing = self._drawn(sample(self._parts("choose", boxes=True), self.brief.most), layers, 1)
        self.heads = found_heads(learning, choosing, layers, layer_weights(regressor, learning), about)
        self.knowledge = Knowledge(self.heads, regressor)
        self.say(printed.heads_text(self.heads))

    def _origin(self, queries: int) -> Origin:
        prompt = str(plan_of(self.settings, self.family, Knowledge()).prompt.question or "{question}")
        return Origin(
            model=self.brief.model, transformers=transformers.__version__, dtype=self.settings.model.dtype,
            prompt_sha256=hashlib.sha256(prompt.encode()).hexdigest(),
            calibrated_on=f"{queries} questions of the manifest {self.brief.manifest_sha256[:12]}",
            date=datetime.date.today().isoformat(),
        )  # fmt: skip

    def _drawn(self, rows: Sequence[LabelledRow], layers: tuple[int, ...], least: int) -> list[Learned]:
        """Candidates as a run without zoom draws them: a crop at a thing's edge would cut its box."""
        if len(rows) < least:
            raise TooFew(f"{len(rows)} questions with a box and a picture, expected at least {least}")
        plan = plan_of(laid_over(self.settings, {"refine.method": "none", "select.method": "medoid"}), self.family, Knowledge())
        found = []
        for group in self._pictures(rows):
            queries = [_query(one, picture) for one, picture in group]
            for one, drawn in zip(group, draw(self.family, queries, plan, layers, len(group)), strict=True):
                if drawn.failure is not None:
                    self.unseen[one[0].row.id] = drawn.failure.message
                if kept := learned_from(drawn):
                    found.append(kept)
        return found

    def _find_strategy(self) -> None:
        rows = sample([one for one in self._parts("choose") if _judged(one)], self.brief.most)
        if len(rows) < LEAST_JUDGED:
            raise TooFew(f"{len(rows)} rows to compare strategies on, expected at least {LEAST_JUDGED}")
        boxes = any(one.boxes_px and not _texts(one) for one in rows) or self.settings.prompt.template == "locate"
        keys = grid(self.settings, self.brief.given, self.brief.able, self._layer_known(), boxes, self.knowledge)
        measured = [
            (Measured(one), plan_of(laid_over(self.settings, one), self.family, self.knowledge)) for one in keys
        ]  # fmt: skip
        for number, group in enumerate(self._pictures(rows)):
            if not number:
                answered(self.family, measured[0][1], group)  # what is done once, the first to be timed shall not pay
            measure(self.family, measured, group)
        found, seed = [one for one, _ in measured], self.settings.run.seed
        try:
            self.strategy = best(found, self.brief.cost_per_row_s, seed)
        finally:
            self.say(printed.strategies_text(found, self.strategy, seed))
        self.settings = laid_over(self.settings, self.strategy.settings)

    def _find_confidences(self) -> None:
        """Rows that a regressor was trained on are surer than others: maps of its choices are fitted without them."""
        trained_on = self.settings.select.method in SELECTS_BY_PROFILE and self.knowledge.regressor is not None
        fit = self._answers(self._parts("choose") if trained_on else self._parts("learn", "choose"))
        held_out = self._answers(self._parts("held"))
        worths = [value for row in held_out if (value := worth(row)) is not None]
        if worths:
            self.say(f"right on {len(worths)} held-back rows: {100 * sum(worths) / len(worths):.1f} %")
        for name in CONFIDENCES:
            try:
                found = calibrated(_sureness(fit, name), _sureness(held_out, name))
            except TooFew as few:
                self.left_out[f"confidence of {name}"] = str(few)
                continue
            self.confidences[name] = found.map
            self.say(printed.confidence_text(name, found))

    def _answers(self, rows: Sequence[LabelledRow]) -> list[ScoredRow]:
        plan = plan_of(self.settings, self.family, self.knowledge)
        return [row for group in self._pictures(rows) for row in answered(self.family, plan, group)]

    def _parts(self, *parts: Part, boxes: bool = False) -> list[LabelledRow]:
        return [one for one in self.rows if one.part in parts and (one.boxes_px or not boxes)]

    def _pictures(self, rows: Sequence[LabelledRow]) -> Iterator[list[tuple[LabelledRow, Picture]]]:
        """Rows with their pictures, as many side by side as in a run; those without one are left out and counted."""
        for group in batches(rows, self.settings.run.batch):
            there = []
            for one in group:
                got = self.shown(one.row)
                why = got.message if isinstance(got, RowFailure) else _misplaced(one, got)
                if why is not None:
                    self.unseen[one.row.id] = f"{one.row.id}: {why}"
                elif not isinstance(got, RowFailure):
                    there.append((one, got))
            if there:
                yield there


def _misplaced(one: LabelledRow, picture: Picture) -> str | None:
    """Why its boxes cannot be those of its picture, or None."""
    try:
        checked_boxes({"id": one.row.id, "image_width": picture.width, "image_height": picture.height}, one.truth.boxes)
    except ValueError as error:
        return str(error)
    return None


def _query(one: LabelledRow, picture: Picture) -> Query:
    return Query(picture, one.row.question or "", one.boxes_px)


def _texts(one: LabelledRow) -> bool:
    return any(reference.strip() for reference in one.truth.references)


def _judged(one: LabelledRow) -> bool:
    return _texts(one) or bool(one.boxes_px)


def _sureness(rows: Sequence[ScoredRow], name: Sure) -> list[Sureness]:
    return [one for row in rows for one in row.sureness if one.of == name]


def _under(settings: JobSettings) -> FittedUnder:
    select = settings.select.model_copy(update={"profile": None})
    return FittedUnder(
        views=settings.views, refine=settings.refine, select=select, fusion=settings.fusion, prompt=settings.prompt
    )  # fmt: skip
