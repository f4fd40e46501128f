"""The slow reference against things still simpler: finite differences, the library's own generation, published tables.

The finite differences run in float64 through an attention function of their own; the library's norms, which always compute
in float32, are replaced by plain ones for them.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    InstructBlipProcessor,
    LlavaNextProcessor,
    LlavaProcessor,
)
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRMSNorm

from ray_pipeline.models.weights import model_folder
from tests.reference import pictures, prompts
from tests.reference.mc_llava import McLlavaNetwork
from tests.reference.mc_llava_formulas import crop_boxes
from tests.reference.model import ReferenceModel
from tests.reference.probe import Probe
from tests.reference.pure_grad import high_pass, pure_grad_map
from tests.stand_ins.made_pictures import coloured_blocks
from tests.stand_ins.tiny_models import TINY

PROBE = "reference_probe"
QUESTION = "What is the number on the red sign 12?"
PLAIN = ("llava", "llava_even", "llava_next", "qwen2_5_vl", "qwen3_vl", "internvl")
FAMILIES = (*PLAIN, "instructblip", "mc_llava")
PICTURE = coloured_blocks(208, 120).pixels_YX3


def reference(folder: Path, **settings: Any) -> ReferenceModel:
    knobs = dict(max_crops=4, base_px=90, step_px=2) if "mc_llava" in folder.name else {}
    return ReferenceModel.load(folder, PICTURE, **knobs | settings)


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Probe]:
    one = Probe()
    monkeypatch.setitem(AttentionInterface._global_mapping, PROBE, one)
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, PROBE, eager_mask)
    yield one


@pytest.fixture
def plain_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root-mean-square norms in the precision of their input."""

    def forward(self: Any, hidden: Tensor) -> Tensor:
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)
    monkeypatch.setattr(Qwen2_5_VLRMSNorm, "forward", forward)


@pytest.mark.parametrize("name", TINY)
def test_a_folder_passes_the_gate_and_depends_on_its_seed_alone(name: str, tmp_path: Path) -> None:
    one, same, other = (TINY[name](tmp_path / part, seed) for part, seed in (("one", 3), ("same", 3), ("other", 4)))
    assert model_folder(str(one)) == one
    files = {path.name for path in one.iterdir()}
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= files
    weights = sorted(path.name for path in one.glob("*.safetensors"))
    assert [(one / file).read_bytes() for file in weights] == [(same / file).read_bytes() for file in weights]
    assert [(one / file).read_bytes() for file in weights] != [(other / file).read_bytes() for file in weights]


@pytest.mark.parametrize("name", FAMILIES)
def test_digits_are_single_tokens_and_the_end_is_known(name: str, folders: dict[str, Path]) -> None:
    network = reference(folders[name]).network
    ids = network.tokenizer("x 4096", add_special_tokens=False).input_ids
    assert network.tokenizer.convert_ids_to_tokens(ids)[-4:] == list("4096")
    assert network.tokenizer.eos_token_id in network.end_ids


@pytest.mark.parametrize("name", FAMILIES)
def test_attention_is_far_from_uniform_everywhere(name: str, folders: dict[str, Path], probe: Probe) -> None:
    """The largest weight of a row, mean over heads, in multiples of an even share: tower, connector and decoder alike."""
    one = reference(folders[name])
    for part in [one.network.tower, one.network.decoder] if name == "mc_llava" else [one.network.model]:
        part.set_attn_implementation(PROBE)
    one.network.run([one.picture], QUESTION)
    assert len(probe.peaks) >= 4
    named = {f"{type(module).__name__} {k}": round(peak, 1) for k, (module, peak) in enumerate(probe.peaks.items())}
    assert {place: peak for place, peak in named.items() if peak < 2} == {}


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_are_shares_of_one_softmax(name: str, folders: dict[str, Path]) -> None:
    one = reference(folders[name])
    with torch.no_grad():
        done = one.network.run([one.picture], QUESTION)
    for layer, matrix in enumerate(done.attentions):
        assert torch.allclose(matrix.sum(-1), torch.ones(()), atol=1e-5)
        assert float(matrix[0].triu(1).max()) == 0, "a position sees none behind it"
        rows = one.query_rows(QUESTION, layer)
        assert rows.shape == (matrix.shape[1], len(done.columns))
        assert float(rows.min()) >= 0 and 0 < float(rows.sum(1).max()) < 1
    assert done.columns.tolist() == list(range(int(done.columns[0]), int(done.columns[0]) + len(done.columns)))


