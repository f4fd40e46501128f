"""Secrets are removed from texts whatever holds them, the rest stays, and no text takes long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_pipeline.scrubbing import LONGEST, carries_a_secret, names_a_secret, scrubbed

TABLE = {
    "Authorization: Bearer abcdefghijkl ok": "Authorization: Bearer [removed] ok",
    "authorization=Basic bWU6d29yZA==": "authorization=Basic [removed]",
    "sent Bearer abc.def-ghi_jkl today": "sent Bearer [removed] today",
    '{"aws_secret_access_key": "wJalr XUt", "n": 1}': '{"aws_secret_access_key": [removed], "n": 1}',
    r"'{\\\"client_secret\\\": \\\"word\\\"}'": r"'{\\\"client_secret\\\": [removed]}'",
    "api_key => word": "api_key => [removed]",
    "password: 'a b' port=1": "password: [removed] port=1",
    "token=abc&x=1": "token=[removed]&x=1",
    "https://me:word@h.example:8443/a/b?sig=1#part": "https://h.example:8443/sha256:c14cddc033f6",
    "'https://h.example/a?b'.": "'https://h.example/sha256:ca978112ca1b'.",
    "(see https://h.example/a): no": "(see https://h.example/sha256:ca978112ca1b): no",
    "s3://me:word@bucket/key": "s3://bucket/sha256:2c70e12b7a06",
    "https:\\/\\/me:word@h\\/x": "https://h/sha256:2d711642b726",
    "postgres://me:a/b@db:1/d": "postgres://db:1/sha256:18ac3e7343f0",
    "https://me:word/a.png": "https://me/sha256:7f071235805f",
    "https://me%40word@h/": "https://h/",
    "http://[::1]:80/x": "http://[::1]:80/sha256:2d711642b726",
    "https://h.example": "https://h.example",
    "me:word@h.example/x": "[removed]@h.example/x",
    "a.png?sig=abc&x=2 end": "a.png?[removed] end",
    "key AKIAIOSFODNN7EXAMPLE.": "key [removed].",
    "is wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": "is [removed]",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- end": "[removed] end",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.abc": "[removed]",
    "hf_abcdefghijklmnopqrst": "[removed]",
    "Set-Cookie: sid=abc; Path=/": "Set-Cookie: [removed]; Path=/",
    "X-Amz-Security-Token: FwoG/x+=": "X-Amz-Security-Token: [removed]",
}
UNCHANGED = [
    "max_new_tokens=40, visual_tokens: 3",
    "tokenizer: fast",
    "12:30:11 me@h.example",
    "ratio 3:4",
    "C:\\Users\\x",
    "a.png: no such file",
    "commit 8b329e2a0e8b329e2a0e8b329e2a0e8b329e2a0e",
    "part-00003.parquet: 64 rows",
    "what? nothing",
    "\x1b[31m\u202e\n",
    "",
    "/a/folder/with/many/parts/and/a/name.safetensors",
    "results/part-00000.parquet is 12 of 64 bytes",
    "x=1, y=[1, 2]",
    "Images/2024/Receipts/Scan/Batch/Page0001.png: no such file",
]


@pytest.mark.parametrize(("text", "shown"), TABLE.items())
def test_removed(text: str, shown: str) -> None:
    assert scrubbed(text) == shown


@pytest.mark.parametrize("text", UNCHANGED)
def test_left_alone(text: str) -> None:
    assert scrubbed(text) == text


def test_paths_are_kept_where_they_may_be_seen() -> None:
    assert scrubbed("https://me:word@h.example/a/b.png?x=1 HTTP 404", paths=True) == "https://h.example/a/b.png HTTP 404"
    assert scrubbed("s3://bucket/a/b.png: no such object", paths=True) == "s3://bucket/a/b.png: no such object"


def test_the_same_path_has_the_same_digest() -> None:
    shown = {scrubbed(f"https://{user}h.example/a/b.png{query}") for user in ("", "me:word@") for query in ("", "?x=1", "#y")}
    assert len(shown) == 1
    assert shown != {scrubbed("https://h.example/a/c.png")}


def test_what_the_environment_calls_a_secret_is_removed_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MY_SECRET", "db_password", "RAY_AUTH_TOKEN", "SERVICE_API_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.setenv(name, "plain-looking")
        assert scrubbed("so it is plain-looking, is it") == "so it is [removed], is it", name
        monkeypatch.delenv(name)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "plain-looking")
    monkeypatch.setenv("SHORT_TOKEN", "plain")
    assert scrubbed("so it is plain-looking, is it") == "so it is plain-looking, is it"


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("password", True),
        ("aws_secret_access_key", True),
        ("Authorization", True),
        ("sig", True),
        ("api-key", True),
        ("tokens", False),
        ("max_new_tokens", False),
        ("part", False),
        ("design", False),
        ("sigma", False),
        ("signature", True),
    ],
)
def test_names(key: str, secret: bool) -> None:
    assert names_a_secret(key) is secret


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("s3://me:word@bucket/m.parquet", True),
        ("https://word@h/m", True),
        ("https://h/m.parquet?sig=1", True),
        ("s3://b/part-?.parquet", False),
        ("s3://b/*.parquet", False),
        ("folder/m.parquet", False),
        ("a?b=c", False),
        ("https://h/m", False),
        ("s3://b/a@b.parquet", False),
    ],
)
def test_addresses(address: str, secret: bool) -> None:
    assert carries_a_secret(address) is secret


@given(
    st.lists(
        st.sampled_from(
            ["a", ":", "/", "@", "?", "=", "token", '"', "\\", " ", "eyJ", "A1b/", "-----BEGIN PRIVATE KEY-----", "é", "\ud800"]
        )
    )
)
def test_any_text_in_any_order(pieces: list[str]) -> None:
    text = scrubbed("".join(pieces) + " https://me:canarycanary@h.example/a")
    assert "canarycanary" not in text


def test_long_texts_are_cut_and_take_no_time() -> None:
    for piece in ("a", "a:", "://", "?a=", "token", "@", "password='", "\\", "eyJ", "A1b/", "-----BEGIN PRIVATE KEY-----"):
        assert len(scrubbed(piece * 1_000_000)) <= 4 * LONGEST
