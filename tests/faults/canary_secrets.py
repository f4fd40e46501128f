"""Secrets planted in every place that could hold one, and a search for them in whatever a run leaves behind.

Each secret is a word of its own, so that a find tells which place leaked. As a program it is a run in which every stage
fails on rows with secrets in them: `python -m tests.faults.canary_secrets FOLDER` (the environment from `environment()`).
"""

import base64
import io
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CANARIES = {  # place -> secret
    "query": "Qx7CanaryQuery01deadbeef",
    "user info": "Ux7CanaryUser02deadbeef",
    "fragment": "Fx7CanaryFragment03dead",
    "s3 user info": "Sx7CanaryStore04deadbeef",
    "AWS secret": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYCANARY0005",
    "AWS session": "FwoGZXIvYXdzEJrCanary06//////////wEaDKYp3",
    "AWS key": "ASIACANARY07DEADBEEF",
    "settings in the environment": "Ex7CanaryFovea08deadbeef",
    "config file": "Cx7CanaryConfig09deadbe",
    "Ray token": "rx7canary10deadbeefdeadbeefdeadbeef",
    "reply": "Rx7CanaryReply11deadbeef",
    "exception": "Xx7CanaryException12dead",
    "picture": "Px7CanaryExif13deadbeef",
    "hub token": "hf_CanaryCanaryCanary14deadbeef",
}
COPIED = {"passthrough column": "Vx7CanaryCopied15deadbee"}  # copied into the results by wish, and nowhere else
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": CANARIES["AWS secret"],
    "AWS_SESSION_TOKEN": CANARIES["AWS session"],
    "AWS_ACCESS_KEY_ID": CANARIES["AWS key"],
    "HF_TOKEN": CANARIES["hub token"],
    "RAY_AUTH_TOKEN": CANARIES["Ray token"],
}
QUERY = f"X-Amz-Credential={CANARIES['AWS key']}&X-Amz-Signature={CANARIES['query']}"
ADDRESSES = {  # name -> address that cannot be read, with a secret in it
    "query": f"https://images.example/a.png?{QUERY}",
    "query of a file": f"absent.png?{QUERY}",
    "query of a file address": f"file:///absent.png?{QUERY}",
    "query of an object": f"s3://bucket/a.png?{QUERY}",
    "user": f"https://{CANARIES['user info']}@images.example/a.png",
    "user and word": f"https://me:{CANARIES['user info']}@images.example/a.png",
    "user of an unknown scheme": f"ftp://me:{CANARIES['user info']}@images.example/a.png",
    "word with a slash": f"https://me:a/b{CANARIES['user info']}@images.example/a.png",
    "word without its end": f"https://me:{CANARIES['user info']}/a.png",
    "word of an object": f"s3://me:{CANARIES['s3 user info']}@bucket/a.png",
    "fragment": f"https://images.example/a.png#{CANARIES['fragment']}",
    "backslash": f"https:\\\\me:{CANARIES['user info']}@images.example\\a.png",
    "chained": f"simplecache::https://me:{CANARIES['user info']}@images.example/a.png?{QUERY}",
    "control": f"https://me:{CANARIES['user info']}@images.example/a\n.png?{QUERY}",
    "schemeless": f"//me:{CANARIES['user info']}@images.example/a.png?{QUERY}",
    "capitals": f"HTTPS://ME:{CANARIES['user info']}@IMAGES.EXAMPLE/A.PNG?{QUERY}",
}


def spellings(secret: str) -> set[bytes]:
    """The secret as it may be written: plain, quoted for an address, escaped for JSON, in Base64 at any of three offsets."""
    made = {secret, quote(secret, safe=""), secret.replace("/", "\\/"), secret.lower(), secret.upper()}
    for offset in range(3):
        packed = base64.b64encode(b"x" * offset + secret.encode()).decode()
        made.add(packed[4 if offset else 0 : -4])  # what does not depend on its neighbours
    return {text.encode() for text in made}


NEEDLES = {place: spellings(secret) for place, secret in (CANARIES | COPIED).items()}