@pytest.mark.parametrize("name", FAMILIES)
def test_prediction_rows_begin_with_the_prompts_own(name: str, folders: dict[str, Path]) -> None:
    """The first answer token is decided at the last prompt position; the others, and other questions, look elsewhere."""
    one = reference(folders[name])
    layer = len(one.network.run([one.picture], QUESTION).attentions) - 1
    taught = one.taught_rows(QUESTION, (20, 30, 40), [0, layer])
    row = one.rows(QUESTION, layer)
    assert taught.shape == (3, 2, *row.shape)
    assert torch.allclose(taught[0, 1], row, atol=1e-6)
    assert float((taught[1:, 1] - row).abs().max()) > 1e-4
    assert float((one.rows(prompts.GENERIC, layer) - row).abs().max()) > 1e-4


def messages(question: str, count: int) -> list[dict[str, Any]]:
    content = [{"type": "image"}] * count + [{"type": "text", "text": prompts.SHORT.replace("{question}", question)}]
    return [{"role": "user", "content": content}]


def official_inputs(folder: Path, name: str, shown: Sequence[np.ndarray], question: str) -> dict[str, Any]:
    """What the library's processors and the folder's chat template give; those that need a video decoder, by hand."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = AutoImageProcessor.from_pretrained(folder, backend="pil")
    if name.startswith("llava"):
        kind = LlavaNextProcessor if name == "llava_next" else LlavaProcessor
        settings = json.loads((folder / "processor_config.json").read_text())
        settings.pop("processor_class")
        text = "<image>" * len(shown) + f"\nUSER: {question} Answer the question using a single word or phrase.\nASSISTANT:"
        return dict(kind(images, tokenizer, **settings)(images=list(shown), text=text, return_tensors="pt"))
    text = tokenizer.apply_chat_template(messages(question, len(shown)), tokenize=False, add_generation_prompt=True)
    extra = {"crop_to_patches": True} if name == "internvl" else {}
    batch = images(list(shown), return_tensors="pt", **extra)
    if name == "internvl":
        each = json.loads((folder / "processor_config.json").read_text())["image_seq_length"]
        runs = [f"<img>{'<IMG_CONTEXT>' * (each * int(tiles))}</img>" for tiles in batch.pop("num_patches")]
        mark = "<IMG_CONTEXT>"
    else:
        runs = ["<|image_pad|>" * (int(grid.prod()) // 4) for grid in batch["image_grid_thw"]]
        mark = "<|image_pad|>"
    pieces = text.split(mark)
    text = "".join(piece + run for piece, run in zip(pieces, [*runs, ""], strict=True))
    ids = torch.tensor([tokenizer(text).input_ids])
    kinds = {} if name == "internvl" else {"mm_token_type_ids": (ids == tokenizer.convert_tokens_to_ids(mark)).int()}
    return dict(batch) | {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | kinds


@pytest.mark.parametrize("zoomed", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_greedy_answers_equal_the_librarys_generation(name: str, zoomed: bool, folders: dict[str, Path]) -> None:
    """Its processors or templates, its fast attention, its cache: nothing of the reference's but the weights."""
    folder = folders[name]
    one = reference(folder, fit="centre_crop")
    crop = one.picture[30:110, 60:180] if zoomed else None
    inputs = official_inputs(folder, name, [one.picture, crop] if zoomed else [one.picture], QUESTION)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    written = model.generate(**inputs, do_sample=False, max_new_tokens=10)[0, inputs["input_ids"].shape[1] :].tolist()
    answer = one.greedy(QUESTION, 10, crop)
    assert written == [*answer.ids, *written[len(answer.ids) :]] and len(written) == len(answer.ids) + answer.finished
    assert answer.finished == (written[-1] in one.network.end_ids)
    assert len(answer.log_p) == len(answer.ids) and all(log_p < 0 for log_p in answer.log_p)


