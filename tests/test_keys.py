"""Object keys: two texts never share one, and every file system and bucket takes them."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from runstore.errors import PathError
from runstore.records import keys
from tests.exploration import scaled
from tests.places import NONCE

PREFIX = f"runs/r/{NONCE}/"

RESERVED = {"con", "prn", "aux", "nul"} | {f"{p}{i}" for p in ("com", "lpt") for i in range(10)}

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    # All that has a meaning in keys, so that a slip in the escapes would show.
    st.text(st.sampled_from('aAgvu0_/."[]:@#,{} %+-é\x00'), max_size=8),
    st.text(st.sampled_from("conaux1/_."), max_size=6),
    # Around the border of the long form, and far beyond.
    st.builds(
        lambda start, unit, n, end: start + unit * n + end,
        st.sampled_from(["", "con", "a/", "mp["]),
        st.sampled_from(["a", "_", "/", ".", "A", "é", "/a", "\U0001f602"]),
        st.integers(10, 110) | st.just(10_000),
        st.text(st.sampled_from("ab/_."), max_size=3),
    ),
)


def twins(text: str) -> set[str]:
    """Texts that file systems, or careless encoders, take for the same."""
    return {
        text,
        text.upper(),
        text.lower(),
        text.casefold(),
        *(unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")),
        text.strip("./ "),
        text + "/",
        text + ".",
        text + "_",
        "/" + text,
        text.replace("/", "."),
        text.replace("_", "__"),
        text[:-1],
        keys.encode(text),
        text.replace("/", "_g"),
    }


@settings(max_examples=scaled(15))
@given(TEXTS)
@example("")
@example("CON")
@example("..")
@example("con" + "_" * 60)
@example("_" * 60)
@example("con/" + "/" * 60)
def test_a_key_is_taken_everywhere_and_is_nobody_elses(text: str) -> None:
    key = keys.encode(text)
    assert re.fullmatch(r"[a-z0-9._-]{1,100}", key)
    assert key == key.casefold()
    assert not key.startswith(".")
    assert not key.endswith(".")
    assert key.split(".")[0] not in RESERVED
    read = keys.decode(key)
    assert read == text if ".." not in key else read is None
    others = twins(text)
    assert len({keys.encode(other) for other in others}) == len(others)


@settings(max_examples=scaled(10))
@given(TEXTS, TEXTS)
def test_two_texts_never_share_a_key(one: str, other: str) -> None:
    assert (one == other) == (keys.encode(one) == keys.encode(other))


def test_long_items_that_differ_at_the_end_only() -> None:
    texts = [f'mp["{"x" * 10_000}{i}"]/score' for i in range(100)]
    assert len({keys.encode(text) for text in texts}) == 100


@settings(max_examples=scaled(10))
@given(TEXTS, TEXTS)
@example("con", "_" * 100)
@example("con/", "x")
@example("con/", "")
@example("co", "n")
@example("a/", "/")
@example("a", "_" * 200)
@example("a/" + "_" * 40, "." * 40)
@example("_" * 20, "_" * 80)
def test_a_prefix_finds_all_below(text: str, more: str) -> None:
    prefix = keys.prefix(text)
    assert len(prefix) <= 50
    assert keys.encode(text + more).startswith(prefix)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("", ""),
        ("mp[", "mp_i"),
        ('mp["eu"]/', "mp_i_qeu_q_j"),
        ("c:heads/h", "c_nheads.h"),
        ("con/x", "_63on.x"),
        ("con", ""),
        ("co", ""),
        ("co/", "co"),
        ("cone", "cone"),
        ("x" * 200, "x" * 50),
    ],
)
def test_prefixes_are_as_long_as_they_can_be(text: str, prefix: str) -> None:
    assert keys.prefix(text) == prefix


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "_v"),
        ("chunks", "chunks"),
        ('scan["eu"]/score', "scan_i_qeu_q_j.score"),
        ("c:heads/h-1", "c_nheads.h-1"),
        ("refine@0/step", "refine_t0.step"),
        ('m["a"#2]', "m_i_qa_q_h2_j"),
        ('m[{"a":[1,2]}]', "m_i_l_qa_q_n_i1_k2_j_r_j"),
        ('m["http://x"]', "m_i_qhttp_n._gx_q_j"),
        ("a b+c%d_e", "a_sb_mc_pd__e"),
        ("Ab", "_uab"),
        ("é", "_c3_a9"),
        ("e\u0301", "e_cc_81"),
        ("a!\n\\", "a_21_0a_5c"),
        (".", "_o"),
        ("..", "_o_o"),
        ("/", "_g"),
        ("/a//b/", "_ga._gb_g"),
        ("CON", "_uc_uo_un"),
        ("con", "_63on"),
        ("con/x", "_63on.x"),
        ("lpt9/con", "_6cpt9.con"),
        ("cons/x", "cons.x"),
        ("a" * 100, "a" * 100),
        ("a" * 101, "a" * 58 + "..9d0793397991b57a99a07c6e6b4a92bab68dbf60"),
        ("con" + "_" * 60, "_63on..88c11cd332d97726e4ce749ce7086f8c09f96811"),
        ("_" * 60, "_v..394aeea9b56c5ec1e434568d3b0f31ff72e06c78"),
    ],
)
def test_frozen_key_forms(text: str, key: str) -> None:
    """A change here makes every store unreadable."""
    assert keys.encode(text) == key


@settings(max_examples=scaled(5))
@given(
    st.text(st.sampled_from("abcgouv019._-"), max_size=8)
    | st.text(max_size=4)
    | st.sampled_from(["a..b", "..", "a.." + "0" * 40, "a.", ".a", "A", "con", "_zz", "_ff", "é"])
)
def test_decode_takes_only_what_encode_gives(key: str) -> None:
    try:
        text = keys.decode(key)
    except PathError:
        return
    if text is None:
        assert re.fullmatch(r".{1,58}\.\.[0-9a-f]{40}", key)
    else:
        assert keys.encode(text) == key


@pytest.mark.parametrize(
    "key",
    ["", "a.", ".a", "A", "con", "_zz", "_61", "_ff", "a..b", "_", "a_g.b", "é", "a/b", "_n_"],
)
def test_no_key_forms(key: str) -> None:
    with pytest.raises(PathError):
        keys.decode(key)


def test_lone_surrogates_have_no_key() -> None:
    for function in (keys.encode, keys.prefix):
        with pytest.raises(PathError):
            function("a\ud800")


def test_the_layout() -> None:
    sha = "0123456789abcdef" * 4
    assert keys.MARKER == "runstore.json"
    assert keys.run_folder("Nightly/7") == "runs/_unightly.7/"
    prefix = keys.run_prefix("r1", NONCE)
    assert prefix == f"runs/r1/{NONCE}/"
    assert keys.run_key("r1") == "runs/r1/run.json"
    assert keys.invocation_key(prefix, "01-a") == f"{prefix}invocations/01-a.json"
    assert keys.attempt_key(prefix, 'mp["eu"]/x', 3, "start") == (
        f"{prefix}attempts/mp_i_qeu_q_j.x.000003.start.json"
    )
    assert keys.attempt_key(prefix, "a", 999_999, "end") == f"{prefix}attempts/a.999999.end.json"
    assert keys.blob_key(prefix, sha) == f"{prefix}blobs/sha256/01/{sha}"
    assert keys.pack_key(prefix, sha) == f"{prefix}packs/{sha}.json"


@given(TEXTS, st.integers(1, keys.MAX_ATTEMPT), st.sampled_from(["start", "end"]))
def test_attempt_names_are_read_back(text: str, number: int, which: str) -> None:
    assume(text)
    key = keys.attempt_key(PREFIX, text, number, which)  # type: ignore[arg-type]
    name = key.removeprefix(PREFIX + keys.ATTEMPTS)
    assert "/" not in name
    assert name.split(".")[0] not in RESERVED
    assert keys.parse_attempt(name) == (keys.encode(text), number, which)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a.000001.start.json.tmp",
        "a.000000.start.json",
        "a.00001.start.json",
        "a.000001.begin.json",
        "a.０00001.start.json",
        "A.000001.end.json",
        ".000001.end.json",
        "a.000001.end.json\n",
        "x/a.000001.end.json",
    ],
)
def test_other_names_are_no_attempts(name: str) -> None:
    assert keys.parse_attempt(name) is None


@pytest.mark.parametrize("number", [0, -1, 1_000_000])
def test_attempt_numbers_have_an_end(number: int) -> None:
    with pytest.raises(PathError, match="999999"):
        keys.attempt_key(PREFIX, "a", number, "start")


@pytest.mark.parametrize("wrong", ["", "A", "a/b", "a.b", "..", "x" * 65, "a\n"])
def test_ids_and_digests_are_checked(wrong: str) -> None:
    with pytest.raises(PathError):
        keys.invocation_key(PREFIX, wrong)
    for function in (keys.blob_key, keys.pack_key):
        with pytest.raises(PathError):
            function(PREFIX, wrong)
    with pytest.raises(PathError):
        keys.run_prefix("r", wrong)
    with pytest.raises(PathError):
        keys.run_key("a\x00" + wrong)