def leaks(data: bytes | str) -> list[str]:
    """The places whose secrets stand in the data."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return [place for place, needles in NEEDLES.items() if any(needle in raw for needle in needles)]


def leaking_files(root: Path) -> tuple[list[str], int, int]:
    """`file: place` of every find below the root, files and bytes looked at. Result files are read column by column.

    The columns `image_uri`, which repeats the manifest, and `note`, which is copied by wish, may hold what they were given.
    """
    found, files, size = [], 0, 0
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        files, size = files + 1, size + len(data)
        if path.suffix == ".parquet":
            table = pq.read_table(io.BytesIO(data)).drop_columns(["image_uri", "note"])
            data = repr(table.to_pylist()).encode("utf-8", "surrogatepass")
        found += [f"{path.relative_to(root)}: {place}" for place in leaks(data)]
    return found, files, size


def failures() -> Iterator[BaseException]:
    """Exceptions as libraries raise them, with secrets in their texts, notes, causes and contexts."""
    texts = [
        f"403 Client Error for url: {ADDRESSES['query']}",
        f"Authorization: Bearer {CANARIES['exception']}",
        f"Authorization: Basic {base64.b64encode(('me:' + CANARIES['exception']).encode()).decode()}",
        f'{{"aws_secret_access_key": "{CANARIES["exception"]}", "x": 1}}',
        f"connect(host='h', password='{CANARIES['exception']}', port=1)",
        f"postgres://me:{CANARIES['exception']}@db.example/x refused",
        f"Set-Cookie: session_id={CANARIES['reply']}; Path=/",
        f"X-Amz-Security-Token={CANARIES['AWS session']}",
        f"The AWS Access Key Id {CANARIES['AWS key']} does not exist; {CANARIES['AWS secret']}",
        f"GET /a.png?{QUERY} HTTP/1.1",
        f"{CANARIES['hub token']} is not valid",
        f"['me:{CANARIES['exception']}@images.example']",
        f"api_key => {CANARIES['exception']}",
        f'{{\\"client_secret\\": \\"{CANARIES["exception"]}\\"}}',
    ]
    for outer, inner in itertools.pairwise([*texts, texts[0]]):
        try:
            try:
                raise OSError(5, inner, inner)
            except OSError as error:
                error.add_note(inner)
                raise RuntimeError(outer) from error
        except RuntimeError as error:
            yield error
        try:
            try:
                raise ValueError(inner)
            except ValueError:
                raise KeyError(outer)  # noqa: B904  # the context is what is looked at
        except KeyError as error:
            yield error


def picture(good: bool = True) -> bytes:
    """A JPEG that tells secrets in its Exif text and comment."""
    tags = Image.Exif()
    tags[0x010E] = tags[0x013B] = CANARIES["picture"]
    packed = io.BytesIO()
    pixels = np.full((90, 120, 3), 70, np.uint8)
    pixels[20:40, 30:60] = (255, 0, 255)
    Image.fromarray(pixels).save(packed, "JPEG", exif=tags, comment=CANARIES["picture"].encode())
    return packed.getvalue() if good else packed.getvalue()[:600]


def load_leaky(model: Any, views: Any, prompt: Any) -> Any:
    """A model whose failures tell secrets: one per question, by number. Takes the place of `load_family`."""
    from ray_pipeline.models.contract import Generate, Generation
    from tests.stand_ins.planted_model import PlantedModel

    class Leaky(PlantedModel):
        def generate(self, requests: Sequence[Generate]) -> list[Generation]:
            for request in requests:
                if request.question.startswith("fail "):
                    raise next(itertools.islice(failures(), int(request.question[5:]), None))
            return super().generate(requests)

    return Leaky()


def write_manifest(folder: Path) -> Path:
    """Rows for every stage to fail on, each with the secret that is copied by wish."""
    (folder / "good.jpg").write_bytes(picture())
    (folder / "bad.jpg").write_bytes(picture(good=False))
    rows = [(f"address {name}", uri, "What?") for name, uri in ADDRESSES.items()]
    rows += [(f"picture {name}", f"{name}.jpg", "What?") for name in ("good", "bad")]
    rows += [(f"model {k}", "good.jpg", f"fail {k}") for k in range(len(list(failures())))]
    columns = {name: [row[place] for row in rows] for place, name in enumerate(("id", "image_uri", "question"))}
    path = folder / "manifest.parquet"
    pq.write_table(pa.table(columns | {"note": [COPIED["passthrough column"]] * len(rows)}), path)
    return path


def environment() -> dict[str, str]:
    """This process's environment with the secrets that a run finds there."""
    return dict(os.environ) | ENVIRONMENT


def run(folder: Path) -> int:
    """The whole run and its report, in a Ray of its own; the exit code."""
    from jobs import report
    from jobs.run import execute, prepare
    from ray_pipeline import worker
    from schemas.job import JobSettings

    worker.WorkOrder.__init__.__defaults__ = (False, load_leaky)
    settings = JobSettings.model_validate(
        {
            "manifest": str(write_manifest(folder)), "output": str(folder / "out"), "passthrough": ["note"],
            "fetch": {"schemes": ["file", "s3", "https"], "hosts": ["images.example"], "attempts": 1, "timeout_s": 5},
            "run": {"part_rows": 30, "batch": 2},
        }
    )  # fmt: skip
    code = execute(prepare(settings, ("question",)))
    return code or report.main(["--output", str(folder / "out"), "--html", str(folder / "out" / "report.html")])


if __name__ == "__main__":
    from tests.faults import canary_secrets  # the model process imports the loader by this name

    sys.exit(canary_secrets.run(Path(sys.argv[1])))