def test_instructblip_answers_equal_the_librarys_generation(folders: dict[str, Path]) -> None:
    folder = folders["instructblip"]
    one = reference(folder)
    reader = AutoTokenizer.from_pretrained(folder / "qformer_tokenizer")
    images = AutoImageProcessor.from_pretrained(folder, backend="pil")
    processor = InstructBlipProcessor(images, AutoTokenizer.from_pretrained(folder), reader, num_query_tokens=8)
    inputs = processor(images=[one.picture], text=f"Question: {QUESTION} Short answer:", return_tensors="pt")
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    written = model.generate(**inputs, do_sample=False, max_new_tokens=10)[0].tolist()
    assert tuple(written[-10:]) == one.greedy(QUESTION, 10).ids
    logits = model(**inputs).logits[0, -1]
    assert torch.allclose(one.logits(QUESTION)[0], logits, atol=1e-4)


def test_instructblip_shows_both_pictures_queries_before_the_text(folders: dict[str, Path]) -> None:
    """The library takes one picture a prompt, so order and number of the queries are checked instead."""
    one = reference(folders["instructblip"])
    crop = one.picture[30:110, 60:180]
    single, double = (one.network.run(shown, QUESTION) for shown in ([one.picture], [one.picture, crop]))
    assert double.last == single.last + 8
    assert torch.equal(single.columns, double.columns)
    for entry, (alone, both) in enumerate(zip(single.cross, double.cross, strict=True)):
        assert both.shape == (2, *alone.shape[1:]) and torch.allclose(both[0], alone[0], atol=1e-5), entry
    assert float((one.logits(QUESTION)[0] - one.logits(QUESTION, crop=crop)[0]).abs().max()) > 0.01


def log_p(one: ReferenceModel, token: int) -> float:
    with torch.no_grad():
        done = one.network.run([one.picture], QUESTION)
        return float(done.logits_SV[done.last].log_softmax(-1)[token])


def slope(one: ReferenceModel, probe: Probe, module: nn.Module, index: tuple[int, ...], token: int) -> float:
    """d log p / d probability, by central difference."""
    values = []
    for step in (1e-5, -1e-5):
        probe.nudge = (module, index, step)
        values.append(log_p(one, token))
    probe.nudge = None
    return (values[0] - values[1]) / 2e-5


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
@pytest.mark.usefixtures("plain_norms")
def test_grad_att_equals_finite_differences(name: str, folders: dict[str, Path], probe: Probe) -> None:
    layer = 1
    one = reference(folders[name], dtype=torch.float64)
    found = one.grad_att(QUESTION, layer)
    one.network.model.set_attn_implementation(PROBE)
    done = one.network.run([one.picture], QUESTION)
    module = one.network.model.model.language_model.layers[layer].self_attn
    cells = [(head, int(k)) for head in range(len(found.weights_HT)) for k in found.weights_HT[head].topk(2).indices]
    cells += [(head, int((found.weights_HT[head] == 0).nonzero()[0])) for head in range(2)]
    for head, k in cells:
        index = (0, head, done.last, int(done.columns[k]))
        expected = float(done.attentions[layer][index].detach()) * max(0.0, slope(one, probe, module, index, found.token))
        assert float(found.weights_HT[head, k]) == pytest.approx(expected, rel=1e-4, abs=1e-9), (head, k)
    assert torch.equal(found.map_T, found.weights_HT.mean(0))


@pytest.mark.usefixtures("plain_norms")
def test_grad_att_of_two_stages_equals_finite_differences(folders: dict[str, Path], probe: Probe) -> None:
    """Both stages differentiated on their own, heads averaged, then multiplied over the queries: one place of the map."""
    layer, place = 1, 6
    one = reference(folders["instructblip"], dtype=torch.float64)
    found = one.grad_att(QUESTION, layer)
    model = one.network.model
    model.set_attn_implementation(PROBE)
    done = one.network.run([one.picture], QUESTION)
    decoder = model.language_model.model.layers[layer].self_attn
    connector = model.qformer.encoder.layer[4].crossattention.attention  # the third of those with cross-attention

    def weighted(module: nn.Module, matrix: Tensor, indices: list[tuple[int, ...]]) -> np.ndarray:
        return np.array([float(matrix[at].detach()) * max(0.0, slope(one, probe, module, at, found.token)) for at in indices])

    queries = range(8)
    rows = [[(0, head, done.last, query) for query in queries] for head in range(4)]
    looks = [[(0, head, query, 1 + place) for query in queries] for head in range(5)]
    first = np.mean([weighted(decoder, done.attentions[layer], row) for row in rows], axis=0)
    second = np.mean([weighted(connector, done.cross[2], look) for look in looks], axis=0)
    assert float(found.map_T[place]) == pytest.approx(float(first @ second), rel=1e-4)


