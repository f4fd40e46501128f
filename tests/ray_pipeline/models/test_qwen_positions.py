"""Rotary positions against the models' own, on whole prompts."""

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel, Qwen3VLConfig, Qwen3VLModel

from ray_pipeline.models.qwen_positions import TokenGrid, prompt_positions

IMAGE = 7
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "vocab_size": 11, "head_dim": 8}  # fmt: skip
VISION = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}


def qwen2_5() -> Qwen2_5_VLModel:
    text = {key: value for key, value in TEXT.items() if key != "head_dim"}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
    return Qwen2_5_VLModel(Qwen2_5_VLConfig(text_config=text, vision_config=VISION, image_token_id=IMAGE))


def qwen3() -> Qwen3VLModel:
    text = TEXT | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}}
    vision = VISION | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    return Qwen3VLModel(Qwen3VLConfig(text_config=text, vision_config=vision, image_token_id=IMAGE))


def test_positions_written_out() -> None:
    positions, following = prompt_positions([2, TokenGrid(2, 3), 1], 5)
    assert positions.tolist() == [
        [5, 6, 7, 7, 7, 7, 7, 7, 10],
        [5, 6, 7, 7, 7, 8, 8, 8, 10],
        [5, 6, 7, 8, 9, 7, 8, 9, 10],
    ]
    assert following == 11


PROMPTS = (
    [4, TokenGrid(3, 5), 6],
    [4, TokenGrid(5, 3), 6],
    [0, TokenGrid(1, 1), 1],
    [4, TokenGrid(3, 5), 2, TokenGrid(4, 2), 6],
    [4, TokenGrid(2, 2), 2, TokenGrid(7, 3), 3],
)


@pytest.fixture(scope="module", params=[qwen2_5, qwen3])
def model(request: pytest.FixtureRequest) -> Qwen2_5_VLModel | Qwen3VLModel:
    return request.param()


@pytest.mark.parametrize("parts", PROMPTS)
def test_positions_of_whole_prompts_are_the_model_s(model: Qwen2_5_VLModel | Qwen3VLModel, parts: list[int | TokenGrid]) -> None:
    kinds, grids = [], []
    for part in parts:
        if isinstance(part, TokenGrid):
            kinds += [1] * (part.rows * part.columns)
            grids.append([1, 2 * part.rows, 2 * part.columns])
        else:
            kinds += [0] * part
    kind = torch.tensor([kinds])
    ids = torch.where(kind == 1, IMAGE, 3)
    expected, delta = model.get_rope_index(ids, mm_token_type_ids=kind, image_grid_thw=torch.tensor(grids))
    positions, following = prompt_positions(parts, 0)
    assert torch.equal(positions, expected[:, 0])
    assert following == len(kinds) + int(delta), "the first generated token's position"


@pytest.mark.parametrize("parts", PROMPTS)
def test_a_prompt_may_be_cut_anywhere_between_its_parts(parts: list[int | TokenGrid]) -> None:
    everything, end = prompt_positions(parts, 3)
    for cut in range(len(parts) + 1):
        first, middle = prompt_positions(parts[:cut], 3)
        second, following = prompt_positions(parts[cut:], middle)
        assert torch.equal(torch.cat([first, second], 1), everything) and following == end


@pytest.mark.parametrize("part", [-1, TokenGrid(0, 3), TokenGrid(2, 0)])
def test_impossible_parts_are_refused(part: int | TokenGrid) -> None:
    with pytest.raises(ValueError, match="expected"):
        prompt_positions([part], 0)
