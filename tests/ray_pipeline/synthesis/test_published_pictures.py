"""Pictures behind published figures never change: a changed digest means that every figure has to be measured again.

Scenes are arithmetic alone. Pixels also pass through Pillow's text layout and filters, so a digest can change with it.
"""

import hashlib

import PIL
import pytest
from PIL import features

from ray_pipeline.synthesis.evaluation import cases
from ray_pipeline.synthesis.fonts import evaluation_fonts
from ray_pipeline.synthesis.render import Rendering, render
from ray_pipeline.synthesis.scene import sample_scene

kerned = pytest.mark.skipif(not features.check("raqm"), reason="without libfribidi Pillow lays texts out more simply")


def pixels_digest(rendering: Rendering) -> str:
    return hashlib.sha256(rendering.image.convert("RGB").tobytes()).hexdigest()


def test_scenes_of_300_seeds() -> None:
    digest = hashlib.sha256()
    for seed in range(300):
        digest.update(repr(sample_scene(seed, [f"f{k}" for k in range(6)], confusable=0.4)).encode())
    assert digest.hexdigest() == "51643416a6c6be968ce1bb25f6785f59590a6aaebc60592dcebdfb9a9bc8ef4b"


@kerned
@pytest.mark.parametrize(
    ("split", "bucket", "size", "answer", "digest"),
    [
        ("evaluation", "small", (733, 617), "K-73", "1443cf05cbe5768240d1afb6d98a6e020ed054702b8ca6290b53d9b4bd65d320"),
        ("evaluation", "large", (550, 627), "K-91", "074d02322eedf68698f8986f98528a8e82b616010e11d800ebae76869fbb0ce3"),
        ("demo", "medium", (566, 626), "kel", "1f9220ad67b5ba935966ede75d743ce4e9eac83d938e501b3034e2e95e939dc4"),
    ],
)
def test_first_picture_of_a_bucket(split: str, bucket: str, size: tuple[int, int], answer: str, digest: str) -> None:
    case = next(cases(split, bucket, 1, (0.3, 0.5)))
    assert (case.rendering.image.size, case.question.answer) == (size, answer)
    assert pixels_digest(case.rendering) == digest, f"pixels under Pillow {PIL.__version__}"


@kerned
def test_one_picture_of_every_evaluation_font() -> None:
    drawn = render(sample_scene(43, evaluation_fonts(), confusable=0.4), 0.1)
    assert pixels_digest(drawn) == "3e08ad7853c69cdf2c615d7c6b5ea403610358ba8352a9893b65a418bc207502"