def flat_index(name: str, y: int, x: int) -> list[tuple[slice | int, ...]]:
    """Where the three channels of the first view's pixel lie in `pixel_values`, every copy of it."""
    if name == "llava":
        return [(0, channel, y, x) for channel in range(3)]
    columns, side = 14, 14  # 208 x 120 px become 196 x 112: 14 columns of patches
    row, column = y // side, x // side
    patch = (row // 2 * (columns // 2) + column // 2) * 4 + row % 2 * 2 + column % 2
    inside = y % side * side + x % side
    return [(patch, slice(channel * 2 * side**2 + inside, (channel + 1) * 2 * side**2, side**2)) for channel in range(3)]


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
@pytest.mark.usefixtures("plain_norms")
def test_pixel_gradient_equals_finite_differences(
    name: str, folders: dict[str, Path], probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = reference(folders[name], dtype=torch.float64)
    found = one.pixel_gradient(QUESTION)
    one.network.model.set_attn_implementation(PROBE)
    show = pictures.PICTURES[one.network.kind]

    def nudged(at: tuple[slice | int, ...], step: float) -> float:
        def shown(folder: Path, given: Sequence[np.ndarray], fit: str) -> pictures.Shown:
            usual = show(folder, given, fit)
            values = usual.tensors["pixel_values"].double()
            values[at] += step
            return pictures.Shown(usual.tensors | {"pixel_values": values}, usual.views, usual.frames)

        monkeypatch.setitem(pictures.PICTURES, one.network.kind, shown)
        return log_p(one, found.token)

    y, x = 50, 37
    step = 1e-4 if name == "llava" else 1e-2  # Qwen's tower turns queries and keys in float32: smaller steps see its rounding
    slopes = [(nudged(at, step) - nudged(at, -step)) / (2 * step) for at in flat_index(name, y, x)]
    assert float(found.norms_KYX[0, y, x]) == pytest.approx(float(np.linalg.norm(slopes)), rel=1e-4 if name == "llava" else 1e-3)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("llava", (1, 84, 84)), ("llava_next", (5, 84, 84)), ("qwen2_5_vl", (1, 112, 196)), ("qwen3_vl", (1, 128, 192)),
     ("internvl", (7, 56, 56)), ("instructblip", (1, 56, 56)), ("mc_llava", (4, 90, 90))],
)  # fmt: skip
def test_pixel_gradients_have_the_views_shape(name: str, shape: tuple[int, ...], folders: dict[str, Path]) -> None:
    one = reference(folders[name])
    assert one.pixel_gradient(QUESTION).norms_KYX.shape == shape
    assert one.pure_grad(QUESTION).shape == shape


@pytest.mark.parametrize(
    ("size", "most", "strict", "count", "boxes"),
    [
        ((640, 480), 0, False, 1, []),
        ((576, 576), 100, False, 1, []),
        ((577, 576), 100, False, 5, [(1, (0, 0, 384, 384)), (4, (192, 192, 577, 576))]),
        ((800, 600), 8, False, 7, [(2, (0, 192, 384, 600)), (6, (384, 192, 800, 600))]),
        ((1024, 768), 8, False, 9, [(8, (591, 197, 1024, 768))]),
        ((4240, 2832), 100, False, 97, [(96, (3377, 2149, 4240, 2832))]),
        ((300, 2000), 2, False, 10, [(9, (0, 1536, 300, 2000))]),
        ((300, 2000), 2, True, 3, [(2, (0, 502, 300, 2000))]),
        ((2000, 400), 3, True, 4, [(3, (804, 0, 2000, 400))]),
        ((1000, 500), 1, False, 3, [(1, (0, 0, 504, 500)), (2, (252, 0, 1000, 500))]),
        ((1000, 500), 1, True, 1, []),
    ],
)
def test_crop_grid_of_the_published_examples(
    size: tuple[int, int], most: int, strict: bool, count: int, boxes: list[tuple[int, tuple[int, ...]]]
) -> None:
    found = crop_boxes(*size, most, strict)
    assert found[0] == (0, 0, *size) and len(found) == count
    assert [found[k] for k, _ in boxes] == [box for _, box in boxes]


