import pytest

from quartet.remote.steps import parse_share, parse_steps


@pytest.mark.parametrize(
    ("text", "share"), [("5", 0.05), ("5%", 0.05), (" 2.5 % ", 0.025), ("0.5 %", 0.005), (".5%", 0.005), ("100", 1.0)]
)
def test_shares_are_percentages(text: str, share: float):
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("0.05", r"may be a fraction: write '0\.05 %' or 5$"),
        ("0", "not above 0 %"),
        ("101 %", "at most 100 %"),
        ("-5", "is no percentage"),
        ("5,5", "is no percentage"),
        ("nan", "is no percentage"),
        ("1e1", "is no percentage"),
        ("", "is no percentage"),
    ],
)
def test_what_is_no_percentage_is_refused(text: str, about: str):
    with pytest.raises(ValueError, match=about):
        parse_share(text)


def test_steps_as_they_are_written():
    assert parse_steps("5 % for 10 min, 25 % for 30 min, 100 %") == [
        {"share": 0.05, "minutes": 10.0},
        {"share": 0.25, "minutes": 30.0},
        {"share": 1.0},
    ]
    assert parse_steps("5% for 90s,50% FOR 1.5 Hours, 100 for 2 d") == [
        {"share": 0.05, "minutes": pytest.approx(1.5)},
        {"share": 0.5, "minutes": 90.0},
        {"share": 1.0, "minutes": 2880.0},
    ]
    for unit, minutes in (
        ("s", 1 / 60),
        ("secs", 1 / 60),
        ("m", 1),
        ("mins", 1),
        ("minutes", 1),
        ("h", 60),
        ("day", 1440),
    ):
        assert parse_steps(f"5 % for 1 {unit}")[0]["minutes"] == pytest.approx(minutes)


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("", "step 1 is empty"),
        ("5 % for 10 min,, 100 %", "step 2 is empty"),
        ("5 %, 100 %", "step 1, '5 %', has no duration: write '5 % for 10 min'"),
        ("5 % for 10 weeks, 100 %", "step 1: there is no unit 'weeks': use s, min, h or d"),
        ("5 % for 0 min, 100 %", "step 1 lasts no time"),
        ("5 % for ten min, 100 %", "step 1: '5 % for ten min' is no percentage"),
        ("5 % for 10, 100 %", "step 1: '5 % for 10' is no percentage"),
        ("5 % for 10 min, 120 %", "step 2: '120 %' is not above 0 % and at most 100 %"),
        ("0.05 for 10 min, 100 %", "step 1: '0.05' may be a fraction"),
    ],
)
def test_mistakes_name_the_step(text: str, about: str):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        parse_steps(text)
    assert str(raised.value).startswith(about)
