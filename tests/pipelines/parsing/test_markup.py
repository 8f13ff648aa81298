"""Markup that scraping leaves in texts is removed, at any depth, and nothing else is."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.parsing import cleaning, markup

PIECES = st.sampled_from([
    "<b>", "</b>", "<br /", "<span class=\"a", "\">", "<", ">", "/>", "&lt;", "&amp;", "&", "lt;", "amp;",
    "#38;", "&#x26;", "&copy", "[[", "]]", "[[ASIN:B1 a lamp]]", "[[VIDEOID:x", "[", "]", ":", "ASIN",
    "<!--", "-->", "<script>", "</script>", "{", ";", " ", "\n", "\x00", "\u00a0", "e", "\u0301", "\u037e",
    "b", "span", "class", "=", "\"x\"",
    "'", "<o:p>", "3", "span>",
])  # fmt: skip
PLAIN = (
    "a < b", "I <3 it", "if a<b and c>d", "<b and c>", "<grin> well", "<bob@example.com>", "Rock&reggae at AT&T",
    "R&B, Q&A", "?a=1&copy=2", '5" > 4"', "a --> b", "> quoted", "video > photo", "[[note: this]]", "array[[0]]",
    "[sic]", "List<String>", "mad <i", "x => y", "1 <= 2 >= 0", "</3", "{ smile; }", "<3<3<3",
)  # fmt: skip
UNITS = (
    "[if x]>", "<![endif", "<", "<b ", "<b =", "<b a=", '<b a="', "<b a='x' ", "</script ", "<script>", "<!--", "<!",
    "&amp;", "amp;", "&#0", "&#38;#38;", "[[A:", "[[A:[x]", "[", "<span cla", ' a="b"', "a=", "=", " ", ";",
    '<x y="z" ', "&num;", "{", "[[A:[", "<b>", "span", "<o:", "&lt", "br>", "{a:",
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        ('<span class="a-size-medium a-color', None), ('Lamp <span class="x" data-a=\'b', "Lamp"),
        ("Lamp <div", "Lamp"),
        ("Lamp <span cla", "Lamp"), ("Lamp <br /", "Lamp"), ("Lamp </sp", "Lamp"), ("Lamp <a href=", "Lamp"),
        ('Fine <span class="a" <br />lamp', "Fine lamp"), ('<x-y data-a="b">Lamp', "Lamp"), ("<o:p></o:p>Lamp", "Lamp"),
        ("var a = {};</script>Lamp", "Lamp"), ("<style>a{b:c}</style>Lamp", "Lamp"), ("Lamp <!-- cut", "Lamp"),
        ("Lamp.[if gte mso 9]><xml><w:View>Normal</w:View></xml><![endif]> Good", "Lamp. Good"),
        ("<![if !supportLists]>Lamp<![endif]>", "Lamp"), ("Lamp <!--[if IE]><p>Hm</p>", "Lamp"),
        ("&amp;amp;#34;Kiki&amp;amp;#34;", '"Kiki"'), ("&lt;b&gt;Lamp&lt;/b&gt;", "Lamp"), ("&#150;", "\u2013"),
        ("a [[VIDEOID:1f3c]] b", "a b"), ("[[ASIN:B0001 The Film [DVD]]] is good", "The Film [DVD] is good"),
        ("[[ASIN:B0001]] x", "x"), ("[[VIDEOID:1f3c fine", "fine"), ("&amp;lt;br&amp;gt;", None),
        ("<b" * 90, "<b" * 90),
        ("<" * 90 + "b>" * 90, "b>" * 82),
    ],
)  # fmt: skip
def test_markup_is_removed(value: str, cleaned: str | None) -> None:
    assert cleaning.text(value) == cleaned


@pytest.mark.parametrize(
    "value", ['size-large" id="t">Lamp', 'class="a b">Lamp', "/span> Lamp", "br />Lamp", "span></b>Lamp", "<b>Lamp</b>"]
)
def test_a_title_loses_a_tag_cut_at_its_start(value: str) -> None:
    assert cleaning.title(value) == "Lamp"


@pytest.mark.parametrize(
    "value", ["P.when('A').execute(function(){", "var x = 1;", ".a { color: red; }", "window.x = 1"]
)
def test_a_piece_of_a_script_is_no_title(value: str) -> None:
    assert cleaning.title(value) is None


@pytest.mark.parametrize("value", PLAIN)
def test_plain_text_stays(value: str) -> None:
    assert (cleaning.text(value), cleaning.title(value)) == (value, value)


@given(st.lists(PIECES, max_size=14).map("".join))
@settings(max_examples=400, deadline=None)
def test_a_cleaned_text_is_cleaned_to_itself(value: str) -> None:
    once = cleaning.text(value)
    assert cleaning.text(once) == once
    named = cleaning.title(value)
    assert cleaning.title(named) == named


@given(st.text())
@settings(deadline=None)
def test_texts_without_signs_lose_nothing(value: str) -> None:
    plain = value.translate(str.maketrans("", "", "<>&["))
    assert markup.unmarked(plain) == plain


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("begin", ["", "<b ", "[[A:"])
def test_time_grows_in_proportion_to_the_text(begin: str, unit: str) -> None:
    def seconds(size: int) -> float:
        value = begin + unit * (size // len(unit)) + ">"[: len(unit) % 2]
        best = float("inf")
        for _ in range(2):
            started = time.process_time()
            cleaning.text(value)
            cleaning.title(value)
            best = min(best, time.process_time() - started)
        return best

    small = seconds(2_000)
    assert seconds(16_000) < 24 * small + 0.02  # linear is 8 times, quadratic 64 times