def test_mc_llava_takes_the_towers_last_layer_before_its_norm(folders: dict[str, Path]) -> None:
    network = McLlavaNetwork(folders["mc_llava"])
    pixels = torch.randn(2, 3, 90, 90, generator=torch.Generator().manual_seed(0))
    out = network.tower(pixels, output_hidden_states=True)
    assert torch.equal(network._features(pixels), out.hidden_states[-1][:, 1:])
    assert not torch.allclose(out.hidden_states[-1], out.last_hidden_state)


def test_mc_llava_keeps_the_last_features_of_each_view(folders: dict[str, Path]) -> None:
    """K = int(N / M) each and the rest for the last: 17 tokens of 4 views are 4, 4, 4 and 5."""
    folder = folders["mc_llava"]
    for tokens, crops, count in ((35, 0, 35), (17, 4, 17), (12, 4, 12)):
        network = McLlavaNetwork(folder, max_crops=crops, num_tokens=tokens, base_px=90, step_px=2)
        assert len(network.run([PICTURE], QUESTION).columns) == count
    with pytest.raises(ValueError, match="2 tokens for 4 views"):
        McLlavaNetwork(folder, max_crops=4, num_tokens=2, base_px=90, step_px=2).run([PICTURE], QUESTION)


@pytest.mark.parametrize(("fit", "grey_rows"), [("pad", 16), ("centre_crop", 0), ("squash", 0)])
def test_fits_of_a_wide_picture(fit: str, grey_rows: int, folders: dict[str, Path]) -> None:
    """208 x 120 px padded to 208: 44 rows above are 17.8 of 84, less the filter's reach. Mean colour, cut to whole values."""
    one = reference(folders["llava"], fit=fit)
    means, deviations = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    shown = one.pixels_unit(means, deviations)[0] * 255
    grey = (shown - torch.tensor([122.0, 116.0, 104.0])).abs().amax(-1) < 0.01
    assert int(grey.all(1)[:42].sum()) == grey_rows
    whole = torch.from_numpy(one.picture.reshape(-1, 3).mean(0))
    if fit == "squash":
        assert torch.allclose(shown.reshape(-1, 3).mean(0).double(), whole, atol=1.0)


def test_high_pass_and_blocks_by_hand() -> None:
    """The worked example: 0..15 masked by > 7.5 and pooled by means of 2 x 2. A flat picture has nothing above its median."""
    assert float(high_pass(np.full((9, 8, 3), 0.3)).max()) < 1e-12
    step = np.zeros((20, 16, 3))
    step[:, 8:] = 1.0
    near = 1 / (1 + 2 * np.exp(-1 / (2 * 0.8**2))) * np.exp(-1 / (2 * 0.8**2))  # weight of the column across the edge
    assert high_pass(step)[10, 8] < 1e-12, "two edge columns are a minority among seven"
    ramp = np.zeros((20, 16, 3))
    ramp[:, ::2] = 1.0
    assert high_pass(ramp)[10, 8] == pytest.approx(2 * near * np.sqrt(3))
    ratio = np.arange(256.0).reshape(16, 16)
    half = np.random.default_rng(0).random((16, 16, 3)) * np.linspace(0, 1, 16)[:, None, None]
    pooled = pure_grad_map(ratio, half, 2)
    kept = np.where(high_pass(half) > np.median(high_pass(half)), ratio, 0)
    assert pooled[3, 5] == kept[6:8, 10:12].mean() and pooled.shape == (8, 8)
